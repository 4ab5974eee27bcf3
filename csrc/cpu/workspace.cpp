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
  ~Arena() { resize(0); }
};

thread_local Arena arena;

}  // namespace

void* workspace(int64_t bytes) {
  if (bytes > arena.bytes) arena.resize(round_up(bytes, 4096));
  return arena.data;
}

int64_t workspace_bytes() { return total_bytes.load(); }

}  // namespace convkit
