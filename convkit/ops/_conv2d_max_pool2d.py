"""The fused block: convolution, bias, activation, max-pooling. csrc/cpu/conv2d_max_pool2d.cpp.

Saved for backward are input, weight and one byte per pooled value. Backward spreads the pooled gradient over the
convolution's output by those bytes, and goes on as conv2d does.
"""

import torch

from convkit.ops import _conv2d_vmap, _pool2d_shape
from convkit.ops._arguments import empty, suggests_channels_last
from convkit.ops._autocast import register_lower_precision
from convkit.ops._autograd import define
from convkit.ops._conv2d_fake import check_activation, check_algorithm, fake_output, output_channels_last
from convkit.ops._conv2d_gradient import Geometry
from convkit.ops.max_pool2d import max_pool2d_backward, max_pool2d_gather

LARGEST_AREA = 254  # one byte value is left for "no gradient"


def _fake(input, weight, bias, *arguments):
    *geometry, activation, pool_kernel, pool_stride, pool_padding, return_taps, algorithm = arguments
    op = "conv2d_max_pool2d"
    output = fake_output(op, input, weight, bias, geometry)
    check_activation(op, activation)
    check_algorithm(op, algorithm, input.device)
    sizes = _pool2d_shape.output_size(op, output.shape, pool_kernel, pool_stride, pool_padding, [1, 1], False)
    if pool_kernel[0] * pool_kernel[1] > LARGEST_AREA:
        area = pool_kernel[0] * pool_kernel[1]
        raise RuntimeError(f"{op}: a pooling window of {area} positions has no byte taps")
    channels_last = output_channels_last(input, weight)
    taps = (
        empty(sizes, channels_last, input, dtype=torch.uint8)
        if return_taps
        else input.new_empty([0], dtype=torch.uint8)
    )
    return empty(sizes, channels_last, input), taps


def _setup(ctx, inputs, outputs):
    input, weight, _bias, *geometry, _activation, kernel, stride, padding, return_taps, algorithm = inputs
    if not return_taps:
        raise RuntimeError("conv2d_max_pool2d: its gradient needs return_taps=True")
    output, taps = outputs
    ctx.geometry = Geometry(input, weight, *geometry, algorithm)
    ctx.channels_last = suggests_channels_last(output)
    ctx.pool = (kernel, stride, padding, [1, 1])
    ctx.mark_non_differentiable(taps)
    needs_input, needs_weight = ctx.needs_input_grad[:2]
    ctx.save_for_backward(input if needs_weight else None, weight if needs_input else None, taps)
    ctx.save_for_forward(input, weight, taps)


def _backward(ctx, grad, _taps):
    input, weight, taps = ctx.saved_tensors
    grad = max_pool2d_backward(grad, taps, ctx.geometry.output_size(), ctx.channels_last, *ctx.pool)
    return *ctx.geometry.grads(ctx.needs_input_grad, grad, input, weight), *[None] * 10


def _jvp(ctx, input_tangent, weight_tangent, bias_tangent, *_):
    input, weight, taps = ctx.saved_tensors
    tangent = ctx.geometry.tangent(input, weight, input_tangent, weight_tangent, bias_tangent)
    return max_pool2d_gather(tangent, taps, *ctx.pool), None


conv2d_max_pool2d = define(
    "conv2d_max_pool2d",
    fake=_fake,
    setup_context=_setup,
    backward=_backward,
    jvp=_jvp,
    vmap=_conv2d_vmap.conv2d(lambda *args: conv2d_max_pool2d(*args), outputs=2),
)
register_lower_precision("conv2d_max_pool2d")
