// Splitting an op into tasks over torch's threads.
#pragma once

#include <cstdint>
#include <functional>

namespace convkit {

// Calls body(i) for every i in [0, tasks), on up to torch's number of threads. `work` is the cost of all tasks
// together, roughly in elements of a vectorised loop over memory: small jobs stay on the calling thread. In a forked
// child everything does, because the parent's OpenMP pool did not survive the fork and waiting for it would hang. The
// body must not throw.
void parallel_tasks(int64_t tasks, double work, const std::function<void(int64_t)>& body);

// Whether tasks may run on several threads.
bool several_threads();

}  // namespace convkit
