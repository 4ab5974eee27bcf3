// Measures the limits that the roofline of `convkit bench` is drawn from, on as many of torch's threads as are
// asked for; it must have that many.
#pragma once

#include <cstdint>

namespace convkit {

// Floating-point operations a second, a fused multiply-add counted as two.
double measure_multiply_add_rate(int64_t threads);

// Bytes a second that all threads together read, or read and write, from `bytes` of memory of each thread's own.
double measure_read_rate(int64_t threads, int64_t bytes);
double measure_copy_rate(int64_t threads, int64_t bytes);

}  // namespace convkit
