// Compiled once per ISA, as CONVKIT_ISA.
#include "cpu/kernels/conv2d_backward_weight.inl"
#include "cpu/kernels/conv2d_backward_weight_planes.inl"
#include "cpu/kernels/conv2d_depthwise.inl"
#include "cpu/kernels/conv2d_depthwise_backward_input.inl"
#include "cpu/kernels/conv2d_depthwise_backward_weight.inl"
#include "cpu/kernels/conv2d_direct.inl"
#include "cpu/kernels/conv2d_grouped.inl"
#include "cpu/kernels/conv2d_grouped_backward_input.inl"
#include "cpu/kernels/conv2d_grouped_backward_weight.inl"
#include "cpu/kernels/conv2d_kn2row.inl"
#include "cpu/kernels/conv2d_winograd.inl"
#include "cpu/kernels/conv2d_winograd_backward_weight.inl"
#include "cpu/kernels/kernel_table.h"
#include "cpu/kernels/limits.inl"
#include "cpu/kernels/linear.inl"
#include "cpu/kernels/max_pool2d.inl"
#include "cpu/kernels/max_pool2d_backward.inl"
#include "cpu/kernels/relu.inl"
#include "cpu/kernels/sum.inl"

#define CONVKIT_STRING(x) #x
#define CONVKIT_NAME(x) CONVKIT_STRING(x)

namespace convkit::CONVKIT_ISA {

namespace {
#if defined(__AVX512BF16__)
constexpr Conv2dDirectFunctions<BFloat16> kDirectPairs{conv2d_direct_forward<BFloat16>,
                                                       conv2d_direct_pack_weight<BFloat16>};
#else
constexpr Conv2dDirectFunctions<BFloat16> kDirectPairs{};
#endif
}  // namespace

const KernelTable kTable = {
    .isa = CONVKIT_NAME(CONVKIT_ISA),
    .vector_floats = kLanes,
    .relu = {relu_forward, relu_backward},
    .sum = {sum_channels_last, sum_contiguous},
    .conv2d_direct = {kTileRows,
                      kTileCols,
                      kPlanesChannels,
                      {{conv2d_direct_forward<float>, conv2d_direct_pack_weight<float>}, kDirectPairs},
                      conv2d_backward_weight,
                      conv2d_backward_weight_planes},
    .conv2d_winograd = {kLanes, kTileRows, kTileCols, conv2d_winograd_variant<4, 3>(), conv2d_winograd_variant<2, 3>(),
                        conv2d_winograd_variant<2, 5>()},
    .conv2d_depthwise = {kLanes,
                         kDepthwisePixels,
                         kLanes,
                         4 * kLanes,
                         {{conv2d_depthwise_forward<float>, conv2d_depthwise_backward_input_by_twos<float>},
                          {conv2d_depthwise_forward<BFloat16>, conv2d_depthwise_backward_input_by_twos<BFloat16>}},
                         conv2d_depthwise_backward_weight},
    .conv2d_grouped = {kLanes, kGroupedPixels, conv2d_grouped_forward, conv2d_grouped_backward_input_by_twos,
                       conv2d_grouped_pack_weight, conv2d_grouped_backward_weight},
    .conv2d_kn2row = {kTileRows, kTileCols, conv2d_kn2row_forward},
    .linear = {{linear_rows<float>}, {linear_rows<BFloat16>}},
    .max_pool2d = {max_pool2d_channels_last_row, max_pool2d_plane_rows, max_pool2d_backward_channels_last_row,
                   max_pool2d_backward_planes},
    .limits = {2 * kChains * kLanes, multiply_add, read},
};

}  // namespace convkit::CONVKIT_ISA
