#include "memory.h"

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "simt.h"

namespace simt {
namespace {

// Who last stored a byte, or loaded it since.
struct Access {
  uint32_t run = 0;  // of global memory the launch, of shared memory the block; what was before does not count
  int block = -1, thread = -1, warp = -1;
  uint32_t epoch = 0, warp_epoch = 0;
  uint64_t number = 0;  // of a store, in order of time
};
constexpr int kSeveral = -2;  // threads, or warps

struct Byte {
  Access store, load;
  uint32_t arriving = 0;  // the block in which an asynchronous copy is under way
};

struct Region {
  uintptr_t begin, end;
  bool writable;
  std::vector<Access> stores;
};

struct Copy {
  char* shared = nullptr;
  char bytes[16] = {};
  size_t size = 0;
};
struct Copies {
  std::vector<Copy> open;
  std::vector<std::vector<Copy>> groups;
};

std::vector<Region> regions;
const char *parameters, *parameters_end;  // of the kernel
uint32_t launch = 0, block = 0;           // counted from 1
alignas(1024) char shared[kSharedBytes];
Byte shared_bytes[kSharedBytes];
size_t shared_size = 0;  // that the block asked for
Copies copies[1024];     // by thread
struct Arrival {
  size_t expected = 0;
  bool started = false;  // a round, by `expect`
  unsigned parity = 0;   // of the round
  std::vector<Copy> copies;
};
std::map<void*, Arrival> arrivals;
uint64_t stores = 0;
uint64_t fenced[1024];  // by thread: its stores up to this number

std::string hex(uintptr_t address) {
  char text[32];
  snprintf(text, sizeof text, "%#zx", static_cast<size_t>(address));
  return text;
}

// Whether nothing orders an earlier access of this run before one at `now`.
bool unordered(const Access& earlier, uint32_t run, const Position& now) {
  if (earlier.run != run || earlier.thread == now.thread || earlier.epoch != now.epoch) return false;
  return earlier.warp != now.warp || earlier.warp_epoch == now.warp_epoch;
}

Access access_at(uint32_t run, const Position& now) {
  return {run, now.block, now.thread, now.warp, now.epoch, now.warp_epoch, ++stores};
}

void check_shared(uintptr_t address, size_t size, bool is_store) {
  const size_t offset = address - reinterpret_cast<uintptr_t>(shared);
  const Position& now = position();
  const std::string what = is_store ? "a store to" : "a load from";
  if (offset + size > shared_size)
    fail(what + " shared memory, bytes " + std::to_string(offset) + " to " + std::to_string(offset + size) + " of " +
         std::to_string(shared_size));
  const auto where = [&](size_t i) { return " byte " + std::to_string(i) + " of shared memory"; };
  for (size_t i = offset; i < offset + size; ++i) {
    Byte& byte = shared_bytes[i];
    if (byte.arriving == block) fail(what + where(i) + ", where an asynchronous copy has not been waited for");
    if (unordered(byte.store, block, now))
      fail(what + where(i) + " without a barrier after the store of thread " + std::to_string(byte.store.thread));
    if (is_store) {
      if (unordered(byte.load, block, now))
        fail(what + where(i) + " without a barrier after a load by " +
             (byte.load.thread == kSeveral ? "other threads" : "thread " + std::to_string(byte.load.thread)));
      byte.store = access_at(block, now);
      byte.load = {};
    } else {
      if (byte.store.run != block) fail(what + where(i) + ", which nothing has been stored to");
      const bool same_epoch = byte.load.run == block && byte.load.epoch == now.epoch;
      const Access before = byte.load;
      byte.load = access_at(block, now);
      if (same_epoch && before.thread != now.thread) byte.load.thread = kSeveral;
      if (same_epoch && before.warp != now.warp) byte.load.warp = kSeveral;
    }
  }
}

void check_global(uintptr_t address, size_t size, bool is_store) {
  const Position& now = position();
  const std::string what = is_store ? "a store to " : "a load from ";
  for (Region& region : regions) {
    if (address < region.begin || address + size > region.end) continue;
    if (is_store && !region.writable) fail(what + "a tensor that is an input only");
    for (size_t i = address - region.begin; region.writable && i < address - region.begin + size; ++i) {
      Access& store = region.stores[i];
      const bool other_block = store.run == launch && store.block != now.block;
      if (other_block || unordered(store, launch, now))
        fail(what + "byte " + std::to_string(i) + " of a tensor after the store of thread " +
             std::to_string(store.thread) + " of block " + std::to_string(store.block) + ", in no order");
      if (is_store) store = access_at(launch, now);
    }
    return;
  }
  std::string nearest;
  intptr_t least = 4096;
  for (const Region& region : regions) {
    const auto from_begin = static_cast<intptr_t>(address - region.begin);
    const intptr_t distance =
        from_begin < 0 ? -from_begin : from_begin - static_cast<intptr_t>(region.end - region.begin);
    if (distance >= least) continue;
    least = distance;
    nearest =
        ", at byte " + std::to_string(from_begin) + " of a tensor of " + std::to_string(region.end - region.begin);
  }
  fail(what + std::to_string(size) + " bytes at " + hex(address) + " outside of every tensor" + nearest);
}

void check_unaligned(uintptr_t address, size_t size, bool is_store) {
  const Position& now = position();
  const auto pointer = reinterpret_cast<const char*>(address);
  if (now.block < 0 || (pointer >= now.stack && pointer < now.stack_end)) return;
  if (!is_store && pointer >= parameters && pointer < parameters_end) return;
  const bool is_shared = pointer >= shared && pointer < shared + kSharedBytes;
  is_shared ? check_shared(address, size, is_store) : check_global(address, size, is_store);
}

void check(uintptr_t address, size_t size, bool is_store) {
  if (position().block >= 0 && address % size != 0)
    fail(std::string(is_store ? "a store" : "a load") + " of " + std::to_string(size) + " bytes at " + hex(address) +
         ", which is not aligned");
  check_unaligned(address, size, is_store);
}

}  // namespace

void allow(const void* data, size_t bytes, bool writable) {
  const auto begin = reinterpret_cast<uintptr_t>(data), end = begin + bytes;
  if (bytes == 0) return;
  for (Region& region : regions) {
    if (region.begin != begin || region.end != end) continue;
    region.writable |= writable;
    if (region.writable) region.stores.resize(bytes);
    return;
  }
  regions.push_back({begin, end, writable, std::vector<Access>(writable ? bytes : 0)});
}

void forget_global_memory() { regions.clear(); }

void* shared_memory() { return shared; }

void begin_launch(const void* data, size_t bytes) {
  ++launch;
  parameters = static_cast<const char*>(data), parameters_end = parameters + bytes;
}

uint32_t current_block() { return block; }

void begin_block(size_t bytes) {
  ++block;
  shared_size = bytes;
  std::memset(shared, 0xFF, bytes);
  for (Copies& of_thread : copies) of_thread.open.clear(), of_thread.groups.clear();
  for (uint64_t& number : fenced) number = 0;
  arrivals.clear();
}

namespace {

// A copy under way to shared memory; nobody may look there.
Copy start_copy(void* to, const void* from, size_t size, bool valid) {
  Copy copy{static_cast<char*>(to), {}, size};
  check(reinterpret_cast<uintptr_t>(to), size, true);
  if (to < shared || to >= shared + kSharedBytes) fail("an asynchronous copy to what is not shared memory");
  if (valid) {
    check(reinterpret_cast<uintptr_t>(from), size, false);
    std::memcpy(copy.bytes, from, size);
  }
  std::memset(to, 0xFF, size);
  for (size_t i = 0; i < size; ++i) shared_bytes[copy.shared - shared + i].arriving = block;
  return copy;
}

void finish_copy(const Copy& copy, bool seen_by_tensor_cores) {
  for (size_t i = 0; i < copy.size; ++i) {
    Byte& byte = shared_bytes[copy.shared - shared + i];
    byte.arriving = 0, byte.store = access_at(block, position());
    if (seen_by_tensor_cores) byte.store.number = 0;
  }
  std::memcpy(copy.shared, copy.bytes, copy.size);
}

Arrival& arrival_at(void* barrier) {
  const auto found = arrivals.find(barrier);
  if (found == arrivals.end()) fail("an arrival barrier that has not been started");
  return found->second;
}

}  // namespace

void copy_async(void* to, const void* from, size_t size, bool valid) {
  copies[position().thread].open.push_back(start_copy(to, from, size, valid));
}

void commit_copies() {
  Copies& own = copies[position().thread];
  own.groups.push_back(std::move(own.open));
  own.open.clear();
}

void wait_for_copies(int groups_left) {
  auto& groups = copies[position().thread].groups;
  while (groups.size() > static_cast<size_t>(groups_left)) {
    for (const Copy& copy : groups.front()) finish_copy(copy, false);
    groups.erase(groups.begin());
  }
}

void start_arrival(void* barrier) { arrivals[barrier] = {}; }

void expect_arrival(void* barrier, size_t bytes) {
  Arrival& arrival = arrival_at(barrier);
  if (arrival.started) fail("an arrival barrier expects bytes before those of the last round were waited for");
  arrival.expected = bytes, arrival.started = true;
}

void copy_arriving(void* barrier, void* to, const void* from, size_t bytes) {
  Arrival& arrival = arrival_at(barrier);
  if (bytes % 16) fail("a copy of " + std::to_string(bytes) + " bytes, which is no multiple of 16");
  for (size_t at = 0; at < bytes; at += 16)
    arrival.copies.push_back(start_copy(static_cast<char*>(to) + at, static_cast<const char*>(from) + at, 16, true));
}

void wait_for_arrival(void* barrier, unsigned parity) {
  for (int turns = 0; arrival_at(barrier).parity == parity; ++turns) {
    Arrival& arrival = arrival_at(barrier);
    if (!arrival.started || 16 * arrival.copies.size() < arrival.expected) {
      if (turns > 100000) fail("deadlock: bytes that never arrive");
      yield();
      continue;
    }
    if (16 * arrival.copies.size() > arrival.expected) fail("more bytes arrive than were expected");
    for (const Copy& copy : arrival.copies) finish_copy(copy, true);
    arrival = {0, false, parity ^ 1, {}};
  }
}

void check_load(const void* data, size_t bytes) { check(reinterpret_cast<uintptr_t>(data), bytes, false); }

void fence_async() { fenced[position().thread] = stores; }

void check_async_load(const void* data, size_t bytes) {
  const auto* from = static_cast<const char*>(data);
  if (from < shared || from + bytes > shared + kSharedBytes) fail("tensor cores load what is not shared memory");
  check_load(data, bytes);
  for (size_t i = from - shared; i < from - shared + bytes; ++i) {
    const Access& store = shared_bytes[i].store;
    if (store.number > fenced[store.thread])
      fail("tensor cores load byte " + std::to_string(i) + " of shared memory without fence_async_shared() after " +
           "the store of thread " + std::to_string(store.thread));
  }
}

}  // namespace simt

// What compilers call before every load and store.
extern "C" {
#define SIMT_HOOKS(SIZE)                                                           \
  void __tsan_read##SIZE(uintptr_t address) { simt::check(address, SIZE, false); } \
  void __tsan_write##SIZE(uintptr_t address) { simt::check(address, SIZE, true); }
SIMT_HOOKS(1)
SIMT_HOOKS(2)
SIMT_HOOKS(4)
SIMT_HOOKS(8)
SIMT_HOOKS(16)
void __tsan_read_range(uintptr_t address, size_t size) { simt::check_unaligned(address, size, false); }
void __tsan_write_range(uintptr_t address, size_t size) { simt::check_unaligned(address, size, true); }
void __tsan_init() {}
}
