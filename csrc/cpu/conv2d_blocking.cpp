#include "cpu/conv2d_blocking.h"

#include "cpu/chunks.h"
#include "cpu/isa.h"

namespace convkit {
namespace {

// Products that a tile sums before they go to the output: their panel of weights, two vectors wide, is to stay in L2.
constexpr int64_t kReduction = 1600;
// Output pixels of a task: enough that packing a panel of weights (one pass over it) is small beside using it.
constexpr int64_t kBandPixels = 800;
// Output channels of a task, times the taps: enough that packing the input band is small beside using it.
constexpr int64_t kChannelTaps = 512;

// An odd number of so few input channels would leave too many halves of pairs empty.
constexpr int64_t kFewChannels = 5;

// An image of few pixels with few output channels would be one task: it is cut further, into up to kLeastTasks of at
// least kTaskProducts, about 8 us. An odd number of less than kManyTasks would leave one of two threads without work
// for the time of a task.
constexpr int64_t kLeastTasks = 4, kTaskProducts = 1 << 20, kManyTasks = 16;
constexpr int64_t kLeastPixels = 80, kLeastChannels = 64;

// How many parts to cut a chunk of output channels and the output's pixels into.
struct Cuts {
  int64_t channels, bands;
};

// From `tasks` of as many groups and chunks and `bands` on. `reads_in_place`: each task of some output channels reads
// the input as it is, instead of packing it once more.
Cuts cut_further(const Conv2dShape& s, int64_t oc_chunk, int64_t tasks, int64_t bands, int64_t tile_cols,
                 bool reads_in_place) {
  Cuts cuts{1, bands};
  const int64_t pixels = s.oh * s.ow;
  const double products = static_cast<double>(pixels) * s.oc * s.group_ic() * s.kh * s.kw;
  const int64_t wanted =
      products < kLeastTasks * kTaskProducts ? static_cast<int64_t>(products) / kTaskProducts : kLeastTasks;
  const auto divides = [&](int64_t parts) {
    return oc_chunk % (parts * tile_cols) == 0 && oc_chunk / parts >= kLeastChannels;
  };
  if (reads_in_place && s.oc > pixels)  // reading all of the input again is less than reading the weights again
    while (tasks * bands * cuts.channels < wanted && divides(2 * cuts.channels)) cuts.channels *= 2;
  tasks *= cuts.channels;
  while (tasks * cuts.bands < wanted && pixels >= 2 * cuts.bands * kLeastPixels) cuts.bands *= 2;
  if (bands > 1 && tasks * cuts.bands % 2 && tasks * cuts.bands < kManyTasks) ++cuts.bands;
  return cuts;
}

// A row of the window is one chain of products; a window of one row is cut into chains anywhere.
Chunks input_channel_chunks(const Conv2dShape& s, int64_t step_numbers) {
  const int64_t taps = s.kh * s.kw, reduction = kReduction * step_numbers;
  const int64_t limit = max(s.kh > 1 ? min(kConv2dChain / s.kw, reduction / taps) : reduction / taps, step_numbers);
  const int64_t multiple = limit >= 8 ? 8 : step_numbers;
  return cut(s.group_ic(), limit / multiple * multiple, multiple);
}

}  // namespace

Conv2dBlocking conv2d_blocking(const Conv2dShape& s, const Conv2dDirectKernels& kernels,
                               const Conv2dBlockingOptions& options) {
  const auto [sums, pool, bfloat16] = options;
  const int64_t step_numbers = bfloat16 ? 2 : 1;
  Conv2dBlocking b;
  const int64_t row_multiple = pool ? min(pool->stride_h, s.oh) : 1;
  const int64_t taps = s.kh * s.kw, tile_cols = kernels.tile_cols;
  const Chunks ic = input_channel_chunks(s, step_numbers);
  b.ic_chunk = ic.size, b.ic_chunks = ic.number;
  const int64_t oc_limit = round_up(clamp(kChannelTaps / taps, 64, 256), tile_cols);
  const Chunks oc = cut(s.group_oc(), oc_limit, tile_cols);
  b.oc_chunk = oc.size, b.oc_chunks = oc.number;
  b.row_patches = bfloat16 && s.group_ic() % 2 && s.group_ic() <= kFewChannels && s.kw > 1 && s.dilation_w == 1;
  // Patches are packed once for each band that reads them.
  const int64_t pixels = (b.row_patches ? 2 : 1) * kBandPixels, bands = ceil_div(max(s.oh * s.ow, 1), pixels);
  const Cuts cuts =
      cut_further(s, b.oc_chunk, s.groups * b.oc_chunks, bands, tile_cols, taps == 1 && sums == Conv2dSums::kInPlace);
  b.oc_part = ceil_div(b.oc_chunk, cuts.channels), b.oc_parts = ceil_div(s.group_oc(), b.oc_part);
  const int64_t band_pixels = cuts.bands == bands ? pixels : ceil_div(s.oh * s.ow, cuts.bands);
  const Chunks cols = cut(s.ow, band_pixels, kernels.tile_rows);
  b.cols = cols.size, b.col_bands = cols.number;
  const int64_t row_limit = cuts.bands == bands ? pixels / b.cols : ceil_div(band_pixels, b.cols);
  const Chunks rows = cut(s.oh, round_up(max(row_limit, 1), row_multiple), row_multiple);
  b.rows = rows.size, b.row_bands = rows.number;
  b.band_h = (b.rows - 1) * s.stride_h + (s.kh - 1) * s.dilation_h + 1;
  b.band_w = (b.cols - 1) * s.stride_w + (s.kw - 1) * s.dilation_w + 1;
  const int64_t columns = round_up(b.oc_chunk, tile_cols);
  const int64_t steps = ceil_div(b.ic_chunk, step_numbers), row_steps = ceil_div(s.kw * b.ic_chunk, step_numbers);
  // A pair of numbers is as large as a float.
  b.input_floats = round_up(b.band_h * b.band_w * steps, 16);
  b.weight_floats = round_up(taps * steps * columns, 16);
  if (b.row_patches) {  // and a row of pixels before it becomes patches
    b.input_floats = round_up(b.band_h * b.cols * row_steps + b.band_w * steps + 2 * tile_cols, 16);
    b.weight_floats = round_up(s.kh * row_steps * columns, 16);
  }
  b.sums = sums;
  b.pooled_floats = 0;
  b.output_floats = sums == Conv2dSums::kScratch ? round_up(b.rows * b.cols * columns, 16) : 0;
  if (sums == Conv2dSums::kPlanes) {  // a tile of columns reads beyond the last pixel
    b.band_w = b.cols + (s.kw - 1) * s.dilation_w / s.stride_w;
    b.input_floats = round_up(b.ic_chunk * b.band_h * s.stride_w * b.band_w + tile_cols, 16);
    b.weight_floats = 0;
    if (pool) {  // one plane of sums for each output channel
      b.output_floats = round_up(b.oc_chunk * b.rows * b.cols, 16);
      b.pooled_floats = max_pool2d_scratch_floats(*pool, convkit::kernels().vector_floats);
    }
  } else if (pool) {  // a row of values and of byte taps
    b.pooled_floats = round_up(pool->ow * columns * 5 / 4 + 1, 16);
  }
  return b;
}

template <typename T>
Conv2dSums conv2d_sums(const Conv2dShape& s, const View4d<T>& output, bool pooled) {
  // Up to about as many products a transposition of the sums costs more than the turned tile's vectors of pixels, which
  // straddle cache lines. Beyond, the turned tile serves where it fills its vectors better, and 1x1 windows also where
  // it fills them as well. 8 channels into 8, 3x3 at 28x28, takes 14.6 us instead of 22.7; 256 into 64, 1x1 at 56x56,
  // 0.50 ms instead of 0.61 (AVX-512 on an AMD Zen 5).
  constexpr int64_t kFewProducts = 64;
  // bfloat16 is stored once, when all products have been added.
  const bool in_place = output.c == 1 && !pooled && (!is_bfloat16<T> || input_channel_chunks(s, 2).number == 1);
  if (in_place || output.c == 1 || is_bfloat16<T>) return in_place ? Conv2dSums::kInPlace : Conv2dSums::kScratch;
  const int64_t products = s.group_ic() * s.kh * s.kw, lanes = kernels().vector_floats;
  if (output.w != 1 || products > kConv2dChain) return Conv2dSums::kScratch;
  const int64_t turned = s.ow * round_up(s.group_oc(), lanes), usual = s.group_oc() * round_up(s.ow, lanes);
  const bool planes = products <= kFewProducts || turned > usual || (turned == usual && s.kh * s.kw == 1);
  return planes ? Conv2dSums::kPlanes : Conv2dSums::kScratch;
}

template Conv2dSums conv2d_sums(const Conv2dShape&, const View4d<float>&, bool);
template Conv2dSums conv2d_sums(const Conv2dShape&, const View4d<BFloat16>&, bool);

bool can_pool_bands(const Conv2dBlocking& blocking, const Pool2dShape& pool) {
  return blocking.col_bands == 1 && pool.pad_h == 0 && pool.kh <= pool.stride_h;
}

namespace {

// Sums of a task of planes, a vector for each weight: they stay in L2.
constexpr int64_t kPlanesSums = 1 << 17;
// Weights of an output channel in a task: enough that reading its gradient is small beside them. 8 input channels with
// all taps are; more no longer stay in L1.
constexpr int64_t kPlanesWeights = 64;

// Whether output channels leave so much more of a vector empty than output columns that the gradient of the weight has
// these in the lanes. At three quarters it takes 0.8 times as long in contiguous images, as long in channels_last,
// which it has to turn; 3 channels into 4, 5x5 at 64x64, 22 us instead of 59 (AVX-512 on an AMD Zen 5).
bool fills_planes(const Conv2dShape& s, int64_t lanes) {
  const int64_t channels = round_up(s.group_oc(), lanes) * s.ow, columns = s.group_oc() * round_up(s.ow, lanes);
  return 4 * columns <= 3 * channels && s.kh * s.kw * s.group_oc() * lanes <= kPlanesSums;
}

}  // namespace

Conv2dBackwardWeightBlocking conv2d_backward_weight_blocking(const Conv2dShape& s, const Conv2dDirectKernels& kernels) {
  constexpr int64_t kMinTasks = 32;  // work for many threads where the weight itself is small
  constexpr int64_t kPixels = 400;   // products that are summed one after the other
  Conv2dBackwardWeightBlocking b;
  const int64_t taps = s.kh * s.kw, lanes = convkit::kernels().vector_floats;
  const bool planes = fills_planes(s, lanes), few_inputs = s.group_ic() < kernels.tile_rows && taps > 1;
  b.tile = planes ? BackwardWeightTile::kPlanes : few_inputs ? BackwardWeightTile::kAllTaps : BackwardWeightTile::kTap;
  const Chunks oc =
      cut(s.group_oc(), round_up(clamp(kChannelTaps / taps, 64, 256), kernels.tile_cols), kernels.tile_cols);
  b.oc_chunk = oc.size, b.oc_chunks = oc.number;
  const int64_t columns = planes ? b.oc_chunk * lanes : round_up(b.oc_chunk, kernels.tile_cols);  // of sums
  const int64_t ic_limit = planes ? clamp(kPlanesSums / (taps * columns), 1, max(kPlanesWeights / taps, 8))
                                  : clamp(kChannelTaps / taps, 2 * kernels.tile_rows, 128);
  const Chunks ic = cut(s.group_ic(), ic_limit, planes ? 1 : kernels.tile_rows);
  b.ic_chunk = ic.size, b.ic_chunks = ic.number;
  const int64_t pixels = planes ? kBandPixels : kPixels;  // a lane of planes sums a few of them
  const Chunks cols = cut(s.ow, pixels, planes ? lanes : 1);
  b.cols = cols.size, b.col_bands = cols.number;
  const Chunks rows = cut(s.oh, max(pixels / b.cols, 1), 1);
  b.rows = rows.size, b.row_bands = rows.number;
  b.band_h = (b.rows - 1) * s.stride_h + (s.kh - 1) * s.dilation_h + 1;
  b.band_w = b.cols + (s.kw - 1) * s.dilation_w / s.stride_w;
  const int64_t bands = s.n * b.row_bands * b.col_bands, tasks = s.groups * b.ic_chunks * b.oc_chunks;
  b.splits = clamp(ceil_div(kMinTasks, tasks), 1, max(bands, 1));
  b.input_floats = round_up(b.ic_chunk * b.band_h * s.stride_w * b.band_w, 16);
  b.grad_floats = round_up(b.rows * b.cols * round_up(b.oc_chunk, kernels.tile_cols), 16);
  b.table_floats = b.tile == BackwardWeightTile::kTap ? 0 : round_up(2 * taps * b.ic_chunk, 16);
  b.sum_floats = round_up(taps * b.ic_chunk * columns, 16);
  return b;
}

}  // namespace convkit
