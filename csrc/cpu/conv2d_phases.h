// The gradient of a convolution's input, cut by stride phases: the input positions of one phase (position % stride)
// meet the same taps, and their gradient is a convolution of grad_output of stride 1.
#pragma once

#include <functional>

#include "common/conv2d_shape.h"
#include "common/half.h"

namespace convkit {

// The convolution of one phase: its shape, with input and output exchanged; the weights of its taps, rotated, with the
// strides of input and output channels exchanged; the positions of grad_input that it writes.
template <typename T>
using PhaseBody =
    std::function<void(const Conv2dShape& phase, const View4d<const T>& rotated_weight, const View4d<T>& pixels)>;

// Calls the body for every phase that a tap meets, after writing zeros everywhere if there is one that none does.
// grad_input is dense.
template <typename T>
void for_each_phase(const Conv2dShape& shape, const View4d<const T>& weight, const View4d<T>& grad_input,
                    const PhaseBody<T>& body);

// Bounds every phase.
Conv2dShape largest_phase(const Conv2dShape& shape);

}  // namespace convkit
