// The transforms of Winograd convolution F(tile x tile, window x window), for tile + window - 1 = 4 or 6:
//
//   output tile = A^T [ (G w G^T) * (B^T d B) ] A        d: a patch of the input, w: a window
//
// A tile is a product of polynomials (Toom-Cook): its coefficients are found from values at as many points as the patch
// is wide. G and A evaluate a polynomial at these points, each with its scale in G, and their transposes collect what
// was computed there. Four points are 0, +-1 and infinity, six 0, +-3/4, +-3/2 and infinity: these keep the numbers
// small and exact in binary, which halves the rounding error of the usual 0, +-1, +-2.
//
// Within a dimension no sum has two products: of those a compiler may contract either with the addition, and every copy
// of the code must give the same bits. The second dimension adds products of the first, 0.75 * x among them: there
// tests compare the copies.
#pragma once

#include "cpu/kernels/vec.h"

namespace convkit {
namespace {

template <int Patch>
struct WinogradPoints;

template <>
struct WinogradPoints<4> {
  // The value at infinity is the coefficient of the highest power.
  template <int N>
  static void evaluate(const Vec (&a)[N], Vec (&v)[4]) {
    static_assert(N == 2 || N == 3);
    const Vec even = N == 3 ? a[0] + a[N - 1] : a[0];
    v[0] = a[0];
    v[1] = even + a[1];
    v[2] = even - a[1];
    v[3] = a[N - 1];
  }

  template <int N>
  static void collect(const Vec (&v)[4], Vec (&a)[N]) {
    static_assert(N == 2 || N == 3);
    const Vec sum = v[1] + v[2], difference = v[1] - v[2];
    a[0] = v[0] + sum;
    a[1] = difference;
    a[N - 1] = (N == 3 ? sum : difference) + v[3];
  }

  static void scale(Vec (&v)[4]) {
    v[1] *= 0.5f;
    v[2] *= 0.5f;
  }

  static void input(const Vec (&d)[4], Vec (&v)[4]) {
    v[0] = d[0] - d[2];
    v[1] = d[2] + d[1];
    v[2] = d[2] - d[1];
    v[3] = d[3] - d[1];
  }
};

template <>
struct WinogradPoints<6> {
  // Opposite points share their even and odd parts.
  template <int N>
  static void evaluate(const Vec (&a)[N], Vec (&v)[6]) {
    static_assert(2 <= N && N <= 5);
    Vec even1 = a[0], even2 = a[0], odd1 = a[1], odd2 = a[1];
    if constexpr (N > 2) even1 += 0.5625f * a[2], even2 += 2.25f * a[2];
    if constexpr (N > 3) odd1 += 0.5625f * a[3], odd2 += 2.25f * a[3];
    if constexpr (N > 4) even1 += 0.31640625f * a[4], even2 += 5.0625f * a[4];
    v[0] = a[0];
    v[1] = even1 + 0.75f * odd1;
    v[2] = even1 - 0.75f * odd1;
    v[3] = even2 + 1.5f * odd2;
    v[4] = even2 - 1.5f * odd2;
    v[5] = a[N - 1];
  }

  template <int N>
  static void collect(const Vec (&v)[6], Vec (&a)[N]) {
    static_assert(2 <= N && N <= 5);
    const Vec sum1 = v[1] + v[2], difference1 = v[1] - v[2], sum2 = v[3] + v[4], difference2 = v[3] - v[4];
    // The same power of both points, whose ratio is a power of 2.
    const auto power = [&](bool last, const Vec& first, float of_first, const Vec& second, float of_second) {
      return last ? of_first * first + (of_second * second + v[5]) : of_first * (first + of_second / of_first * second);
    };
    a[0] = v[0] + sum1 + sum2;
    a[1] = power(N == 2, difference1, 0.75f, difference2, 1.5f);
    if constexpr (N > 2) a[2] = power(N == 3, sum1, 0.5625f, sum2, 2.25f);
    if constexpr (N > 3) a[3] = power(N == 4, difference1, 0.421875f, difference2, 3.375f);
    if constexpr (N > 4) a[4] = power(N == 5, sum1, 0.31640625f, sum2, 5.0625f);
  }

  static void scale(Vec (&v)[6]) {
    constexpr float kScale0 = 64.0f / 81, kScale1 = -128.0f / 243, kScale2 = 32.0f / 243;
    v[0] *= kScale0;
    v[1] *= kScale1, v[2] *= kScale1;
    v[3] *= kScale2, v[4] *= kScale2;
  }

  static void input(const Vec (&d)[6], Vec (&v)[6]) {
    const Vec even1 = d[4] - 2.25f * d[2], odd1 = d[3] - 2.25f * d[1];
    const Vec even2 = d[4] - 0.5625f * d[2], odd2 = d[3] - 0.5625f * d[1];
    v[0] = 1.265625f * d[0] + (d[4] - 2.8125f * d[2]);
    v[1] = even1 + 0.75f * odd1;
    v[2] = even1 - 0.75f * odd1;
    v[3] = even2 + 1.5f * odd2;
    v[4] = even2 - 1.5f * odd2;
    v[5] = 1.265625f * d[1] + (d[5] - 2.8125f * d[3]);
  }
};

// What one dimension of each transform does.
template <int Tile, int Window>
struct Winograd {
  static constexpr int kTile = Tile, kWindow = Window, kPatch = Tile + Window - 1;
  static constexpr int kPoints = kPatch * kPatch, kTaps = Window * Window;
  using Points = WinogradPoints<kPatch>;

  static constexpr auto kInput = [](const Vec (&d)[kPatch], Vec (&v)[kPatch]) { Points::input(d, v); };
  static constexpr auto kWeight = [](const Vec (&w)[Window], Vec (&u)[kPatch]) {
    Points::evaluate(w, u);
    Points::scale(u);
  };
  static constexpr auto kOutput = [](const Vec (&m)[kPatch], Vec (&y)[Tile]) { Points::collect(m, y); };
  static constexpr auto kGradOutput = [](const Vec (&y)[Tile], Vec (&m)[kPatch]) { Points::evaluate(y, m); };
  static constexpr auto kGradWeight = [](const Vec (&u)[kPatch], Vec (&w)[Window]) {
    Vec scaled[kPatch];
    for (int i = 0; i < kPatch; ++i) scaled[i] = u[i];
    Points::scale(scaled);
    Points::collect(scaled, w);
  };
};

// Vectors of a tile: element (i, j) at data + i * row + j * col.
template <typename T>
struct TileView {
  T* data;
  int64_t row, col;
};

// The same in two dimensions, columns first: finish(place of [i][j], sum over r, s of T[i][r] in[r][s] T[j][s]).
template <int In, int Out, typename Transform, typename From, typename To, typename Finish>
[[gnu::always_inline]] inline void transform_2d(Transform transform, TileView<const From> from, TileView<To> to,
                                                Finish finish) {
  Vec columns[Out][In];
#pragma GCC unroll 6
  for (int s = 0; s < In; ++s) {
    Vec in[In], out[Out];
#pragma GCC unroll 6
    for (int r = 0; r < In; ++r) in[r] = load(from.data + r * from.row + s * from.col);
    transform(in, out);
#pragma GCC unroll 6
    for (int i = 0; i < Out; ++i) columns[i][s] = out[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < Out; ++i) {
    Vec out[Out];
    transform(columns[i], out);
#pragma GCC unroll 6
    for (int j = 0; j < Out; ++j) finish(to.data + i * to.row + j * to.col, out[j]);
  }
}

// The last step of a transform.
constexpr auto kStore = [](auto* place, Vec value) { store(place, value); };
constexpr auto kStoreFar = [](auto* place, Vec value) { store_far(place, value); };

}  // namespace
}  // namespace convkit
