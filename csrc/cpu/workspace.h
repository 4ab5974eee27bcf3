// Scratch memory of a task.
#pragma once

#include <cstdint>

namespace convkit {

// No task may ask for more than this.
constexpr int64_t kWorkspaceLimit = int64_t{8} << 20;

// At least `bytes` of 64-byte aligned scratch that belongs to the calling thread until its next call; kept
// for the next task, given back when the thread ends. Call it before a parallel region is entered or inside a
// task; it never throws inside one: it returns null when there is no memory.
void* workspace(int64_t bytes);

// The same for what all tasks of one op share, some 16 MiB at most: it belongs to the thread that calls the op.
void* shared_workspace(int64_t bytes);

// Bytes that all threads together hold now.
int64_t workspace_bytes();

}  // namespace convkit
