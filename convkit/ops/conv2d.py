"""conv2d, plain or with its activation and max-pooling: csrc/cpu/conv2d.cpp, csrc/cpu/conv2d_backward.cpp."""

import torch
from torch.utils.flop_counter import conv_flop_count, register_flop_formula

from convkit.ops._arguments import FLOATING, check_dtype, check_int64, check_tensor, pair
from convkit.ops._autograd import needs_grad
from convkit.ops._conv2d_fake import check_same_dtype
from convkit.ops._conv2d_gradient import conv2d_forward
from convkit.ops._conv2d_max_pool2d import LARGEST_AREA, conv2d_max_pool2d
from convkit.ops._conv2d_shape import output_size
from convkit.ops._float32_precision import follow_torch
from convkit.ops._packed_weight import FrozenWeight, PackedWeight, conv2d_packed, find, prepack_arguments
from convkit.ops._pool2d_shape import windows
from convkit.ops._torch_internals import autocast_active, transforms_active
from convkit.ops.max_pool2d import max_pool2d


def _padding(padding, weight, stride, dilation):
    """An int, a pair, 'same' or 'valid' -> [top, bottom, left, right]."""
    if padding == "valid":
        return [0, 0, 0, 0]
    if padding == "same":
        if any(s != 1 for s in stride):
            raise RuntimeError(
                f"conv2d: padding='same' is not supported for strided convolutions, but got stride={stride}"
            )
        # torch puts the odd one of an even window's padding after the image.
        totals = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        return [side for total in totals for side in (total // 2, total - total // 2)]
    if isinstance(padding, str):
        raise RuntimeError(f"conv2d: Invalid padding string: '{padding}', should be one of 'same', 'valid'")
    height, width = pair("conv2d", "padding", padding)
    return [height, height, width, width]


def _check_activation(op, activation):
    if activation not in (None, "relu", "relu6"):
        raise ValueError(f"{op}: activation must be None, 'relu' or 'relu6', but got {activation!r}")


def _check_arguments(input, weight, bias, groups, activation, algorithm):
    check_tensor("conv2d", "input", input)
    check_tensor("conv2d", "weight", weight)
    if bias is not None:
        check_tensor("conv2d", "bias", bias)
    if input.dim() not in (3, 4):
        raise RuntimeError(
            f"Expected 3D (unbatched) or 4D (batched) input to conv2d, but got input of size: {list(input.shape)}"
        )
    if weight.dim() != 4:
        raise RuntimeError(
            f"conv2d: Expected {weight.dim()}-dimensional input for {weight.dim()}-dimensional weight "
            f"{list(weight.shape)}, but got input of size {list(input.shape)}; a 2-D convolution needs a 4D weight"
        )
    if not autocast_active():  # which casts first
        check_same_dtype("conv2d", "input", input, "weight", weight)
        if bias is not None:
            check_same_dtype("conv2d", "input", input, "bias", bias)
    check_dtype("conv2d", input, FLOATING)
    if isinstance(groups, bool) or not isinstance(groups, int):
        raise TypeError(f"conv2d(): argument 'groups' must be int, but got {groups!r}")
    check_int64("conv2d", "groups", groups)
    _check_activation("conv2d", activation)
    if activation == "relu6" and input.is_cuda:
        raise NotImplementedError("conv2d: activation='relu6' is not implemented on CUDA")
    if not isinstance(algorithm, str):
        raise TypeError(f"conv2d(): argument 'algorithm' must be str, but got {algorithm!r}")


def _max_pool(op, max_pool):
    """None, k or (k, s, p) -> kernel_size, stride, padding, each [height, width]."""
    if isinstance(max_pool, (tuple, list)):
        if len(max_pool) != 3 or any(isinstance(part, (tuple, list)) and len(part) != 2 for part in max_pool):
            raise ValueError(
                f"{op}: max_pool must be a kernel size or (kernel_size, stride, padding); a pair is ambiguous: "
                f"{max_pool!r}"
            )
        kernel_size, stride, padding = max_pool
    else:
        kernel_size, stride, padding = max_pool, None, 0
    kernel_size = pair(op, "max_pool kernel_size", kernel_size)
    stride = kernel_size if stride is None else pair(op, "max_pool stride", stride)
    return kernel_size, stride, pair(op, "max_pool padding", padding)


def check_epilogue(op, activation, max_pool):
    """Raise what conv2d would raise for an activation and a pooling, whatever the tensors."""
    _check_activation(op, activation)
    if max_pool is not None:
        windows(f"{op}: max_pool", *_max_pool(op, max_pool), [1, 1])


def _conv2d_max_pool2d(arguments, pool, algorithm):
    kernel_size, stride, padding = pool
    if kernel_size[0] * kernel_size[1] > LARGEST_AREA:
        return max_pool2d(conv2d_forward(*arguments, algorithm), kernel_size, stride, padding)
    return_taps = needs_grad(arguments) or transforms_active()
    return conv2d_max_pool2d(*arguments, kernel_size, stride, padding, return_taps, algorithm)[0]


def conv2d(
    input,
    weight,
    bias=None,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    *,
    activation=None,
    max_pool=None,
    algorithm="auto",
):
    """2-D convolution: :func:`torch.nn.functional.conv2d`, optionally with bias, activation and max-pooling in one op.

    The order is convolution, bias, activation, pooling. The result is the same, bit for bit and gradients too, as that
    of the separate convkit calls; fused, the pooling block saves its input, its weight and one byte per pooled value.

    Args:
        input: [n, in_channels, h, w] or, unbatched, [in_channels, h, w]; float32, float64, bfloat16 or float16, any
            strides. 16-bit types accumulate in float32.
        weight: [out_channels, in_channels / groups, kh, kw], of the input's dtype; or what :func:`convkit.prepack`
            made of one.
        bias: [out_channels] or None.
        stride, dilation: int or (height, width).
        padding: int or (height, width) of zeros on both sides, or "same" (stride 1 only) or "valid".
        groups: divides both numbers of channels.
        activation: None, "relu" or, on the CPU, "relu6". With "relu6" the pooling is an op of its own.
        max_pool: None, a kernel size, or (kernel_size, stride, padding), each an int or a (height, width) pair.
        algorithm: "auto", or the name of the one to use: "winograd" (3x3 or 5x5, stride 1), "depthwise", "grouped"
            (groups of few channels), "kn2row" (stride 1), "direct" (none of them float64) or "generic". See
            :func:`convkit.explain` and :func:`convkit.set_float32_algorithm`. On CUDA also "3xtf32", as exact as
            "direct" in float32, and "tf32", which "auto" takes where ``torch.backends.cudnn.conv.fp32_precision`` is
            "tf32", torch's default.

    Returns:
        [n, out_channels, oh, ow], pooled if asked; channels_last if the input or the weight is, else contiguous.

    Raises:
        RuntimeError: sizes, strides or dtypes that do not fit, in torch's words.
        NotImplementedError: a dtype that convkit has no kernel for.
        TypeError, ValueError: an argument of the wrong kind.
    """
    prepacked = weight if isinstance(weight, PackedWeight) else None
    frozen = weight if isinstance(weight, FrozenWeight) else None
    if frozen is not None:
        asked = (stride, padding, dilation, groups, activation, max_pool, algorithm)
        output = frozen.run_again(input, bias, asked)
        if output is not None:
            return output
        weight = frozen.weight
    if prepacked is not None:
        weight, bias = prepacked.weight, prepacked.bias if bias is None else bias
    _check_arguments(input, weight, bias, groups, activation, algorithm)
    stride, dilation = pair("conv2d", "stride", stride), pair("conv2d", "dilation", dilation)
    padding = _padding(padding, weight, stride, dilation)
    pool = None if max_pool is None else _max_pool("conv2d", max_pool)
    images = input if input.dim() == 4 else input.unsqueeze(0)
    operands, geometry = (images, weight, bias), (stride, padding, dilation, groups)
    fused_pool = None if activation == "relu6" else pool  # whose byte a value would not tell that a gradient stops at 6
    packed = None
    if frozen is not None:
        packed, algorithm = find(frozen, images, bias, *geometry, algorithm)
    elif prepacked is not None:
        prepacked.check(*geometry, algorithm)
        packed, algorithm = prepacked.bytes_for(*operands), prepacked.algorithm
    algorithm = follow_torch(algorithm, images)
    arguments = (*geometry, activation or "none")
    if packed is not None:
        window = [number for part in fused_pool or () for number in part]
        output = conv2d_packed(*operands, packed, *arguments, window, algorithm)
    elif fused_pool is None:
        output = conv2d_forward(*operands, *arguments, algorithm)
        if frozen is not None and pool is None:
            frozen.last = asked, (*arguments, algorithm)
    else:
        output = _conv2d_max_pool2d((*operands, *arguments), fused_pool, algorithm)
    if pool and activation == "relu6":
        output = max_pool2d(output, *pool)
    return output if input.dim() == 4 else output.squeeze(0)


def prepack(
    weight,
    bias=None,
    stride=1,
    padding=0,
    dilation=1,
    groups=1,
    *,
    input_size=None,
    dtype=None,
    algorithm="auto",
):
    """Do once what :func:`convkit.conv2d` does with a weight in every call, for calls without gradient of the weight.

    Later changes of ``weight`` need not be seen: pack again after them. It pays for images of few pixels.

    Args:
        weight, bias, stride, padding, dilation, groups: those of the calls; see :func:`convkit.conv2d`. A bias given
            here is used where the call gives none.
        input_size: height and width of the images to come, an int or a pair, which "auto" looks at; None for images
            that are not small.
        dtype: the dtype to compute in; None for the weight's.
        algorithm: as for :func:`convkit.conv2d`; it is decided here for every call.

    Returns:
        PackedWeight, which :func:`convkit.conv2d` accepts as ``weight``. A call whose stride, padding, dilation, groups
        or algorithm differ raises ValueError. No gradient flows to it; one flows to the input.

    Raises:
        RuntimeError, TypeError, ValueError, NotImplementedError: as :func:`convkit.conv2d`.
    """
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None or name == "weight":
            check_tensor("prepack", name, tensor)
    if weight.dim() != 4:
        raise RuntimeError(f"prepack: weight must be 4-dimensional, but got weight of size {list(weight.shape)}")
    weight, bias = (t if t is None or dtype is None else t.to(dtype) for t in (weight, bias))
    _check_arguments(weight, weight, bias, groups, None, algorithm)
    stride, dilation = pair("prepack", "stride", stride), pair("prepack", "dilation", dilation)
    padding = _padding(padding, weight, stride, dilation)
    if input_size is None:
        input_size = [d * (k - 1) + 64 * s for s, d, k in zip(stride, dilation, weight.shape[2:], strict=True)]
    geometry = (tuple(stride), tuple(padding), tuple(dilation), groups)
    return prepack_arguments(weight, bias, *geometry, tuple(pair("prepack", "input_size", input_size)), algorithm)


@register_flop_formula(torch.ops.convkit.conv2d)
def _conv2d_flops(input_shape, weight_shape, *_args, out_shape=None, **_kwargs):
    return conv_flop_count(input_shape, weight_shape, out_shape)


@register_flop_formula(torch.ops.convkit.conv2d_max_pool2d)
def _conv2d_max_pool2d_flops(input_shape, weight_shape, _bias, stride, padding, dilation, groups, *_args, **_kwargs):
    out = output_size("conv2d", input_shape, weight_shape, stride, padding, dilation, groups)
    return conv_flop_count(input_shape, weight_shape, out)


@register_flop_formula(torch.ops.convkit.conv2d_backward_input)
def _backward_input_flops(grad_shape, weight_shape, input_size, *_args, **_kwargs):
    return conv_flop_count(input_size, weight_shape, grad_shape)


@register_flop_formula(torch.ops.convkit.conv2d_backward_weight)
def _backward_weight_flops(grad_shape, input_shape, weight_size, *_args, **_kwargs):
    return conv_flop_count(input_shape, weight_size, grad_shape)
