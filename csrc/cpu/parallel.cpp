#include "cpu/parallel.h"

#include <pthread.h>
#include <torch/csrc/stable/ops.h>

#include <atomic>

namespace convkit {
namespace {

// A second thread costs 1 to 2 us while it waits for work, as between the layers of a network, and 10 to 20 once it
// sleeps. This many elements of a vectorised loop over memory take 8 us.
constexpr double kSerialWork = 1 << 17;

std::atomic<bool> in_forked_child{false};

[[maybe_unused]] const int fork_handler =
    pthread_atfork(nullptr, nullptr, [] { in_forked_child.store(true, std::memory_order_relaxed); });

}  // namespace

void parallel_tasks(int64_t tasks, double work, const std::function<void(int64_t)>& body) {
  if (tasks <= 1 || work < kSerialWork || in_forked_child.load(std::memory_order_relaxed)) {
    for (int64_t i = 0; i < tasks; ++i) body(i);
    return;
  }
  torch::stable::parallel_for(0, tasks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(i);
  });
}

bool several_threads() {
  return torch::stable::get_num_threads() > 1 && !in_forked_child.load(std::memory_order_relaxed);
}

}  // namespace convkit
