#include "cpu/workspace.h"

#include <atomic>
#include <cstdlib>

#include "common/int_math.h"

namespace convkit {
namespace {

std::atomic<int64_t> total_bytes{0};

struct Arena {
  void* data = nullptr;
  int64_t bytes = 0;

  void resize(int64_t wanted) {
    std::free(data);
    data = wanted ? std::aligned_alloc(64, wanted) : nullptr;
    const int64_t now = data ? wanted : 0;
    total_bytes += now - bytes;
    bytes = now;
  }
  void* at_least(int64_t wanted) {
    if (wanted > bytes) resize(round_up(wanted, 4096));
    return data;
  }
  ~Arena() { resize(0); }
};

thread_local Arena task_arena, shared_arena;

}  // namespace

void* workspace(int64_t bytes) { return task_arena.at_least(bytes); }

void* shared_workspace(int64_t bytes) { return shared_arena.at_least(bytes); }

int64_t workspace_bytes() { return total_bytes.load(); }

}  // namespace convkit
