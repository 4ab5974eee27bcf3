#include "cuda/conv2d_gemm_run.h"

#include "common/tensor_view.h"
#include "cuda/channels_last.h"
#include "cuda/conv2d_gemm_launch.h"
#include "cuda/conv2d_gemm_plan.h"
#include "cuda/device.h"
#include "cuda/stream.h"

namespace convkit::cuda {
namespace {

// Memory for one call, from torch's allocator on the current stream.
class Scratch {
 public:
  // Places must be asked for, all of them, before the memory.
  int64_t place(int64_t bytes) {
    const int64_t at = bytes_;
    bytes_ += round_up(bytes, 256);
    return at;
  }
  void allocate(const Tensor& like) {
    tensor_ = empty({&bytes_, 1}, false, ScalarType::Byte, like);
    data_ = data<uint8_t>(tensor_);
  }
  template <typename T>
  T* at(int64_t place) const {
    return reinterpret_cast<T*>(data_ + place);
  }

 private:
  int64_t bytes_ = 0;
  Tensor tensor_;
  uint8_t* data_ = nullptr;
};

// Long enough to hide the reads and writes of the total, short enough for float32's accuracy.
int32_t chunk_of(GemmUnit unit) {
  switch (unit) {
    case GemmUnit::kFfma:
      return 256;
    case GemmUnit::k3xTf32:
      return 512;
    case GemmUnit::kTf32:
    case GemmUnit::kHopperTf32:
      return 1024;
    case GemmUnit::kTensor16:
    case GemmUnit::kHopper16:
      return 2048;
  }
  return 256;
}

template <typename T>
GemmUnit unit_for(const GemmCall& call, const ConvGemm<T>& p) {
  if (p.vector == 1 || !has_wgmma()) return call.unit;
  if (call.unit == GemmUnit::kTf32) return GemmUnit::kHopperTf32;
  return call.unit == GemmUnit::kTensor16 ? GemmUnit::kHopper16 : call.unit;
}

// Products of each element of an image from which on a copy of it pays that is read by vectors. Contiguous images, with
// a copy on an H200 and without on an H100, in us: 1x1 windows 256 to 64 channels, 64 products, bfloat16 202 and 114,
// TF32 262 and 136; 64 to 256, 256 products, 165 and 223, 203 and 211; 3x3 64 to 64, 576 products, 3xTF32 407 and 396;
// 128 to 128, 383 and 392; 512 to 512, 2589 and 2972. The gradient of the weight of 128 to 128, 3x3 two apart, 288
// products, TF32 401 and 331; of 64 to 64, 401 and 438; in bfloat16 of 1x1 windows 251 and 375.
int64_t least_products(GemmUnit unit, bool of_weight) {
  if (unit == GemmUnit::k3xTf32) return 1000;
  if (unit == GemmUnit::kTf32) return of_weight ? 400 : 200;
  return of_weight ? 0 : 200;
}

// Products that a convolution makes of an element of its input.
int64_t forward_products(const Conv2dShape& s) { return s.group_oc() * s.kh * s.kw / (s.stride_h * s.stride_w); }

// Whether an image is read by vectors of the channels of a group: as it is, or copied.
template <typename T>
bool takes_vectors(GemmUnit unit, int64_t groups, const Tensor& image, int64_t products, bool of_weight) {
  const int64_t channels = image.size(1) / groups;
  if (unit == GemmUnit::kFfma || channels % (16 / sizeof(T)) != 0) return false;
  return products >= least_products(unit, of_weight) || load_vector(const_view<T>(image), channels) > 1;
}

// The image, or a copy of it that can be read so.
template <typename T>
Tensor by_vectors(const GemmCall& call, const Tensor& image) {
  if (load_vector(const_view<T>(image), image.size(1) / call.shape.groups) > 1) return image;
  const Tensor copy = empty(image.sizes(), true, image.scalar_type(), image);
  const ChannelsLast<T> problem{const_view<T>(image), data<T>(copy), image.size(0),
                                image.size(1),        image.size(2), image.size(3)};
  check_launch(call.op, launch_channels_last(problem, call.stream));
  return copy;
}

template <typename T>
int launch_gemm(const ConvGemm<T>& p, GemmUnit unit, GemmTile tile, void* stream) {
  if constexpr (std::is_same_v<T, float>)
    if (unit == GemmUnit::kFfma) return launch_conv2d_ffma(p, tile, stream);
  if (is_hopper(unit)) return launch_conv2d_wgmma(p, tile, stream);
  return launch_conv2d_mma(p, unit == GemmUnit::k3xTf32, tile, stream);
}

template <typename T>
int launch_backward_weight(const GemmCall& call, const ConvGemm<T, float>& p, GemmTile tile) {
  if constexpr (std::is_same_v<T, float>)
    if (call.unit == GemmUnit::kFfma) return launch_conv2d_ffma_backward_weight(p, tile, call.stream);
  return launch_conv2d_mma_backward_weight(p, call.unit == GemmUnit::k3xTf32, tile, call.stream);
}

// Calls f(T{}) with the type that the unit multiplies.
template <typename F>
void dispatch_gemm(GemmUnit unit, ScalarType dtype, const F& f) {
  if (unit != GemmUnit::kTensor16) return f(float{});
  if (dtype == ScalarType::Half) return f(Half{});
  f(BFloat16{});
}

// Prepares, multiplies and, of a sum in parts, adds the parts. `whole`: the launch computes all of the output, so that
// its sum may be made of parts.
template <typename T>
void run_gemm(const GemmCall& call, ConvGemm<T> p, const GemmEpilogue& epilogue, bool whole, const Tensor& output) {
  std::optional<Tensor> dense_bias;
  if (epilogue.bias) dense_bias = torch::stable::contiguous(*epilogue.bias);
  const T* bias = dense_bias ? const_data<T>(*dense_bias) : nullptr;
  p.pooled = epilogue.pooled, p.output_is_channels_last = epilogue.output_is_channels_last;
  p.taps = epilogue.taps ? data<uint8_t>(*epilogue.taps) : nullptr;
  const GemmUnit unit = unit_for(call, p);
  p.chunk = chunk_of(unit);
  if (is_hopper(unit)) shift_rows(p);
  GemmCut cut = cut_gemm(p, unit, output.numel(), multiprocessors());
  constexpr bool k16Bit = sizeof(T) == 2;  // whose sums are rounded once: they have no place for parts
  if (!whole || k16Bit || p.pooled) cut.splits = 1;
  Scratch scratch;
  const int64_t table = scratch.place(table_entries(p) * sizeof(GemmTap));
  const int64_t packed = scratch.place(packed_elements(p) * sizeof(T));
  const int64_t sums = cut.splits > 1 ? scratch.place(cut.splits * output.numel() * sizeof(float)) : 0;
  scratch.allocate(output);
  const Packing packing = unit == GemmUnit::kFfma ? Packing::kColumnsInner
                          : is_hopper(unit)       ? Packing::kWgmma
                                                  : Packing::kDepthInner;
  check_launch(call.op,
               launch_conv2d_prepare(p, scratch.at<GemmTap>(table), scratch.at<T>(packed), packing, call.stream));
  p.table = scratch.at<GemmTap>(table), p.packed = scratch.at<T>(packed);
  p.splits = cut.splits;
  if (cut.splits > 1)
    p.output.data = scratch.at<T>(sums), p.split_stride = output.numel();
  else
    p.bias = bias, p.relu = epilogue.relu;
  p.store = store_order(p);
  check_launch(call.op, launch_gemm(p, unit, cut.tile, call.stream));
  if (cut.splits == 1) return;
  const SplitSum<T> sum{scratch.at<float>(sums), data<T>(output),  bias,          epilogue.relu, cut.splits,
                        output.numel(),          output.stride(1), output.size(1)};
  check_launch(call.op, launch_conv2d_sum_splits(sum, call.stream));
}

template <typename T>
void run_backward_weight(const GemmCall& call, const Tensor& grad_output, const Tensor& input,
                         const Tensor& grad_weight) {
  const View4d<float> nowhere{nullptr, grad_weight.stride(0), grad_weight.stride(1), grad_weight.stride(2),
                              grad_weight.stride(3)};
  const int64_t groups = call.shape.groups, products = forward_products(call.shape);
  const bool vectors = takes_vectors<T>(call.unit, groups, input, products, true) &&
                       takes_vectors<T>(call.unit, groups, grad_output, products, true);
  const Tensor x = vectors ? by_vectors<T>(call, input) : input;
  const Tensor y = vectors ? by_vectors<T>(call, grad_output) : grad_output;
  auto p = backward_weight_gemm<T>(call.shape, const_view<T>(x), const_view<T>(y), nowhere);
  p.chunk = chunk_of(call.unit);
  const GemmCut cut = cut_backward_weight_gemm(p, call.unit, grad_weight.numel());
  const bool direct = cut.splits == 1 && std::is_same_v<T, float>;
  Scratch scratch;
  const int64_t table = scratch.place(table_entries(p) * sizeof(GemmTap));
  const int64_t sums = direct ? 0 : scratch.place(cut.splits * grad_weight.numel() * sizeof(float));
  scratch.allocate(grad_weight);
  check_launch(call.op, launch_conv2d_prepare(p, scratch.at<GemmTap>(table), static_cast<T*>(nullptr),
                                              Packing::kColumnsInner, call.stream));
  p.table = scratch.at<GemmTap>(table);
  p.splits = cut.splits, p.split_stride = grad_weight.numel();
  p.output.data = direct ? reinterpret_cast<float*>(data<T>(grad_weight)) : scratch.at<float>(sums);
  p.store = backward_weight_store_order(p);
  check_launch(call.op, launch_backward_weight(call, p, cut.tile));
  if (direct) return;
  const SplitSum<T> sum{
      scratch.at<float>(sums), data<T>(grad_weight), nullptr, false, cut.splits, grad_weight.numel(), 1, 1};
  check_launch(call.op, launch_conv2d_sum_splits(sum, call.stream));
}

}  // namespace

bool uses_wgmma(GemmUnit unit, const Conv2dShape& shape, const Tensor& input) {
  if (!has_wgmma() || (unit != GemmUnit::kTf32 && unit != GemmUnit::kTensor16)) return false;
  bool vectors = false;
  dispatch_gemm(unit, input.scalar_type(), [&](auto zero) {
    vectors = takes_vectors<decltype(zero)>(unit, shape.groups, input, forward_products(shape), false);
  });
  return vectors;
}

void forward_gemm_into(const GemmCall& call, const Tensor& input, const Tensor& weight, const GemmEpilogue& epilogue,
                       const Tensor& output) {
  dispatch_gemm(call.unit, output.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const bool vectors = takes_vectors<T>(call.unit, call.shape.groups, input, forward_products(call.shape), false);
    const Tensor x = vectors ? by_vectors<T>(call, input) : input;
    const auto p = forward_gemm<T>(call.shape, const_view<T>(x), const_view<T>(weight), view<T>(output));
    run_gemm<T>(call, p, epilogue, true, output);
  });
}

void linear_gemm_into(const GemmCall& call, const Tensor& input, const Tensor& weight, const GemmEpilogue& epilogue,
                      const Tensor& output) {
  dispatch_gemm(call.unit, output.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const View4d<const T> x{const_data<T>(input), 0, input.stride(1), 0, input.stride(0)};
    const View4d<const T> w{const_data<T>(weight), weight.stride(0), weight.stride(1), 0, 0};
    const View4d<T> y{data<T>(output), 0, 1, 0, output.stride(0)};
    run_gemm<T>(call, forward_gemm<T>(call.shape, x, w, y), epilogue, true, output);
  });
}

void backward_input_gemm_into(const GemmCall& call, const Tensor& grad_output, const Tensor& weight,
                              const Tensor& grad_input) {
  const int64_t total = phase_total(call.shape);
  dispatch_gemm(call.unit, grad_input.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const Conv2dShape& s = call.shape;
    const bool vectors = takes_vectors<T>(call.unit, s.groups, grad_output, s.group_ic() * s.kh * s.kw, false);
    const Tensor y = vectors ? by_vectors<T>(call, grad_output) : grad_output;
    for (int64_t first = 0; first < total; first += kMaxPhases) {
      const auto p =
          backward_input_gemm<T>(call.shape, const_view<T>(y), const_view<T>(weight), view<T>(grad_input), first);
      run_gemm<T>(call, p, {}, total <= kMaxPhases, grad_input);
    }
  });
}

void backward_weight_gemm_into(const GemmCall& call, const Tensor& grad_output, const Tensor& input,
                               const Tensor& grad_weight) {
  dispatch_gemm(call.unit, grad_weight.scalar_type(),
                [&](auto zero) { run_backward_weight<decltype(zero)>(call, grad_output, input, grad_weight); });
}

}  // namespace convkit::cuda
