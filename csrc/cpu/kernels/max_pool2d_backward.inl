// Gradient of max-pooling, float32: every element of grad_input is written once, as the sum of the gradients of the
// windows that it won, in row-major order of the windows. No zero fill, no order that depends on threads.
//
// channels_last: a pixel's windows are listed, then vectors run over channels; windows side by side, of which a pixel
// has one, hand out their gradient instead. Contiguous: with a stride of kStride,
// pixels kStride * u + e of a row have the same windows for all u, at u plus a constant; a vector runs over u, the
// kStride vectors of all e are interleaved on their way out. Where a window lies outside, the tap that is wanted of it
// is one that none has, so that no edge needs a branch.
#pragma once

#include "cpu/kernels/max_pool2d_backward_two_apart.inl"

namespace convkit {
namespace {

// The outputs [first, last] along one dimension whose windows span a position; positions are visited in order.
struct WindowsOver {
  int64_t stride, pad, span, size;
  int64_t first = 0, last = -1;

  void move_to(int64_t position) {
    while (last + 1 < size && (last + 1) * stride - pad <= position) ++last;
    while (first <= last && first * stride - pad + span < position) ++first;
  }
};

// A window that may have been won by the pixel, which is at `tap` in it.
struct Candidate {
  const float* grad;
  const uint8_t* taps;
  int32_t tap;
};

// All channels of one pixel. kCount > 0: that many candidates; the loop over them unrolls.
template <int kCount>
inline void gather_channels(const Candidate* candidates, int64_t num_candidates, float* out, int64_t channels) {
  const int64_t last = kCount ? kCount : num_candidates;
  int64_t c = 0;
  for (; c + kLanes <= channels; c += kLanes) {
    Vec sum{};
#pragma GCC unroll 4
    for (int64_t k = 0; k < last; ++k) {
      const IntVec won = load_bytes(candidates[k].taps + c) == broadcast_int(candidates[k].tap);
      sum += won ? load(candidates[k].grad + c) : Vec{};
    }
    store_far(out + c, sum);
  }
  if (c == channels) return;
  Vec sum{};
  for (int64_t k = 0; k < last; ++k) {
    const IntVec won = load_first_bytes(candidates[k].taps + c, channels - c) == broadcast_int(candidates[k].tap);
    sum += won ? load_first(candidates[k].grad + c, channels - c) : Vec{};
  }
  store_first(out + c, sum, channels - c);
}

// A row of windows that lie side by side: each gradient is read once and written, or a zero, at every position.
void scatter_channels_last_row(const MaxPool2dBackward& pool, int64_t n, int64_t oh) {
  const Pool2dShape& s = pool.shape;
  float* rows = pool.grad_input + (n * s.ih + oh * s.kh) * s.iw * s.c;
  const int64_t first = (n * s.oh + oh) * s.ow * s.c;
  for (int64_t ow = 0; ow < s.ow; ++ow) {
    const float* grad = pool.grad_output + first + ow * s.c;
    const uint8_t* taps = pool.taps + first + ow * s.c;
    for_each_vector_of(s.c, [&](int64_t c, auto lanes) {
      const Vec value = lanes.load(grad + c) + Vec{};  // a sum, of which -0.0 is none
      const IntVec tap = lanes.load_bytes(taps + c);
      for (int64_t i = 0; i < s.kh; ++i)
        for (int64_t j = 0; j < s.kw; ++j) {
          const IntVec won = tap == broadcast_int(static_cast<int32_t>(i * s.kw + j));
          lanes.store_far(rows + (i * s.iw + ow * s.kw + j) * s.c + c, won ? value : Vec{});
        }
    });
  }
  const int64_t rest = s.iw - s.ow * s.kw;
  for (int64_t i = 0; rest > 0 && i < s.kh; ++i)
    std::memset(rows + (i * s.iw + s.ow * s.kw) * s.c, 0, rest * s.c * sizeof(float));
}

// Windows without gaps, overlaps, padding or, with ceil_mode, a part outside.
inline bool windows_side_by_side(const Pool2dShape& s) {
  return s.kh == s.stride_h && s.kw == s.stride_w && s.dilation_h == 1 && s.dilation_w == 1 && s.pad_h == 0 &&
         s.pad_w == 0 && s.oh * s.kh <= s.ih && s.ow * s.kw <= s.iw;
}

void max_pool2d_backward_channels_last_row(const MaxPool2dBackward& pool, int64_t n, int64_t h) {
  const Pool2dShape& s = pool.shape;
  if (windows_two_apart(s)) return two_apart_channels_last_rows(pool, n, h);
  if (windows_side_by_side(s) && h < s.oh * s.kh) {
    if (h % s.kh == 0) scatter_channels_last_row(pool, n, h / s.kh);
    return;
  }
  WindowsOver rows{s.stride_h, s.pad_h, (s.kh - 1) * s.dilation_h, s.oh};
  WindowsOver columns{s.stride_w, s.pad_w, (s.kw - 1) * s.dilation_w, s.ow};
  rows.move_to(h);
  for (int64_t w = 0; w < s.iw; ++w) {
    columns.move_to(w);
    Candidate candidates[kLargestByteArea];  // every one is at another position of its window
    int64_t count = 0;
    for (int64_t oh = rows.first; oh <= rows.last; ++oh) {
      const int64_t i = h + s.pad_h - oh * s.stride_h;
      if (s.dilation_h > 1 && i % s.dilation_h) continue;
      for (int64_t ow = columns.first; ow <= columns.last; ++ow) {
        const int64_t j = w + s.pad_w - ow * s.stride_w;
        if (s.dilation_w > 1 && j % s.dilation_w) continue;
        const int64_t tap =
            s.dilation_h == 1 && s.dilation_w == 1 ? i * s.kw + j : i / s.dilation_h * s.kw + j / s.dilation_w;
        const int64_t window = ((n * s.oh + oh) * s.ow + ow) * s.c;
        candidates[count++] = {pool.grad_output + window, pool.taps + window, static_cast<int32_t>(tap)};
      }
    }
    float* out = pool.grad_input + ((n * s.ih + h) * s.iw + w) * s.c;
    switch (count) {
      case 0:
        std::memset(out, 0, s.c * sizeof(float));
        break;
      case 1:
        gather_channels<1>(candidates, 1, out, s.c);
        break;
      case 2:
        gather_channels<2>(candidates, 2, out, s.c);
        break;
      case 4:
        gather_channels<4>(candidates, 4, out, s.c);
        break;
      default:
        gather_channels<0>(candidates, count, out, s.c);
    }
  }
}

constexpr int32_t kNoTap = -1000;  // below every tap, also with a row's first tap added

// One column of the window, seen from the pixels kStride * u + e: its windows are at u + offset.
struct WindowColumn {
  int64_t offset;
  const int32_t* wanted;  // [u], the column, or kNoTap where the window lies outside
};

// The columns of each e: columns[e * kw], ..., in the order of their windows. Fills `wanted`, [kw, u].
template <int kStride>
void list_columns(const Pool2dShape& s, int32_t* wanted, WindowColumn* columns, int64_t* num_columns) {
  const int64_t padded = max_pool2d_backward_row(s, kLanes);
  for (int e = 0; e < kStride; ++e) {
    num_columns[e] = 0;
    for (int64_t j = s.kw - 1; j >= 0; --j) {
      const int64_t distance = e + s.pad_w - j;
      if (distance % kStride) continue;
      int32_t* row = wanted + j * padded;
      const int64_t offset = distance / kStride;
      for (int64_t u = 0; u < padded; ++u) {
        const int64_t ow = u + offset;
        row[u] = ow >= 0 && ow < s.ow ? static_cast<int32_t>(j) : kNoTap;
      }
      columns[e * s.kw + num_columns[e]++] = {offset, row};
    }
  }
}

inline void store_within(float* out, Vec v, int64_t room) {
  if (room >= kLanes)
    store_far(out, v);
  else if (room > 0)
    store_first(out, v, room);
}

// pixels[e][u] -> out[kStride * u + e]; only the first `room` are written.
template <int kStride>
inline void store_interleaved(float* out, const Vec* pixels, int64_t room) {
  Vec mixed[kStride];
  if constexpr (kStride == 1)
    mixed[0] = pixels[0];
  else if constexpr (kStride == 2)
    interleave(pixels[0], pixels[1], mixed);
  else
    for (int i = 0; i < kStride * kLanes; ++i) mixed[i / kLanes][i % kLanes] = pixels[i % kStride][i / kStride];
  for (int e = 0; e < kStride; ++e) store_within(out + e * kLanes, mixed[e], room - e * kLanes);
}

// Rows of one plane, in order. `grad` and `taps` are that plane's and may be read a little before and behind it. A
// vector may run over a row's end, where a later row overwrites that: `end` is the end of what may be written.
// kColumns is num_columns with a stride of one, or 0: any.
template <int kStride, int kColumns>
void gather_plane(const Pool2dShape& shape, const float* grad, const uint8_t* taps, float* out, float* end,
                  const WindowColumn* columns, const int64_t* num_columns) {
  // Copies, of which compilers know that no store changes them.
  const Pool2dShape s = shape;
  WindowColumn known[kColumns + 1];
  for (int k = 0; k < kColumns; ++k) known[k] = columns[k];
  WindowsOver rows{s.stride_h, s.pad_h, s.kh - 1, s.oh};
  for (int64_t h = 0; h < s.ih; ++h, out += s.iw) {
    rows.move_to(h);
    const int64_t first = rows.first, last = rows.last, tap = (h + s.pad_h - first * s.stride_h) * s.kw;
    for (int64_t u = 0; u * kStride < s.iw; u += kLanes) {
      Vec pixels[kStride] = {};
      IntVec first_tap = broadcast_int(static_cast<int32_t>(tap));
      int64_t at = first * s.ow + u;
      for (int64_t oh = first; oh <= last; ++oh) {
        const auto gather = [&](int e, auto known_count) {
          constexpr int kCount = known_count;
          const int64_t count = kCount ? kCount : num_columns[e];
#pragma GCC unroll 4
          for (int64_t k = 0; k < count; ++k) {
            const auto [offset, wanted] = kCount ? known[k] : columns[e * s.kw + k];
            const IntVec won = load_bytes(taps + at + offset) == load(wanted + u) + first_tap;
            pixels[e] += won ? load(grad + at + offset) : Vec{};
          }
        };
        gather(0, std::integral_constant<int, kColumns>{});
        if constexpr (kStride > 1) gather(1, std::integral_constant<int, 0>{});
        if constexpr (kStride > 2) gather(2, std::integral_constant<int, 0>{});
        first_tap -= broadcast_int(static_cast<int32_t>(s.stride_h * s.kw));
        at += s.ow;
      }
      float* to = out + u * kStride;
      store_interleaved<kStride>(to, pixels, end - to);
    }
  }
}

// Windows side by side that are two pixels wide: each gradient is read once and written, or a zero, at every position.
// Vectors run over a row's end, as in gather_plane, but write zeros there.
void scatter_pairs(const MaxPool2dBackward& pool, int64_t begin, int64_t end) {
  const Pool2dShape& s = pool.shape;
  const float* grad = pool.grad_output + begin * s.oh * s.ow;
  const uint8_t* taps = pool.taps + begin * s.oh * s.ow;
  float *out = pool.grad_input + begin * s.ih * s.iw, *const out_end = pool.grad_input + end * s.ih * s.iw;
  const int64_t rows_left = s.ih - s.oh * s.kh;
  for (int64_t p = begin; p < end; ++p) {
    for (int64_t oh = 0; oh < s.oh; ++oh, grad += s.ow, taps += s.ow) {
      for (int64_t i = 0; i < s.kh; ++i, out += s.iw) {
        const IntVec first_tap = broadcast_int(static_cast<int32_t>(2 * i)), second_tap = first_tap + 1;
        for_each_vector_of(s.ow, [&](int64_t ow, auto lanes) {
          const Vec value = lanes.load(grad + ow) + Vec{};  // a sum, of which -0.0 is none
          const IntVec tap = lanes.load_bytes(taps + ow);
          float* const to = out + 2 * ow;
          const Vec pixels[] = {tap == first_tap ? value : Vec{}, tap == second_tap ? value : Vec{}};
          store_interleaved<2>(to, pixels, out_end - to);
        });
        if (s.iw > 2 * s.ow) std::memset(out + 2 * s.ow, 0, (s.iw - 2 * s.ow) * sizeof(float));
      }
    }
    std::memset(out, 0, rows_left * s.iw * sizeof(float));
    out += rows_left * s.iw;
  }
}

template <int kStride>
void gather_planes(const MaxPool2dBackward& pool, int64_t begin, int64_t end, float* scratch) {
  const Pool2dShape& s = pool.shape;
  const int64_t windows = s.oh * s.ow, pixels = s.ih * s.iw, margin = max_pool2d_backward_margin(s, kLanes);
  WindowColumn columns[kStride * kLargestByteArea];
  int64_t num_columns[kStride];
  int32_t* wanted = reinterpret_cast<int32_t*>(scratch);
  list_columns<kStride>(s, wanted, columns, num_columns);
  auto gather = gather_plane<kStride, 0>;
  if constexpr (kStride == 1)
    if (s.kw == 3) gather = gather_plane<1, 3>;
  float* grad_copy = scratch + s.kw * max_pool2d_backward_row(s, kLanes);
  uint8_t* taps_copy = reinterpret_cast<uint8_t*>(grad_copy + windows + 2 * margin);
  for (int64_t p = begin; p < end; ++p) {
    const float* grad = pool.grad_output + p * windows;
    const uint8_t* taps = pool.taps + p * windows;
    if (p * windows < margin || (s.n * s.c - p - 1) * windows < margin) {  // nothing of the tensor beyond to read
      std::memcpy(grad_copy + margin, grad, windows * sizeof(float));
      std::memcpy(taps_copy + margin, taps, windows);
      grad = grad_copy + margin, taps = taps_copy + margin;
    }
    gather(s, grad, taps, pool.grad_input + p * pixels, pool.grad_input + end * pixels, columns, num_columns);
  }
}

void max_pool2d_backward_planes(const MaxPool2dBackward& pool, int64_t begin, int64_t end, float* scratch) {
  const Pool2dShape& s = pool.shape;
  if (windows_two_apart(s)) return two_apart_planes(pool, begin, end, scratch);
  if (windows_side_by_side(s) && s.kw == 2) return scatter_pairs(pool, begin, end);
  switch (s.stride_w) {
    case 1:
      return gather_planes<1>(pool, begin, end, scratch);
    case 2:
      return gather_planes<2>(pool, begin, end, scratch);
    default:
      return gather_planes<3>(pool, begin, end, scratch);
  }
}

}  // namespace
}  // namespace convkit
