#include "simt.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <random>
#include <vector>

#include "fiber.h"
#include "memory.h"

namespace simt {
namespace {

enum class State { kReady, kAtBarrier, kInCollective, kDone };

struct Thread {
  Fiber fiber;
  State state = State::kReady;
  dim3 index;
  Position position;
  Site site;  // where it waits
};

// A warp-wide operation that waits for lanes.
struct Collective {
  uint32_t mask = 0, arrived = 0;
  void (*operation)(Lanes&) = nullptr;
  void* arguments[kWarp] = {};
  Site site;
};

struct Warp {
  Collective waiting[kWarp];  // by the lowest lane of the mask
};

struct Run {
  dim3 blocks, threads, block;
  Body body;
  std::vector<Thread> thread;
  std::vector<Warp> warp;
  Thread* current = nullptr;
  Fiber scheduler;
  bool failed = false;
};

Run the_run;
Order the_order = Order::kForward;
Device the_device;
std::string the_error;
const Position kNowhere;

std::string at(const Site& site) {
  std::string file = site.file_name();
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(site.line());
}

bool same(const Site& one, const Site& other) {
  return one.line() == other.line() && std::strcmp(one.file_name(), other.file_name()) == 0;
}

std::string name_of(const Thread& thread) {
  const dim3 &t = thread.index, &b = the_run.block;
  const auto triple = [](const dim3& d) {
    return "(" + std::to_string(d.x) + ", " + std::to_string(d.y) + ", " + std::to_string(d.z) + ")";
  };
  return "thread " + triple(t) + " of block " + triple(b);
}

void record(const std::string& message) {
  if (!the_run.failed) the_error = message;
  the_run.failed = true;
}

// Suspends the running thread; comes back when the scheduler takes it up again.
void wait(State state, Site site) {
  Thread& self = *the_run.current;
  self.state = state, self.site = site;
  switch_fiber(self.fiber, the_run.scheduler);
}

void fiber_main() {
  the_run.body.call(the_run.body.parameters);
  wait(State::kDone, {});
}

uint32_t live_lanes(int warp) {
  uint32_t lanes = 0;
  for (int lane = 0; lane < kWarp; ++lane) {
    const size_t i = static_cast<size_t>(warp) * kWarp + lane;
    if (i < the_run.thread.size() && the_run.thread[i].state != State::kDone) lanes |= 1u << lane;
  }
  return lanes;
}

// All live threads wait at a barrier: lets them pass if it is the same one.
void pass_barrier() {
  const Thread* first = nullptr;
  for (const Thread& t : the_run.thread) {
    if (t.state != State::kAtBarrier) continue;
    if (!first) first = &t;
    if (!same(t.site, first->site))
      return record("barriers differ: " + name_of(*first) + " waits at " + at(first->site) + ", " + name_of(t) +
                    " at " + at(t.site));
  }
  for (Thread& t : the_run.thread) {
    ++t.position.epoch;
    if (t.state == State::kAtBarrier) t.state = State::kReady;
  }
}

void report_deadlock() {
  std::string message = "deadlock:";
  for (const Thread& t : the_run.thread) {
    if (t.state == State::kDone || message.size() > 500) continue;
    message += " " + name_of(t) +
               (t.state == State::kAtBarrier ? " waits at the barrier " : " waits for its warp at ") + at(t.site) + ";";
  }
  record(message);
}

// Runs the threads of one block to their end.
void run_block(std::vector<int>& order, std::mt19937& random) {
  while (!the_run.failed) {
    if (the_order == Order::kShuffled) std::shuffle(order.begin(), order.end(), random);
    bool progress = false;
    for (const int i : order) {
      Thread& t = the_run.thread[i];
      if (t.state != State::kReady || the_run.failed) continue;
      progress = true;
      the_run.current = &t;
      switch_fiber(the_run.scheduler, t.fiber);
      the_run.current = nullptr;
    }
    if (progress || the_run.failed) continue;
    const auto count = [](State state) {
      return std::ranges::count_if(the_run.thread, [&](const Thread& t) { return t.state == state; });
    };
    if (count(State::kDone) == std::ssize(the_run.thread)) return;
    count(State::kInCollective) ? report_deadlock() : pass_barrier();
  }
}

void start_threads(char* stacks) {
  const dim3& n = the_run.threads;
  for (unsigned i = 0; i < the_run.thread.size(); ++i) {
    Thread& t = the_run.thread[i];
    const dim3& b = the_run.block;
    char* stack = stacks + i * kStackBytes;
    t.state = State::kReady;
    t.index = {i % n.x, i / n.x % n.y, i / n.x / n.y};
    t.position = {static_cast<int>((b.z * the_run.blocks.y + b.y) * the_run.blocks.x + b.x),
                  static_cast<int>(i),
                  static_cast<int>(i / kWarp),
                  1,
                  1,
                  stack,
                  stack + kStackBytes};
    start_fiber(t.fiber, stack, fiber_main);
  }
  the_run.warp.assign((the_run.thread.size() + kWarp - 1) / kWarp, {});
}

}  // namespace

void set_order(Order order) { the_order = order; }
void set_device(const Device& device) { the_device = device; }
const Device& device() { return the_device; }
const std::string& error() { return the_error; }

int run(dim3 blocks, dim3 threads, size_t shared_bytes, const Body& body) {
  const size_t count = size_t{threads.x} * threads.y * threads.z, grid = size_t{blocks.x} * blocks.y * blocks.z;
  the_run.failed = false;
  if (count == 0 || count > 1024 || grid == 0 || blocks.y > 65535 || blocks.z > 65535) {
    record("no such grid: " + std::to_string(grid) + " blocks of " + std::to_string(count) + " threads");
    return 1;
  }
  the_run.blocks = blocks, the_run.threads = threads, the_run.body = body;
  the_run.thread.resize(count);
  static const auto stacks = static_cast<char*>(
      mmap(nullptr, 1024 * kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  std::mt19937 random(1);
  std::vector<int> order(count);
  for (size_t i = 0; i < count; ++i) order[i] = static_cast<int>(the_order == Order::kReverse ? count - 1 - i : i);
  begin_launch(body.parameters, body.bytes);
  std::vector<size_t> block_order(grid);
  for (size_t i = 0; i < grid; ++i) block_order[i] = the_order == Order::kReverse ? grid - 1 - i : i;
  if (the_order == Order::kShuffled) std::shuffle(block_order.begin(), block_order.end(), random);
  for (const size_t b : block_order) {
    if (the_run.failed) break;
    the_run.block = dim3(b % blocks.x, b / blocks.x % blocks.y, b / blocks.x / blocks.y);
    begin_block(shared_bytes);
    start_threads(stacks);
    run_block(order, random);
  }
  return the_run.failed;
}

dim3 thread_index() { return the_run.current->index; }
dim3 block_index() { return the_run.block; }
dim3 block_size() { return the_run.threads; }
dim3 grid_size() { return the_run.blocks; }
const Position& position() { return the_run.current ? the_run.current->position : kNowhere; }

void fail(const std::string& message) {
  record(message + (the_run.current ? ", in " + name_of(*the_run.current) : ""));
  wait(State::kDone, {});
  __builtin_unreachable();
}

void yield() { wait(State::kReady, {}); }

void barrier(Site site) { wait(State::kAtBarrier, site); }

void collective(uint32_t mask, const char* name, void (*operation)(Lanes&), void* arguments, Site site) {
  Thread& self = *the_run.current;
  const int lane = self.position.thread % kWarp;
  const auto refuse = [&](const std::string& why) { fail(std::string(name) + " at " + at(site) + ": " + why); };
  if (!(mask >> lane & 1)) refuse("the mask leaves the calling lane out");
  if (mask & ~live_lanes(self.position.warp)) refuse("the mask names a lane that has ended or never was");
  Collective& waiting = the_run.warp[self.position.warp].waiting[std::countr_zero(mask)];
  if (waiting.arrived == 0) waiting.mask = mask, waiting.operation = operation, waiting.site = site;
  if (waiting.mask != mask || waiting.operation != operation || !same(waiting.site, site))
    refuse("other lanes of its warp are at " + at(waiting.site));
  waiting.arrived |= 1u << lane;
  waiting.arguments[lane] = arguments;
  if (waiting.arrived != mask) return wait(State::kInCollective, site);
  void* lanes[kWarp] = {};
  for (int i = 0; i < kWarp; ++i)
    if (mask >> i & 1) lanes[i] = waiting.arguments[i];
  waiting.arrived = 0;
  operation(lanes);
  for (int i = 0; i < kWarp; ++i)
    if (mask >> i & 1) the_run.thread[self.position.warp * kWarp + i].state = State::kReady;
}

void order_warp(uint32_t mask) {
  const int warp = the_run.current->position.warp;
  if (mask != live_lanes(warp)) return;
  for (int lane = 0; lane < kWarp; ++lane)
    if (mask >> lane & 1) ++the_run.thread[warp * kWarp + lane].position.warp_epoch;
}

}  // namespace simt
