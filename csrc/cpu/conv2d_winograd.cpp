#include "cpu/conv2d_winograd.h"

#include "common/int_math.h"
#include "cpu/chunks.h"
#include "cpu/conv2d_tasks.h"
#include "cpu/isa.h"

namespace convkit {
namespace {

// Transforming the weights costs a task about as much as multiplying six tiles, transforming its patches as much as
// multiplying eight output channels: with so many of each, both are small beside the products.
constexpr int64_t kTiles = 64;
constexpr int64_t kOutputChannels = 32;
// Input channels that are multiplied at a time.
constexpr int64_t kInputChannels = 128;
// Transformed weights, and transformed patches of a stage, that are to stay in the last cache.
constexpr int64_t kSharedBytes = int64_t{4} << 20;
// With enough blocks of tiles for many threads, and small weights, a task transforms its own patches and computes all
// output channels: patches and sums stay in L2. 64 channels at 224x224 take 7.0 instead of 7.9 ms (AMD Zen 5).
constexpr int64_t kOwnTiles = 32, kManyBlocks = 12, kOwnChannels = 256;
// Pixels of tiles side by side: their input, a few rows, is packed at a time.
constexpr int64_t kRunPixels = 32;
constexpr int64_t kCacheLine = 16;  // keeps the points of one place apart: they lie in different sets of a cache

// The tile that takes less to multiply four images and to transform the weights. In outputs as low or narrow as one
// large tile direct sums meet few terms: its error there, of up to 64 channels after a ReLU, is up to 3.5 times theirs.
WinogradSizes winograd_sizes(const Conv2dShape& s) {
  constexpr int64_t kLeastChannels = 128;
  constexpr int64_t kImages = 4, kWeights = 6;  // in tiles
  const WinogradSizes small{2, s.kh}, large{4, s.kh};
  const auto work = [&](const WinogradSizes& of) {
    return (kImages * ceil_div(s.oh, of.tile) * ceil_div(s.ow, of.tile) + kWeights) * of.points();
  };
  const bool inexact = min(s.oh, s.ow) <= large.tile && s.ic < kLeastChannels;
  return s.kh == 5 || inexact || work(small) <= work(large) ? small : large;
}

// The gradient of the weight of a small output has a few large terms for each weight: at 7x7 pixels the error of the
// large tile is 3.3 to 5.3 times that of direct sums, at 12x12 2.1 to 4.7; that of the small tile 1.2 to 1.7 times.
WinogradSizes winograd_backward_weight_sizes(const Conv2dShape& s) {
  constexpr int64_t kLeastExtent = 12;
  return min(s.oh, s.ow) < kLeastExtent ? WinogradSizes{2, s.kh} : winograd_sizes(s);
}

}  // namespace

Conv2dWinogradBlocking conv2d_winograd_blocking(const Conv2dShape& s, const Conv2dWinogradKernels& kernels,
                                                const Pool2dShape* pool) {
  Conv2dWinogradBlocking b;
  static_cast<WinogradSizes&>(b) = winograd_sizes(s);
  b.tiles_h = ceil_div(s.oh, b.tile), b.tiles_w = ceil_div(s.ow, b.tile);
  const Chunks ic = cut(s.ic, kInputChannels, kernels.lanes);
  b.ic_chunk = ic.size, b.ic_chunks = ic.number;
  const Chunks oc = cut(s.oc, kOutputChannels, kernels.tile_cols);
  b.oc_chunk = oc.size, b.oc_chunks = oc.number;
  const int64_t ics = round_up(b.ic_chunk, kernels.lanes), ocs = round_up(b.oc_chunk, kernels.tile_cols);
  b.weight_floats = ocs * b.ic_chunk + kCacheLine;
  b.packed_floats = b.taps() * ocs * b.ic_chunk;
  const int64_t all_tiles = s.n * b.tiles_h * b.tiles_w;
  const bool few_weights = b.transformed_floats() * oc.number * ic.number * 4 <= kSharedBytes;
  const bool own_patches = few_weights && all_tiles >= kManyBlocks * kOwnTiles && ics * ic.number <= kOwnChannels;
  const int64_t stage_tiles = clamp(kSharedBytes / (b.points() * ics * ic.number * 4), 1, kTiles);
  const Chunks tiles = cut(all_tiles, own_patches ? kOwnTiles : stage_tiles, 1);
  b.tiles = tiles.size, b.tile_blocks = tiles.number;
  b.transform_first = few_weights && b.tile_blocks > 1;
  b.run = min(kRunPixels / b.tile, b.tiles_w);
  b.input_floats = b.tiles * ics + kCacheLine;
  b.sum_floats = b.tiles * ocs + kCacheLine;
  b.stage = own_patches ? 0 : clamp(kSharedBytes / (b.patch_floats() * 4), 1, b.tile_blocks);
  const int64_t columns = b.run * b.tile;
  const int64_t pooled_row = pool ? columns * ocs * 5 / 4 + 1 : 0;  // values and byte taps
  b.run_floats =
      round_up(max(b.patch() * (columns + b.window - 1) * ics, b.tile * columns * ocs + pooled_row), kCacheLine);
  b.panel_floats = b.taps() * kWinogradPanel * kernels.tile_cols;
  return b;
}

bool can_pool_tiles(const Conv2dShape& s, const Pool2dShape& p) {
  const int64_t tile = winograd_sizes(s).tile;
  return p.pad_h == 0 && p.pad_w == 0 && p.dilation_h == 1 && p.dilation_w == 1 && p.kh <= p.stride_h &&
         p.kw <= p.stride_w && tile % p.stride_h == 0 && tile % p.stride_w == 0;
}

template <typename T>
void conv2d_winograd(const Conv2dShape& shape, const View4d<const T>& input, const View4d<const T>& weight,
                     const View4d<T>& output, const Conv2dEpilogue<T>& epilogue, const float* packed_weight) {
  const Conv2dWinogradKernels& kernels_of_isa = kernels().conv2d_winograd;
  const Pool2dShape* pool = epilogue.pool ? &epilogue.pool->shape : nullptr;
  Conv2dWinograd<T> conv{.shape = shape,
                         .blocking = conv2d_winograd_blocking(shape, kernels_of_isa, pool),
                         .input = input,
                         .weight = weight,
                         .packed_weight = packed_weight,
                         .shared = several_threads(),
                         .bias = epilogue.bias,
                         .output = output,
                         .activation = epilogue.activation,
                         .pool = epilogue.pool};
  const Conv2dWinogradBlocking& b = conv.blocking;
  const Conv2dWinogradFunctions<T>& kernel = kernels_of_isa.variant(b).of.template get<T>();
  const int64_t weight_floats = b.transform_first ? conv.weight_blocks() * b.transformed_floats() : 0;
  const int64_t shared_bytes = (weight_floats + b.stage * b.patch_floats()) * 4;
  float* const shared = static_cast<float*>(shared_workspace(shared_bytes));
  CONVKIT_CHECK(shared || shared_bytes == 0, "conv2d: no memory for ", shared_bytes, " bytes of workspace");
  if (b.transform_first) {
    conv.transformed_weight = shared;
    tasks_with_scratch(conv.weight_blocks(), static_cast<double>(weight_floats), b.scratch_bytes(),
                       [&](int64_t block, float* scratch) { kernel.transform_weight(conv, block, scratch); });
  }
  if (b.stage > 0) conv.patches = shared + weight_floats;
  const int64_t blocks = b.stage > 0 ? b.stage : b.tile_blocks;
  for (; conv.first_block < b.tile_blocks; conv.first_block += blocks) {
    conv.blocks = min(blocks, b.tile_blocks - conv.first_block);
    if (conv.patches)
      tasks_with_scratch(conv.input_tasks(), static_cast<double>(conv.blocks * b.patch_floats()), b.scratch_bytes(),
                         [&](int64_t task, float* scratch) { kernel.transform_input(conv, task, scratch); });
    run_tasks(conv, kernel.forward);
  }
}

Conv2dWinograd<float> conv2d_winograd_packing(const Conv2dShape& shape, const View4d<const float>& weight) {
  return {.shape = shape, .blocking = conv2d_winograd_blocking(shape, kernels().conv2d_winograd), .weight = weight};
}

Conv2dShape winograd_backward_input_shape(const Conv2dShape& s) {
  return {s.n, s.oc, s.oh, s.ow, s.ic, s.ih, s.iw, s.kh, s.kw, 1, 1, s.kh - 1 - s.pad_top, s.kw - 1 - s.pad_left,
          1,   1,    1};
}

template <typename T>
void conv2d_winograd_backward_input(const Conv2dShape& s, const View4d<const T>& grad_output,
                                    const View4d<const T>& weight, const View4d<T>& grad_input) {
  const T* last_tap = weight.data + (s.kh - 1) * weight.h + (s.kw - 1) * weight.w;
  const View4d<const T> rotated{last_tap, weight.c, weight.n, -weight.h, -weight.w};
  conv2d_winograd<T>(winograd_backward_input_shape(s), grad_output, rotated, grad_input, {});
}

#define CONVKIT_WINOGRAD(T)                                                                                           \
  template void conv2d_winograd(const Conv2dShape&, const View4d<const T>&, const View4d<const T>&, const View4d<T>&, \
                                const Conv2dEpilogue<T>&, const float*);                                              \
  template void conv2d_winograd_backward_input(const Conv2dShape&, const View4d<const T>&, const View4d<const T>&,    \
                                               const View4d<T>&);
CONVKIT_WINOGRAD(float)
CONVKIT_WINOGRAD(BFloat16)
#undef CONVKIT_WINOGRAD

Conv2dWinogradBackwardWeightBlocking conv2d_winograd_backward_weight_blocking(const Conv2dShape& s,
                                                                              const Conv2dWinogradKernels& kernels) {
  constexpr int64_t kMinTasks = 32;         // work for many threads where the weight is small
  constexpr int64_t kBlocksPerSplit = 256;  // additions to one sum
  constexpr int64_t kChannels = 128;        // of input and of output: transforming them is small beside the products
  Conv2dWinogradBackwardWeightBlocking b;
  static_cast<WinogradSizes&>(b) = winograd_backward_weight_sizes(s);
  b.tiles_h = ceil_div(s.oh, b.tile), b.tiles_w = ceil_div(s.ow, b.tile);
  const Chunks tiles = cut(s.n * b.tiles_h * b.tiles_w, kTiles, 1);
  b.tiles = tiles.size, b.tile_blocks = tiles.number;
  const Chunks ic = cut(s.ic, kChannels, kernels.lanes), oc = cut(s.oc, kChannels, kernels.tile_cols);
  b.ic_chunk = ic.size, b.ic_chunks = ic.number, b.oc_chunk = oc.size, b.oc_chunks = oc.number;
  b.run = min(kRunPixels / b.tile, b.tiles_w);
  const int64_t enough = ceil_div(kMinTasks, b.ic_chunks * b.oc_chunks);
  b.splits = clamp(max(enough, ceil_div(b.tile_blocks, kBlocksPerSplit)), 1, b.tile_blocks);
  const int64_t ics = round_up(b.ic_chunk, kernels.lanes), ocs = round_up(b.oc_chunk, kernels.tile_cols);
  b.input_floats = b.tiles * ics + kCacheLine;
  b.grad_floats = b.tiles * ocs + kCacheLine;
  b.sum_floats = ics * ocs + kCacheLine;
  const int64_t columns = b.run * b.tile;
  b.run_floats =
      round_up(max(b.patch() * (columns + b.window - 1) * ics, max(b.tile * columns, b.taps() * ics) * ocs), 16);
  return b;
}

void conv2d_winograd_backward_weight(const Conv2dShape& s, const View4d<const float>& input,
                                     const View4d<const float>& grad_output, const View4d<float>& grad_weight) {
  const Conv2dWinogradKernels& kernel = kernels().conv2d_winograd;
  const Conv2dWinogradBackwardWeight conv{s,           conv2d_winograd_backward_weight_blocking(s, kernel),
                                          input,       grad_output,
                                          grad_weight, s.oc * s.ic * s.kh * s.kw};
  run_split_tasks(conv, kernel.variant(conv.blocking).backward_weight);
}

}  // namespace convkit
