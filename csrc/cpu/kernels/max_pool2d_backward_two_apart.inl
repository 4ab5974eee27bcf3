// Gradient of 3x3 max-pooling whose windows are two pixels apart, float32.
//
// The windows (o, p), (o, p + 1), (o + 1, p) and (o + 1, p + 1) meet in a square of 2x2 pixels: the first of these is
// the middle of window (o, p) and in no other, the last is a corner of all four. So nine comparisons serve four pixels,
// and which taps they ask for is known when this is compiled. Around the edges are windows that do not exist: dead
// ones, whose tap no pixel has.
#pragma once

#include "cpu/kernels/max_pool2d.h"
#include "cpu/kernels/vec.h"

namespace convkit {
namespace {

// won(k, tap): the gradient of window k of the four where `tap` won it, else 0. -> pixels, row by row; each is a sum
// over its windows in order.
template <typename Won>
inline void gather_square(Won won, Vec (&pixels)[4]) {
  pixels[0] = won(0, 4);
  pixels[1] = won(0, 5) + won(1, 3);
  pixels[2] = won(0, 7) + won(2, 1);
  pixels[3] = won(0, 8) + won(1, 6) + won(2, 2) + won(3, 0);
}

// Row h and the next of the gradient of image n, or nothing where the row before did it; channels_last.
void two_apart_channels_last_rows(const MaxPool2dBackward& pool, int64_t n, int64_t h) {
  const Pool2dShape& s = pool.shape;
  if ((h + s.pad_h) % 2 == 0 && h > 0) return;
  const int64_t first_h = (h + s.pad_h + 1) / 2 - 1, top = 2 * first_h - s.pad_h + 1;
  for (int64_t first_w = s.pad_w - 1, left = first_w; left < s.iw; ++first_w, left += 2) {
    const float* grad[4];
    const uint8_t* taps[4];
    bool alive[4];
    float* out[4];
    for (int k = 0; k < 4; ++k) {
      const int64_t oh = first_h + k / 2, ow = first_w + k % 2, row = top + k / 2, col = left + k % 2;
      alive[k] = oh >= 0 && oh < s.oh && ow >= 0 && ow < s.ow;
      const int64_t window = alive[k] ? ((n * s.oh + oh) * s.ow + ow) * s.c : 0;
      grad[k] = pool.grad_output + window, taps[k] = pool.taps + window;
      const bool inside = row >= 0 && row < s.ih && col >= 0 && col < s.iw;
      out[k] = inside ? pool.grad_input + ((n * s.ih + row) * s.iw + col) * s.c : nullptr;
    }
    const auto each_vector = [&](int64_t c, auto lanes) {
      Vec value[4], pixels[4];
      IntVec tap[4];
      for (int k = 0; k < 4; ++k) {
        value[k] = lanes.load(grad[k] + c) + Vec{};  // a sum, of which -0.0 is none
        tap[k] = alive[k] ? lanes.load_bytes(taps[k] + c) : broadcast_int(kDeadTap);
      }
      gather_square([&](int k, int32_t wanted) { return tap[k] == broadcast_int(wanted) ? value[k] : Vec{}; }, pixels);
      for (int k = 0; k < 4; ++k)
        if (out[k]) lanes.store_far(out[k] + c, pixels[k]);
    };
    for_each_vector_of(s.c, each_vector);
  }
}

template <int... Lane>
inline Vec interleave_low(Vec a, Vec b, std::integer_sequence<int, Lane...>) {
  return pick(a, b, std::integer_sequence<int, (Lane % 2 ? kLanes + Lane / 2 : Lane / 2)...>{});
}
template <int... Lane>
inline Vec interleave_high(Vec a, Vec b, std::integer_sequence<int, Lane...>) {
  return pick(a, b, std::integer_sequence<int, kLanes / 2 + (Lane % 2 ? kLanes + Lane / 2 : Lane / 2)...>{});
}
inline void interleave(Vec a, Vec b, Vec (&mixed)[2]) {
  constexpr auto kAll = std::make_integer_sequence<int, kLanes>{};
  mixed[0] = interleave_low(a, b, kAll), mixed[1] = interleave_high(a, b, kAll);
}

// Planes [begin, end), contiguous. Rows of windows are copied behind one another, with dead ones around, so that
// vectors run over the ends of narrow rows and planes; what they give, two rows of pixels for a row of windows, is
// copied out. A band of them at a time, which stays in L1.
void two_apart_planes(const MaxPool2dBackward& pool, int64_t begin, int64_t end, float* scratch) {
  const Pool2dShape s = pool.shape;  // a copy, of which compilers know that no store changes it
  const MaxPool2dSquares b = max_pool2d_squares(s);
  const int64_t room = round_up(b.band * b.width, kLanes), windows = room + b.width + kLanes;
  float *const pixel_rows = scratch, *const values = pixel_rows + 4 * room;
  uint8_t* const winners = reinterpret_cast<uint8_t*>(values + windows);
  std::memset(winners, kDeadTap, windows);  // columns that lie outside stay so
  const float* grad = pool.grad_output + begin * s.oh * s.ow;
  const uint8_t* taps = pool.taps + begin * s.oh * s.ow;
  float* out = pool.grad_input + begin * s.ih * s.iw;
  const int64_t all_rows = (end - begin) * (b.rows + 1);  // of windows; below the last of a plane are no squares
  int64_t oh = b.first_h, h = b.top, copied = 0;
  for (int64_t first = 0; first < all_rows; first += b.band) {
    const int64_t count = min(b.band, all_rows - first);
    for (; copied <= count && first + copied < all_rows; ++copied) {
      float* const value = values + copied * b.width - b.first_w;
      uint8_t* const winner = winners + copied * b.width - b.first_w;
      if (oh >= 0 && oh < s.oh) {
        for_each_vector_of(s.ow, [&](int64_t ow, auto lanes) {
          lanes.store(value + ow, lanes.load(grad + ow) + Vec{});  // a sum, of which -0.0 is none
          lanes.store_bytes(winner + ow, lanes.load_bytes(taps + ow));
        });
        grad += s.ow, taps += s.ow;
      } else {
        std::memset(winner + b.first_w, kDeadTap, b.width);
      }
      if (++oh > b.first_h + b.rows) oh = b.first_h;
    }
    for (int64_t at = 0; at < count * b.width; at += kLanes) {
      Vec pixels[4];
      const auto won = [&](int k, int32_t wanted) {
        const int64_t window = at + k / 2 * b.width + k % 2;
        return load_bytes(winners + window) == broadcast_int(wanted) ? load(values + window) : Vec{};
      };
      gather_square(won, pixels);
      for (int row = 0; row < 2; ++row) {
        Vec mixed[2];
        interleave(pixels[2 * row], pixels[2 * row + 1], mixed);
        for (int half = 0; half < 2; ++half) store(pixel_rows + 2 * (row * room + at) + half * kLanes, mixed[half]);
      }
    }
    for (int64_t r = 0; r < 2 * count; ++r) {
      if (h >= 0 && h < s.ih) {
        const float* from = pixel_rows + 2 * (r % 2 * room + r / 2 * b.width) - b.left;
        for_each_vector_of(s.iw, [&](int64_t w, auto lanes) { lanes.store_far(out + w, lanes.load(from + w)); });
        out += s.iw;
      }
      if (++h == b.top + 2 * (b.rows + 1)) h = b.top;
    }
    std::memcpy(values, values + count * b.width, b.width * sizeof(float));
    std::memcpy(winners, winners + count * b.width, b.width);
    copied = 1;
  }
}

}  // namespace
}  // namespace convkit
