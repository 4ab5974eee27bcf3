// Into which tiles, and how many parts, the products of conv2d_gemm.h are cut.
#include <algorithm>
#include <limits>

#include "common/half.h"
#include "cuda/conv2d_gemm_plan.h"

namespace convkit::cuda {
namespace {

constexpr int64_t kLargestParts = 65535;              // along y and z of the grid
constexpr int64_t kLargestPixels = int64_t{1} << 29;  // of a part
// Of gradients of the weight, whatever the GPU, so that the bits are the same on each: as many multiprocessors as an
// H100 has, and at most as many blocks as they run three at a time, in two turns.
constexpr int kMultiprocessors = 132;
constexpr int64_t kBackwardWeightBlocks = 6 * kMultiprocessors;

template <typename T, typename Out>
int64_t largest_depth(const ConvGemm<T, Out>& p) {
  int64_t depth = 0;
  for (int i = 0; i < p.phase_count; ++i) depth = max(depth, int64_t{p.channels} * p.phases[i].kh * p.phases[i].kw);
  return depth;
}

// How a tile does on an H100, fitted to convolutions of ResNet-50 and VGG16: multiply-adds per time relative to the
// large tile, of full multiprocessors, and the tiles that one holds at a time. A few tiles alone take nearly as long as
// as many as it holds.
struct TileSpeed {
  double speed;
  int together;
  double alone;  // time, in tiles
};

// With Hopper's instructions, on an H200, fitted to layers of those networks in bfloat16.
TileSpeed hopper_tile_speed(GemmTile tile) {
  switch (tile) {
    case GemmTile::k64x64:
      return {0.66, 3, 2.4};
    case GemmTile::k64x128:
      return {0.83, 2, 1.6};
    case GemmTile::k128x64:
      return {0.72, 2, 1.5};
    case GemmTile::k128x128:
      return {1.0, 2, 1.4};
  }
  return {1.0, 1, 1.0};
}

TileSpeed tile_speed(GemmTile tile, GemmUnit unit) {
  const bool large = tile == GemmTile::k128x128, small = tile == GemmTile::k64x64;
  switch (unit) {
    case GemmUnit::kFfma:
      return large ? TileSpeed{1.0, 2, 2.0} : small ? TileSpeed{0.91, 4, 3.3} : TileSpeed{0.96, 3, 3.0};
    case GemmUnit::kTf32:
      return large ? TileSpeed{1.0, 2, 1.5} : small ? TileSpeed{0.79, 3, 3.0} : TileSpeed{0.95, 3, 2.4};
    case GemmUnit::k3xTf32:
      return large ? TileSpeed{0.88, 1, 1.0} : small ? TileSpeed{0.95, 3, 3.0} : TileSpeed{1.0, 2, 1.6};
    case GemmUnit::kTensor16:
      return large ? TileSpeed{1.0, 2, 1.6} : small ? TileSpeed{0.55, 3, 2.4} : TileSpeed{0.69, 3, 2.4};
    case GemmUnit::kHopperTf32:
    case GemmUnit::kHopper16:
      return hopper_tile_speed(tile);
  }
  return {1.0, 1, 1.0};
}

// Time that some multiprocessors take for `tiles`, in multiply-adds of one at the speed of a large tile.
double tile_cost(GemmTile tile, GemmUnit unit, int64_t tiles, int multiprocessors) {
  const auto [speed, together, alone] = tile_speed(tile, unit);
  const int64_t each = ceil_div(tiles, multiprocessors), rest = each % together;
  const double last = rest ? std::max(static_cast<double>(rest), alone) : 0.0;
  return (static_cast<double>(each - rest) + last) * tile_rows(tile) * tile_columns(tile) / speed;
}

}  // namespace

template <typename T, typename Out>
GemmCut cut_gemm(const ConvGemm<T, Out>& p, GemmUnit unit, int64_t output_elements, int multiprocessors) {
  const auto tiles = [&](GemmTile tile) {
    int64_t count = 0;
    for (int i = 0; i < p.phase_count; ++i)
      count += ceil_div(int64_t{p.n} * p.phases[i].oh * p.phases[i].pitch, tile_rows(tile));
    return count * ceil_div(p.filters, tile_columns(tile)) * p.groups;
  };
  const int64_t splits = ceil_div(largest_depth(p), p.chunk), small = tiles(GemmTile::k64x64);
  const bool split = splits > 1 && small < 2 * multiprocessors && splits * p.phase_count <= kLargestParts &&
                     splits * output_elements <= kSumsLimit / static_cast<int64_t>(sizeof(float));
  if (split) return {GemmTile::k64x64, static_cast<int32_t>(splits)};
  GemmCut best{GemmTile::k64x64, 1};
  double least = tile_cost(best.tile, unit, small, multiprocessors);
  for (const GemmTile tile : {GemmTile::k64x128, GemmTile::k128x64, GemmTile::k128x128}) {
    if (tile_columns(tile) > round_up(p.filters, 64)) continue;
    if (!is_hopper(unit) && tile == GemmTile::k64x128) continue;
    if (tile == GemmTile::k128x128 && unit == GemmUnit::k3xTf32) continue;  // it has none in this direction
    const double cost = tile_cost(tile, unit, tiles(tile), multiprocessors);
    if (cost < least) least = cost, best.tile = tile;
  }
  return best;
}

template <typename T>
GemmCut cut_backward_weight_gemm(const ConvGemm<T, float>& p, GemmUnit unit, int64_t output_elements) {
  const GemmPhase& phase = p.phases[0];
  const int64_t pixels = int64_t{p.n} * phase.oh * phase.ow, products = int64_t{p.channels} * phase.kh * phase.kw;
  const int64_t least = max(ceil_div(pixels, kLargestPixels), 1);  // a split counts its pixels in 32 bits
  const int64_t fitting = min(kSumsLimit / (output_elements * static_cast<int64_t>(sizeof(float))), kLargestParts);
  GemmCut best{GemmTile::k64x64, static_cast<int32_t>(least)};
  double lowest = std::numeric_limits<double>::infinity();
  for (const GemmTile tile : {GemmTile::k64x64, GemmTile::k128x128}) {
    if (tile == GemmTile::k128x128 && (p.filters <= 64 || products <= 64)) continue;
    const int64_t tiles = ceil_div(p.filters, tile_rows(tile)) * ceil_div(products, tile_columns(tile)) * p.groups;
    const int64_t most = min(min(fitting, ceil_div(pixels, p.chunk)), ceil_div(kBackwardWeightBlocks, tiles));
    for (int64_t splits = least; splits <= max(most, least); ++splits) {
      const double cost = tile_cost(tile, unit, tiles * splits, kMultiprocessors) / static_cast<double>(splits);
      if (cost < 0.97 * lowest) lowest = cost, best = {tile, static_cast<int32_t>(splits)};  // more parts, more sums
    }
  }
  return best;
}

#define CONVKIT_CUT(T)                                                   \
  template GemmCut cut_gemm(const ConvGemm<T>&, GemmUnit, int64_t, int); \
  template GemmCut cut_backward_weight_gemm(const ConvGemm<T, float>&, GemmUnit, int64_t);
CONVKIT_CUT(float)
CONVKIT_CUT(Half)
CONVKIT_CUT(BFloat16)

}  // namespace convkit::cuda
