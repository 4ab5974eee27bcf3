// Compiled once per ISA, as CONVKIT_ISA.
#include "cpu/kernels/kernel_table.h"
#include "cpu/kernels/relu.inl"

#define CONVKIT_STRING(x) #x
#define CONVKIT_NAME(x) CONVKIT_STRING(x)

namespace convkit::CONVKIT_ISA {

const KernelTable kTable = {
    .isa = CONVKIT_NAME(CONVKIT_ISA),
    .vector_floats = kLanes,
    .relu = {relu_forward, relu_backward},
};

}  // namespace convkit::CONVKIT_ISA
