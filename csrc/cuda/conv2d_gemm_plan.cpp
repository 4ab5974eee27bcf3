#include "cuda/conv2d_gemm_plan.h"

#include "common/check.h"
#include "common/conv2d_phase.h"
#include "common/half.h"

namespace convkit::cuda {
namespace {

constexpr int64_t kLargest = int64_t{1} << 29;  // of an extent, a position or a depth: sums of two stay 32-bit
constexpr int64_t kLargestGrid = 65535;         // along y and z
constexpr int64_t kLargestTiles = 0x7FFFFFFF;   // along x

std::string refuse_sizes(const Conv2dShape& s) {
  const int64_t extents[] = {s.n, s.ic, s.ih, s.iw, s.oc, s.oh, s.ow, s.stride_h, s.stride_w};
  for (const int64_t extent : extents)
    if (extent > kLargest) return concat("a size or stride of ", extent, " is above ", kLargest);
  const int64_t window_h = (s.kh - 1) * s.dilation_h, window_w = (s.kw - 1) * s.dilation_w;
  const int64_t last = max((s.oh - 1) * s.stride_h, (s.ow - 1) * s.stride_w);
  if (max(max(max(window_h, window_w), last), max(s.pad_top, s.pad_left)) > kLargest)
    return "its window or padding is too large";
  if (s.kh * s.kw > kLargest || max(s.group_ic(), s.group_oc()) * s.kh * s.kw > kLargest)
    return "a window has too many products";
  if (s.groups > kLargestGrid) return concat("more than ", kLargestGrid, " groups");
  return "";
}

std::string refuse_tiles(int64_t rows, int64_t columns) {
  return ceil_div(rows, 64) * ceil_div(columns, 64) > kLargestTiles ? "its output has too many tiles" : "";
}

// What all directions take from the input and its window.
template <typename T, typename Out>
ConvGemm<T, Out> gemm_over(const View4d<const T>& input, int64_t n, int64_t ih, int64_t iw, int64_t channels,
                           int64_t filters) {
  ConvGemm<T, Out> p{};
  p.input = input;
  p.n = n, p.ih = ih, p.iw = iw, p.channels = channels, p.filters = filters;
  p.stride_h = p.stride_w = 1;
  p.columns = round_up(filters, filters > 64 ? 128 : 64);  // whole tiles
  p.vector = load_vector(input, channels);
  return p;
}

// Appends a phase behind the tables and packed weights of those before it.
template <typename T, typename Out>
void add_phase(ConvGemm<T, Out>& p, GemmPhase phase) {
  phase.table = table_entries(p), phase.packed = packed_elements(p);
  phase.pitch = phase.ow;
  p.phases[p.phase_count++] = phase;
}

GemmPhase forward_phase(const Conv2dShape& s) {
  GemmPhase phase{};
  phase.oh = s.oh, phase.ow = s.ow;
  phase.top = -s.pad_top, phase.left = -s.pad_left;
  phase.kh = s.kh, phase.kw = s.kw;
  phase.dilation_h = s.dilation_h, phase.dilation_w = s.dilation_w;
  return phase;
}

bool is_aligned(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

}  // namespace

template <typename T>
int32_t load_vector(const View4d<const T>& x, int64_t channels) {
  constexpr int64_t kLanes = 16 / sizeof(T);
  const bool fits = x.c == 1 && channels % kLanes == 0 && x.n % kLanes == 0 && x.h % kLanes == 0 && x.w % kLanes == 0 &&
                    is_aligned(x.data);
  return fits ? kLanes : 1;
}

std::string refuse_forward_gemm(const Conv2dShape& s) {
  const std::string refusal = refuse_sizes(s);
  return refusal.empty() ? refuse_tiles(s.n * s.oh * s.ow, s.group_oc()) : refusal;
}

std::string refuse_backward_input_gemm(const Conv2dShape& s) {
  const std::string refusal = refuse_sizes(s);
  return refusal.empty() ? refuse_tiles(s.n * s.ih * s.iw, s.group_ic()) : refusal;
}

std::string refuse_backward_weight_gemm(const Conv2dShape& s) {
  const std::string refusal = refuse_sizes(s);
  return refusal.empty() ? refuse_tiles(s.group_oc(), s.group_ic() * s.kh * s.kw) : refusal;
}

template <typename T>
ConvGemm<T> forward_gemm(const Conv2dShape& s, const View4d<const T>& input, const View4d<const T>& weight,
                         const View4d<T>& output) {
  auto p = gemm_over<T, T>(input, s.n, s.ih, s.iw, s.group_ic(), s.group_oc());
  p.output = output;
  p.groups = s.groups;
  p.stride_h = s.stride_h, p.stride_w = s.stride_w;
  p.weight = weight.data;
  p.weight_group = s.group_oc() * weight.n, p.weight_filter = weight.n, p.weight_channel = weight.c;
  GemmPhase phase = forward_phase(s);
  phase.weight_h = weight.h, phase.weight_w = weight.w;
  add_phase(p, phase);
  return p;
}

int64_t phase_total(const Conv2dShape& s) { return min(s.stride_h, s.ih) * min(s.stride_w, s.iw); }

template <typename T>
ConvGemm<T> backward_input_gemm(const Conv2dShape& s, const View4d<const T>& grad_output, const View4d<const T>& weight,
                                const View4d<T>& grad_input, int64_t first) {
  auto p = gemm_over<T, T>(grad_output, s.n, s.oh, s.ow, s.group_oc(), s.group_ic());
  p.output = grad_input;
  // Neighbouring pixels of a phase are a stride apart.
  p.output.h *= s.stride_h, p.output.w *= s.stride_w;
  p.groups = s.groups;
  p.weight = weight.data;
  p.weight_group = s.group_oc() * weight.n, p.weight_filter = weight.c, p.weight_channel = weight.n;
  const int64_t across = min(s.stride_w, s.iw);
  for (int64_t i = first; i < min(first + kMaxPhases, phase_total(s)); ++i) {
    const int64_t h0 = i / across, w0 = i % across;
    const Phase h = make_phase(h0, s.stride_h, s.pad_top, s.dilation_h, s.kh, s.ih);
    const Phase w = make_phase(w0, s.stride_w, s.pad_left, s.dilation_w, s.kw, s.iw);
    GemmPhase phase{};
    phase.oh = h.size, phase.ow = w.size;
    phase.top = -h.pad, phase.left = -w.pad;
    phase.kh = w.taps ? h.taps : 0, phase.kw = h.taps ? w.taps : 0;  // zeros where no tap meets the phase
    phase.dilation_h = h.dilation, phase.dilation_w = w.dilation;
    if (phase.kh) phase.weight = h.last() * weight.h + w.last() * weight.w;
    phase.weight_h = -h.step * weight.h, phase.weight_w = -w.step * weight.w;
    phase.output = h0 * grad_input.h + w0 * grad_input.w;
    add_phase(p, phase);
  }
  return p;
}

template <typename T>
ConvGemm<T, float> backward_weight_gemm(const Conv2dShape& s, const View4d<const T>& input,
                                        const View4d<const T>& grad_output, const View4d<float>& grad_weight) {
  auto p = gemm_over<T, float>(input, s.n, s.ih, s.iw, s.group_ic(), s.group_oc());
  if (load_vector(grad_output, s.group_oc()) != p.vector) p.vector = 1;
  p.grad_output = grad_output;
  p.output = grad_weight;
  p.groups = s.groups;
  p.stride_h = s.stride_h, p.stride_w = s.stride_w;
  add_phase(p, forward_phase(s));
  return p;
}

// How many more pixels a row of a phase has where all taps of a row of the window have theirs as neighbours. Those of
// the padding at the end of a row are those at the begin of the next, too.
template <typename T>
int64_t more_pixels(const ConvGemm<T>& p, const GemmPhase& phase) {
  const int64_t more = max(phase.kw - 1, 0) * int64_t{phase.dilation_w};
  const int64_t padding_left = -int64_t{phase.left}, padding_right = phase.ow + more - padding_left - p.iw;
  return more - clamp(min(padding_left, padding_right), 0, more);
}

// Not where an input is read two apart or by fewer channels than a step has, nor where more than a quarter of the rows
// would be in vain: shared loads save a quarter of a step's time.
template <typename T>
void shift_rows(ConvGemm<T>& p) {
  constexpr int kMostWaste = 4;
  if (p.stride_w != 1 || p.channels % (kChannelBytes / static_cast<int>(sizeof(T)))) return;
  int32_t widest = 1;
  for (int i = 0; i < p.phase_count; ++i) {
    const GemmPhase& phase = p.phases[i];
    if ((phase.kw - 1) * int64_t{phase.dilation_w} > kMoreRows || kMostWaste * more_pixels(p, phase) > phase.ow) return;
    widest = max(widest, phase.kw);
  }
  if (widest == 1) return;
  p.shifted = true;
  for (int i = 0; i < p.phase_count; ++i) p.phases[i].pitch += more_pixels(p, p.phases[i]);
}

template <typename T, typename Out>
StoreOrder store_order(const ConvGemm<T, Out>& p) {
  const View4d<Out>& y = p.output;
  const GemmPhase& phase = p.phases[0];
  constexpr int64_t kLanes = 16 / sizeof(Out);
  if (!is_aligned(y.data) || y.n % kLanes || p.split_stride % kLanes) return StoreOrder::kScalar;
  if (y.c == 1 && p.filters % kLanes == 0 && y.h % kLanes == 0 && y.w % kLanes == 0) {
    for (int i = 0; i < p.phase_count; ++i)
      if (p.phases[i].output % kLanes) return StoreOrder::kScalar;
    return StoreOrder::kFilters;
  }
  const int64_t pixels = int64_t{phase.oh} * phase.ow;
  const bool dense = p.phase_count == 1 && y.w == 1 && y.h == phase.ow && y.c % kLanes == 0 && pixels % kLanes == 0;
  return dense ? StoreOrder::kPixels : StoreOrder::kScalar;
}

template <typename T>
StoreOrder backward_weight_store_order(const ConvGemm<T, float>& p) {
  const View4d<float>& y = p.output;
  const GemmPhase& phase = p.phases[0];
  const bool channels_inner = p.vector > 1;
  const bool dense = channels_inner ? y.c == 1 && y.w == p.channels && y.h == y.w * phase.kw
                                    : y.w == 1 && y.h == phase.kw && y.c == y.h * phase.kh;
  const bool whole = int64_t{p.channels} * phase.kh * phase.kw % 4 == 0 && y.n % 4 == 0 && p.split_stride % 4 == 0;
  return dense && whole && is_aligned(y.data) ? StoreOrder::kFilters : StoreOrder::kScalar;
}

template <typename T, typename Out>
int64_t table_entries(const ConvGemm<T, Out>& p) {
  int64_t entries = 0;
  for (int i = 0; i < p.phase_count; ++i)
    entries += padded_depth(int64_t{p.channels} * p.phases[i].kh * p.phases[i].kw) / p.vector;
  return entries;
}

template <typename T, typename Out>
int64_t packed_elements(const ConvGemm<T, Out>& p) {
  return table_entries(p) * p.vector * p.columns * p.groups;
}

#define CONVKIT_GEMM(T)                                                                                                \
  template int32_t load_vector(const View4d<const T>&, int64_t);                                                       \
  template ConvGemm<T> forward_gemm(const Conv2dShape&, const View4d<const T>&, const View4d<const T>&,                \
                                    const View4d<T>&);                                                                 \
  template ConvGemm<T> backward_input_gemm(const Conv2dShape&, const View4d<const T>&, const View4d<const T>&,         \
                                           const View4d<T>&, int64_t);                                                 \
  template ConvGemm<T, float> backward_weight_gemm(const Conv2dShape&, const View4d<const T>&, const View4d<const T>&, \
                                                   const View4d<float>&);                                              \
  template void shift_rows(ConvGemm<T>&);                                                                              \
  template StoreOrder store_order(const ConvGemm<T>&);                                                                 \
  template StoreOrder backward_weight_store_order(const ConvGemm<T, float>&);                                          \
  template int64_t table_entries(const ConvGemm<T>&);                                                                  \
  template int64_t packed_elements(const ConvGemm<T>&);
CONVKIT_GEMM(float)
CONVKIT_GEMM(Half)
CONVKIT_GEMM(BFloat16)
template int64_t table_entries(const ConvGemm<Half, float>&);
template int64_t table_entries(const ConvGemm<BFloat16, float>&);

}  // namespace convkit::cuda
