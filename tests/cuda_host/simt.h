// Runs a CUDA kernel on the CPU: one fiber per thread, one block after the other, in an order that the test chooses.
// What a kernel must not do ends it with a message: see README.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

namespace simt {

using Site = std::source_location;
constexpr int kWarp = 32;

// The order in which blocks, and the threads that can run, take their turns.
enum class Order { kForward, kReverse, kShuffled };
void set_order(Order order);

// What every thread does, and its parameters, which it may read as a kernel reads its own.
struct Body {
  void (*call)(const void* parameters);
  const void* parameters;
  size_t bytes;
};

// Returns 0, or 1 if the kernel did what it must not; error() tells what, of the last run that failed.
int run(dim3 blocks, dim3 threads, size_t shared_bytes, const Body& body);
const std::string& error();

// What the device says of itself: ops cut their work by it.
struct Device {
  int multiprocessors = 4, compute_capability = 90;
};
void set_device(const Device& device);
const Device& device();

// Of the running thread. By value: kernels' reads of memory are checked, and these are none.
dim3 thread_index();
dim3 block_index();
dim3 block_size();
dim3 grid_size();
void* shared_memory();

// Ends the running kernel with a message.
[[noreturn]] void fail(const std::string& message);

void barrier(Site site);
// Lets the other threads have their turn.
void yield();

// Every lane of `mask` calls this with its own arguments and the same operation, which runs once, on all of them:
// lanes[i] is null where the mask has no lane i. The names of the operation and of the site are for messages.
using Lanes = void* const[kWarp];
void collective(uint32_t mask, const char* name, void (*operation)(Lanes&), void* arguments, Site site);
// Orders the memory accesses of all lanes of the running thread's warp, if it is called for all that live.
void order_warp(uint32_t mask);

struct Position {
  int block = -1, thread = -1, warp = -1;  // -1: no kernel runs
  uint32_t epoch = 0, warp_epoch = 0;      // barriers and warp barriers passed
  const char *stack = nullptr, *stack_end = nullptr;
};
// Of the running thread; memory.cpp compares accesses by it.
const Position& position();

}  // namespace simt
