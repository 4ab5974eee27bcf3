// A convolution, or a gradient of one, as a product of matrices that are never formed. The kernels of conv2d_ffma*.cu,
// conv2d_mma*.cu and conv2d_wgmma.cu take it. No torch.
//
// Forward: rows are output pixels, columns the filters of a group, and a product runs over the taps and channels of the
// window ("depth"). backward_input is the same on grad_output, with a phase for every position modulo the stride.
// backward_weight has filters as rows, (channel, tap) as columns, and runs over output pixels.
#pragma once

#include "common/conv2d_shape.h"
#include "common/int_math.h"

namespace convkit::cuda {

constexpr int kMaxPhases = 16;  // in one launch
// Channels whose products of a tap follow each other, where loads take vectors: then the next tap has its turn, which
// finds some of them in L1.
constexpr int kChannelBytes = 128;
constexpr int kDepthAlign = 64;  // tables and packed weights are filled with zeros up to a multiple of this depth
constexpr int kMoreRows = 8;     // of a tile of Hopper's kernel, for the taps of a row of the window
constexpr int64_t kSumsLimit = int64_t{64} << 20;  // bytes of partial sums

// Where the products `vector * i` to `vector * i + vector - 1` of a window find the input: relative to tap (0, 0).
struct alignas(16) GemmTap {
  int64_t offset;  // in elements
  int32_t h, w;    // in pixels; beyond the depth so far out that no pixel is there
};

// Output pixels that meet the same taps: all of them in the forward direction.
struct GemmPhase {
  int32_t oh, ow;
  int32_t pitch;      // pixels of a row as they are numbered: ow, or more, of which the last are nowhere
  int32_t top, left;  // the input position that tap (0, 0) of output pixel (0, 0) meets
  int32_t kh, kw, dilation_h, dilation_w;
  int64_t weight, weight_h, weight_w;  // offset of tap (0, 0) in the weight, and strides of the taps
  int64_t output;                      // offset of the first pixel in the output
  int64_t table, packed;               // offsets in the table and in the packed weights
};

// How a kernel may store 16 bytes of results at once.
enum class StoreOrder { kScalar, kPixels, kFilters };

template <typename T, typename Out = T>
struct ConvGemm {
  View4d<const T> input;        // [n, groups * channels, ih, iw]; grad_output in backward_input
  View4d<const T> grad_output;  // [n, groups * filters, oh, ow]; backward_weight only
  View4d<Out> output;           // of one split
  const T* bias = nullptr;
  bool relu = false;
  StoreOrder store = StoreOrder::kScalar;
  int32_t n, ih, iw, channels, filters, groups;
  int32_t stride_h, stride_w;  // of the output in the input, and of output pixels in the output view
  int32_t vector;              // elements that a load of the input takes: then kChannelBytes of channels are innermost
  bool shifted = false;        // the pitch of a phase has place for all taps of a row of its window
  int32_t chunk;               // products of a sum before it is added to the total, which lies in the output
  int32_t splits = 1;          // parts of the sum: one for each chunk, or in backward_weight of whole chunks
  int64_t split_stride = 0;    // elements between their outputs
  // A pooling of 2x2 windows after bias and ReLU, of which `output` is the result. Taps have the output's strides; null
  // where nobody wants them.
  bool pooled = false, output_is_channels_last = false;
  uint8_t* taps = nullptr;
  const GemmTap* table = nullptr;
  const T* packed = nullptr;  // weights, by phase and group as Packing says
  int32_t columns;            // filters rounded up to whole tiles
  // Strides of the unpacked weight.
  const T* weight = nullptr;
  int64_t weight_group, weight_filter, weight_channel;
  int32_t phase_count;
  GemmPhase phases[kMaxPhases];
};

// Where and in which precision the products are computed.
enum class GemmUnit {
  kFfma,        // float32 multiply-adds
  kTf32,        // tensor cores; float32 operands lose 13 bits
  k3xTf32,      // tensor cores; float32 operands in two parts, three products
  kTensor16,    // tensor cores; bfloat16 and float16
  kHopperTf32,  // by Hopper's own instructions
  kHopper16,
};

constexpr bool is_hopper(GemmUnit unit) { return unit == GemmUnit::kHopperTf32 || unit == GemmUnit::kHopper16; }

// Rows x columns of the tile of a block: 64x128 only with Hopper's instructions.
enum class GemmTile { k64x64, k64x128, k128x64, k128x128 };
constexpr int tile_rows(GemmTile tile) { return tile == GemmTile::k64x64 || tile == GemmTile::k64x128 ? 64 : 128; }
constexpr int tile_columns(GemmTile tile) { return tile == GemmTile::k64x64 || tile == GemmTile::k128x64 ? 64 : 128; }

// Rows of a phase: pixels, or four for every window of a fused pooling.
template <typename T, typename Out>
constexpr int64_t phase_rows(const ConvGemm<T, Out>& p, const GemmPhase& phase) {
  return p.pooled ? 4 * int64_t{p.n} * (phase.oh / 2) * (phase.ow / 2) : int64_t{p.n} * phase.oh * phase.pitch;
}

// Products per output of a phase, as tables and packed weights hold them.
constexpr int64_t padded_depth(int64_t depth) { return round_up(max(depth, 1), kDepthAlign); }

// Pixels that each of the splits of backward_weight sums over, but the last: whole chunks.
constexpr int64_t split_pixels(int64_t pixels, int64_t splits, int64_t chunk) {
  return round_up(ceil_div(pixels, splits), chunk);
}

}  // namespace convkit::cuda
