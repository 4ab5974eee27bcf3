#include "cpu/conv2d_blocking.h"

#include "cpu/chunks.h"

namespace convkit {
namespace {

// Products that a tile sums before they go to the output: their panel of weights, two vectors wide, is to stay in L2.
constexpr int64_t kReduction = 1600;
// Output pixels of a task: enough that packing a panel of weights (one pass over it) is small beside using it.
constexpr int64_t kBandPixels = 800;
// Output channels of a task, times the taps: enough that packing the input band is small beside using it.
constexpr int64_t kChannelTaps = 512;

}  // namespace

Conv2dBlocking conv2d_blocking(const Conv2dShape& s, const Conv2dDirectKernels& kernels, Conv2dSums sums,
                               const Pool2dShape* pool) {
  Conv2dBlocking b;
  const int64_t row_multiple = pool ? min(pool->stride_h, s.oh) : 1;
  const int64_t taps = s.kh * s.kw, tile_cols = kernels.tile_cols;
  // A row of the window is one chain of products; a window of one row is cut into chains anywhere.
  const int64_t ic_limit = max(s.kh > 1 ? min(kConv2dChain / s.kw, kReduction / taps) : kReduction / taps, 1);
  const int64_t ic_multiple = ic_limit >= 8 ? 8 : 1;
  const Chunks ic = cut(s.group_ic(), ic_limit / ic_multiple * ic_multiple, ic_multiple);
  b.ic_chunk = ic.size, b.ic_chunks = ic.number;
  const int64_t oc_limit = round_up(clamp(kChannelTaps / taps, 64, 256), tile_cols);
  const Chunks oc = cut(s.group_oc(), oc_limit, tile_cols);
  b.oc_chunk = oc.size, b.oc_chunks = oc.number;
  const Chunks cols = cut(s.ow, kBandPixels, kernels.tile_rows);
  b.cols = cols.size, b.col_bands = cols.number;
  const Chunks rows = cut(s.oh, round_up(max(kBandPixels / b.cols, 1), row_multiple), row_multiple);
  b.rows = rows.size, b.row_bands = rows.number;
  b.band_h = (b.rows - 1) * s.stride_h + (s.kh - 1) * s.dilation_h + 1;
  b.band_w = (b.cols - 1) * s.stride_w + (s.kw - 1) * s.dilation_w + 1;
  const int64_t columns = round_up(b.oc_chunk, tile_cols);
  b.input_floats = round_up(b.band_h * b.band_w * b.ic_chunk, 16);
  b.weight_floats = round_up(taps * b.ic_chunk * columns, 16);
  b.sums = sums;
  b.output_floats = sums == Conv2dSums::kScratch ? round_up(b.rows * b.cols * columns, 16) : 0;
  if (sums == Conv2dSums::kPlanes) {  // a row of weights and a panel of pixels have the bias as one more product
    b.weight_floats = round_up((taps * b.ic_chunk + 1) * b.oc_chunk, 16);
    b.output_floats = (taps * b.ic_chunk + 1) * tile_cols;
  }
  b.pooled_floats = pool ? round_up(pool->ow * columns * 5 / 4 + 1, 16) : 0;  // a row of values and of byte taps
  return b;
}

Conv2dSums conv2d_sums(const Conv2dShape& s, const View4d<float>& output) {
  // Up to about as many products a transposition of the sums costs more than packing pixels for the turned tile.
  constexpr int64_t kFewProducts = 64;
  if (output.c == 1) return Conv2dSums::kInPlace;
  return output.w == 1 && s.group_ic() * s.kh * s.kw <= kFewProducts ? Conv2dSums::kPlanes : Conv2dSums::kScratch;
}

bool can_pool_bands(const Conv2dBlocking& blocking, const Pool2dShape& pool) {
  return blocking.col_bands == 1 && pool.pad_h == 0 && pool.kh <= pool.stride_h;
}

Conv2dBackwardWeightBlocking conv2d_backward_weight_blocking(const Conv2dShape& s, const Conv2dDirectKernels& kernels) {
  constexpr int64_t kMinTasks = 32;          // work for many threads where the weight itself is small
  constexpr int64_t kPixels = 320;           // products that are summed one after the other
  constexpr int64_t kPatchFloats = 1 << 16;  // stay in L2
  Conv2dBackwardWeightBlocking b;
  const int64_t taps = s.kh * s.kw;
  const Chunks oc =
      cut(s.group_oc(), round_up(clamp(kChannelTaps / taps, 64, 256), kernels.tile_cols), kernels.tile_cols);
  b.oc_chunk = oc.size, b.oc_chunks = oc.number;
  const Chunks ic = cut(s.group_ic(), clamp(kChannelTaps / taps, 2 * kernels.tile_rows, 128), kernels.tile_rows);
  b.ic_chunk = ic.size, b.ic_chunks = ic.number;
  const bool patches = s.group_ic() < kernels.tile_rows && taps > 1;
  const int64_t pixels = patches ? clamp(kPatchFloats / (taps * b.ic_chunk), 1, kPixels) : kPixels;
  const Chunks cols = cut(s.ow, pixels, 1);
  b.cols = cols.size, b.col_bands = cols.number;
  const Chunks rows = cut(s.oh, max(pixels / b.cols, 1), 1);
  b.rows = rows.size, b.row_bands = rows.number;
  b.band_h = (b.rows - 1) * s.stride_h + (s.kh - 1) * s.dilation_h + 1;
  b.band_w = b.cols + (s.kw - 1) * s.dilation_w / s.stride_w;
  const int64_t bands = s.n * b.row_bands * b.col_bands, tasks = s.groups * b.ic_chunks * b.oc_chunks;
  b.splits = clamp(ceil_div(kMinTasks, tasks), 1, max(bands, 1));
  const int64_t columns = round_up(b.oc_chunk, kernels.tile_cols);
  b.input_floats = round_up(b.ic_chunk * b.band_h * s.stride_w * b.band_w, 16);
  b.grad_floats = round_up(b.rows * b.cols * columns, 16);
  b.patch_floats = patches ? round_up(taps * b.ic_chunk * b.rows * b.cols, 16) : 0;
  b.sum_floats = round_up(taps * b.ic_chunk * columns, 16);
  return b;
}

}  // namespace convkit
