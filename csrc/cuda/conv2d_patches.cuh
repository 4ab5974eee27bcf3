// How the blocks of conv2d_mma.cu and conv2d_wgmma.cu fetch their tiles of patches and packed weights.
#pragma once

#include "cuda/conv2d_pixel.cuh"
#include "cuda/intrinsics.cuh"

namespace convkit::cuda {

// A thread has sums of rows 8 apart: together, those of a window.
template <bool Pooled>
constexpr int kApart = Pooled ? 8 : 0;

// What a thread loads of each step of kDepth products: of kPixels pixels Vector channels, or of kPixels neighbouring
// pixels kLoads products one by one; and its share of the packed weights.
template <typename Tile, int Vector, bool Pooled>
class PatchLoader {
  using T = typename Tile::Element;
  using Stage = typename Tile::Stage;

 public:
  __device__ PatchLoader(const ConvGemm<T>& p, const GemmPhase& phase, int64_t first_row, int first_column, int first_k)
      : p_(p), k_(first_k) {
#pragma unroll
    for (int i = 0; i < kPixels; ++i) {
      const Pixel at = row_pixel<kApart<Pooled>>(phase, first_row + line(i));
      top_[i] = at.n < p.n ? at.h * p.stride_h + phase.top : kNoPixel;
      left_[i] = at.w * p.stride_w + phase.left;
      input_[i] = p.input.data + at.n * p.input.n + int64_t{blockIdx.y} * p.channels * p.input.c + top_[i] * p.input.h +
                  left_[i] * p.input.w;
    }
    table_ = p.table + phase.table;
    const int padded = static_cast<int>(padded_depth(p.channels * phase.kh * phase.kw));
    padded_ = padded;
    if constexpr (Vector > 1) look_ahead();
    weight_ = p.packed + phase.packed + (int64_t{blockIdx.y} * p.columns + first_column + across()) * padded + along();
  }

  __device__ void load(Stage& stage) {
    load_weight(stage);
    if constexpr (Vector > 1) {
#pragma unroll
      for (int i = 0; i < kPixels; ++i) {
        if constexpr (kRound)
          vectors_[i] = load_or_zero(input_[i] + tap_.offset, inside(i, tap_));
        else
          cp_async<16>(stage.a.at(line(i), along()), input_[i] + tap_.offset, inside(i, tap_));
      }
    } else {
#pragma unroll
      for (int i = 0; i < kLoads; ++i) {
        const GemmTap tap = table_[k_ + depth(i)];
        if constexpr (sizeof(T) == 4) {
          cp_async<4>(stage.a.at(line(0), depth(i)), input_[0] + tap.offset, inside(0, tap));
        } else {
          const unsigned low = inside(0, tap) ? input_[0][tap.offset].bits : 0;
          const unsigned high = inside(1, tap) ? input_[1][tap.offset].bits : 0;
          pairs_[i] = low | high << 16;
        }
      }
    }
    k_ += Tile::kDepth;
    if constexpr (Vector > 1) look_ahead();
  }

  __device__ void finish_load(Stage& stage) const {
    if constexpr (kRound) {
#pragma unroll
      for (int i = 0; i < kPixels; ++i) {
        const uint4& x = vectors_[i];
        const auto round = [](unsigned bits) { return to_tf32(__uint_as_float(bits)); };
        *reinterpret_cast<uint4*>(stage.a.at(line(i), along())) = {round(x.x), round(x.y), round(x.z), round(x.w)};
      }
    }
    if constexpr (Vector == 1 && sizeof(T) == 2) {
#pragma unroll
      for (int i = 0; i < kLoads; ++i) *reinterpret_cast<unsigned*>(stage.a.at(line(0), depth(i))) = pairs_[i];
    }
  }

 private:
  static constexpr int kLanes = 16 / static_cast<int>(sizeof(T));  // of a vector
  static constexpr int kAlong = Tile::kDepth / kLanes;             // threads side by side along the depth
  static constexpr int kAcross = Tile::kThreads / kAlong;
  static constexpr int kPixels = Vector > 1 ? Tile::kRows / kAcross : 4 / static_cast<int>(sizeof(T));
  static constexpr int kLines = Tile::kRows / kPixels;  // threads side by side along the rows, without vectors
  static constexpr int kLoads = Vector > 1 ? 1 : Tile::kDepth* kLines / Tile::kThreads;
  static_assert(Vector == 1 || Vector == kLanes);
  // wgmma would cut float32 to TF32.
  static constexpr bool kRound = Tile::kAsync && sizeof(T) == 4;

  // The thread's place among vectors of the depth.
  static __device__ int along() { return static_cast<int>(threadIdx.x) % kAlong * kLanes; }
  static __device__ int across() { return static_cast<int>(threadIdx.x) / kAlong; }

  static __device__ int line(int i) {
    return Vector > 1 ? across() + i * kAcross : static_cast<int>(threadIdx.x) % kLines * kPixels + i;
  }
  static __device__ int depth(int i) {  // of single elements
    return static_cast<int>(threadIdx.x) / kLines + i * (Tile::kThreads / kLines);
  }

  // The tap of the step at hand, early: the addresses wait for it.
  __device__ void look_ahead() { tap_ = table_[(min(k_, padded_ - Tile::kDepth) + along()) / Vector]; }

  __device__ bool inside(int i, const GemmTap& tap) const {
    return static_cast<unsigned>(top_[i] + tap.h) < static_cast<unsigned>(p_.ih) &&
           static_cast<unsigned>(left_[i] + tap.w) < static_cast<unsigned>(p_.iw);
  }

  __device__ void load_weight(Stage& stage) const {
#pragma unroll
    for (int i = 0; i < Tile::kColumns; i += kAcross)
      cp_async<16, Tile::kWeightsPastL1>(stage.b.at(across() + i, along()), weight_ + int64_t{i} * padded_ + k_, true);
  }

  const ConvGemm<T>& p_;
  const T* input_[kPixels];
  const T* weight_;
  const GemmTap* table_;
  int top_[kPixels], left_[kPixels];
  int padded_, k_;
  GemmTap tap_;
  unsigned pairs_[kLoads];
  uint4 vectors_[kRound ? kPixels : 1];
};

}  // namespace convkit::cuda
