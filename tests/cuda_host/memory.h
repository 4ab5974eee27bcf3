// The memory of a kernel: registered tensors and the shared memory of a block. Kernels are compiled as if for
// ThreadSanitizer, whose functions memory.cpp stands in for: they are told of every load and store before it happens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>

namespace simt {

// Global memory that kernels may read, and write if they must. A tensor registered twice may do what either allows.
void allow(const void* data, size_t bytes, bool writable);
// Forgets all of it.
void forget_global_memory();

void begin_launch(const void* parameters, size_t bytes);
void begin_block(size_t shared_bytes);
uint32_t current_block();  // the number of blocks begun so far

// cp.async: the bytes arrive in shared memory, as a store of this thread, when it waits for their group; until then
// nobody may look at them. An invalid copy stores zeros and reads nothing.
void copy_async(void* shared, const void* global, size_t bytes, bool valid);
void commit_copies();
void wait_for_copies(int groups_left);

// Copies that arrive at a barrier in shared memory, as csrc/cuda/intrinsics.cuh describes it: they are there when a
// thread waits, as stores of this thread that tensor cores may see.
void start_arrival(void* barrier);
void expect_arrival(void* barrier, size_t bytes);
void copy_arriving(void* barrier, void* shared, const void* global, size_t bytes);
void wait_for_arrival(void* barrier, unsigned parity);

// A load by the running thread outside of instrumented code.
void check_load(const void* data, size_t bytes);

// The running thread's stores to shared memory so far, copies that it has waited for too, are for tensor cores to see.
void fence_async();
// A load by tensor cores, which see stores only after a fence of their threads, and a barrier.
void check_async_load(const void* data, size_t bytes);

// The largest shared memory that a block may ask for; that of the architecture which the tests play.
constexpr size_t kSharedBytes = 227 * 1024;

}  // namespace simt
