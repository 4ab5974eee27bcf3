#include "cpu/conv2d_packed.h"

#include <cstring>

#include "common/box.h"
#include "common/tensor_view.h"
#include "cpu/conv2d.h"
#include "cpu/conv2d_tasks.h"
#include "cpu/conv2d_winograd.h"
#include "cpu/isa.h"

namespace convkit {
namespace {

using Ints = std::vector<int64_t>;

// What a packed weight was made for; its blocks follow. 64 bytes: the blocks stay aligned.
struct Header {
  int64_t algorithm, tile_cols, oc, group_ic, kh, kw, groups, bytes;
  bool operator==(const Header&) const = default;
};
constexpr int64_t kHeaderBytes = sizeof(Header);

template <typename Packing>
Header header_of(Conv2dAlgorithm algorithm, const Packing& packing, int64_t tile_cols) {
  const Conv2dShape& s = packing.shape;
  const int64_t bytes = packing.weight_blocks() * packing.block_floats() * 4;
  return {static_cast<int64_t>(algorithm), tile_cols, s.oc, s.group_ic(), s.kh, s.kw, s.groups, bytes};
}

// use(packing, columns of a tile, kernel) of an algorithm that packs.
template <typename Use>
void with_packing(Conv2dAlgorithm algorithm, const Conv2dShape& s, const View4d<const float>& weight, Use use) {
  if (algorithm == Conv2dAlgorithm::kWinograd)
    use(conv2d_winograd_packing(s, weight), kernels().conv2d_winograd.tile_cols,
        kernels().conv2d_winograd.variant({4, s.kh}).of.float32.pack_weight);
  else if (algorithm == Conv2dAlgorithm::kDirect)
    use(conv2d_direct_packing(s, weight, s.group_oc() * weight.n), kernels().conv2d_direct.tile_cols,
        kernels().conv2d_direct.of.float32.pack_weight);
}

Conv2dAlgorithm select(const Conv2dShape& s, const std::string& algorithm) {
  return conv2d_select("prepack", {Conv2dDirection::kForward, s, ScalarType::Float}, algorithm);
}

Tensor conv2d_packed(const Tensor& input, const Tensor& weight, const std::optional<Tensor>& bias,
                     const Tensor& packed_weight, const Ints& stride, const Ints& padding, const Ints& dilation,
                     int64_t groups, const std::string& activation, const Ints& max_pool,
                     const std::string& algorithm) {
  constexpr const char* kOp = "conv2d_packed";
  Conv2dCall call =
      prepare_conv2d(kOp, input, weight, bias, {stride, padding, dilation, groups}, activation, algorithm);
  CONVKIT_CHECK(input.scalar_type() == ScalarType::Float, kOp, ": packed weights are float32, but input has dtype ",
                dtype_name(input.scalar_type()));
  CONVKIT_CHECK(max_pool.empty() || max_pool.size() == 6, kOp, ": max_pool must have 0 or 6 values, but got ",
                max_pool.size());
  const auto* bytes = static_cast<const uint8_t*>(packed_weight.const_data_ptr());
  const int64_t size = packed_weight.numel();
  bool fits = false;
  with_packing(call.algorithm, call.shape, {}, [&](const auto& packing, int64_t tile_cols, auto) {
    const Header wanted = header_of(call.algorithm, packing, tile_cols);
    fits = packed_weight.scalar_type() == ScalarType::Byte && is_dense(packed_weight) &&
           size == kHeaderBytes + wanted.bytes && std::memcmp(bytes, &wanted, kHeaderBytes) == 0;
  });
  CONVKIT_CHECK(fits, kOp, ": packed_weight of size ", format_sizes(packed_weight.sizes()),
                " was not made for this weight, algorithm and ISA");
  call.packed_weight = reinterpret_cast<const float*>(bytes + kHeaderBytes);
  if (max_pool.empty()) return run_conv2d(call, input, weight, bias);
  const auto at = max_pool.begin();
  return std::get<0>(
      run_conv2d_max_pool2d(call, input, weight, bias, {at, at + 2}, {at + 2, at + 4}, {at + 4, at + 6}, false));
}

}  // namespace

int64_t packed_weight_bytes(const Conv2dShape& s, const std::string& algorithm) {
  const Conv2dAlgorithm chosen = select(s, algorithm);
  int64_t bytes = 0;
  with_packing(chosen, s, {}, [&](const auto& packing, int64_t tile_cols, auto) {
    bytes = kHeaderBytes + header_of(chosen, packing, tile_cols).bytes;
  });
  return bytes;
}

void pack_weight(const Conv2dShape& s, const std::string& algorithm, const View4d<const float>& weight,
                 uint8_t* packed) {
  const Conv2dAlgorithm chosen = select(s, algorithm);
  with_packing(chosen, s, weight, [&](const auto& packing, int64_t tile_cols, auto kernel) {
    const Header header = header_of(chosen, packing, tile_cols);
    std::memcpy(packed, &header, kHeaderBytes);
    pack_blocks(packing, kernel, reinterpret_cast<float*>(packed + kHeaderBytes));
  });
}

}  // namespace convkit

STABLE_TORCH_LIBRARY_IMPL(convkit, CPU, m) { m.impl("conv2d_packed", CONVKIT_BOX_STRINGS(&convkit::conv2d_packed)); }
