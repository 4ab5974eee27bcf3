#include "cpu/limits.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <vector>

#include "common/int_math.h"
#include "cpu/isa.h"
#include "cpu/parallel.h"

namespace convkit {
namespace {

constexpr double kWork = 1e12;  // never too little for a thread of its own
constexpr int kWindows = 15;
constexpr double kWindowSeconds = 0.008;  // a window is long beside the start of the threads

// What the kernels return goes here, so that no compiler leaves them out.
std::atomic<float> sink;

// The best of several windows: units of work a second, where body(task) does `units` and every thread has one task.
template <typename Body>
double best_rate(int64_t threads, double units, const Body& body) {
  using Clock = std::chrono::steady_clock;
  int64_t repeats = 1;
  double best = 0;
  for (int window = 0; window < kWindows;) {
    const auto start = Clock::now();
    parallel_tasks(threads, kWork, [&](int64_t task) {
      for (int64_t i = 0; i < repeats; ++i) body(task);
    });
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    if (seconds < kWindowSeconds) {
      repeats *= 2;  // still too short: not counted
      continue;
    }
    best = std::max(best, static_cast<double>(threads) * static_cast<double>(repeats) * units / seconds);
    ++window;
  }
  return best;
}

using Buffers = std::vector<std::unique_ptr<float[]>>;

Buffers buffers(int64_t threads, int64_t floats) {
  Buffers all(threads);
  for (auto& buffer : all) buffer.reset(new float[floats]);
  // Touched first by the thread that uses it later.
  parallel_tasks(threads, kWork, [&](int64_t task) { std::fill_n(all[task].get(), floats, 1.0f); });
  return all;
}

int64_t whole_floats(int64_t bytes) {
  const int64_t step = 8 * kernels().vector_floats;
  return max(1, bytes / 4 / step) * step;
}

}  // namespace

double measure_multiply_add_rate(int64_t threads) {
  constexpr int64_t kSteps = 4096;
  const LimitKernels& kernel = kernels().limits;
  return best_rate(threads, static_cast<double>(kSteps) * kernel.operations_per_step,
                   [&](int64_t) { sink = kernel.multiply_add(kSteps); });
}

double measure_read_rate(int64_t threads, int64_t bytes) {
  const int64_t floats = whole_floats(bytes);
  const auto data = buffers(threads, floats);
  return best_rate(threads, 4.0 * static_cast<double>(floats),
                   [&](int64_t task) { sink = kernels().limits.read(data[task].get(), floats); });
}

double measure_copy_rate(int64_t threads, int64_t bytes) {
  const int64_t floats = whole_floats(bytes / 2);
  const auto from = buffers(threads, floats);
  // A distance of a multiple of 4 KiB would make loads wait for stores to look-alike addresses.
  constexpr int64_t kApart = 272;
  const auto to = buffers(threads, floats + kApart);
  return best_rate(threads, 8.0 * static_cast<double>(floats), [&](int64_t task) {
    std::memcpy(to[task].get() + kApart, from[task].get(), static_cast<size_t>(floats) * 4);
    sink = to[task][kApart];
  });
}

}  // namespace convkit
