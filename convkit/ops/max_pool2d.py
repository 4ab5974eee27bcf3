"""max_pool2d and its gradients: csrc/cpu/max_pool2d.cpp.

Backward needs of the forward pass only which position of each window won: its tap, one byte a value.
"""

import torch

from convkit.ops._arguments import REAL, check_dtype, check_tensor, empty, pair, suggests_channels_last
from convkit.ops._autograd import define, library, needs_grad, refuse_tangents
from convkit.ops._conv2d_vmap import fold_batch, unfold_batch
from convkit.ops._pool2d_shape import check_taps, output_size, tap_dtype
from convkit.ops._torch_internals import autocast_active, below_autograd, transforms_active


@torch.library.register_fake("convkit::max_pool2d")
def _fake(input, *arguments):
    return empty(output_size("max_pool2d", input.shape, *arguments), suggests_channels_last(input), input)


def _with_taps_fake(input, kernel_size, *arguments):
    sizes = output_size("max_pool2d_with_taps", input.shape, kernel_size, *arguments)
    channels_last = suggests_channels_last(input)
    return (
        empty(sizes, channels_last, input),
        empty(sizes, channels_last, input, dtype=tap_dtype(kernel_size)),
    )


@torch.library.register_fake("convkit::max_pool2d_indices")
def _indices_fake(taps, input_size, *arguments):
    check_taps("max_pool2d_indices", taps, input_size, *arguments)
    return empty(taps.shape, suggests_channels_last(taps), taps, dtype=torch.int64)


def _backward_fake(grad_output, taps, input_size, channels_last, *arguments):
    check_taps("max_pool2d_backward", taps, input_size, *arguments)
    if grad_output.shape != taps.shape:
        raise RuntimeError(
            f"max_pool2d_backward: expected grad_output of size {list(taps.shape)}, but got {list(grad_output.shape)}"
        )
    return empty(input_size, channels_last, grad_output)


def _gather_fake(input, taps, *arguments):
    check_taps("max_pool2d_gather", taps, input.shape, *arguments)
    return empty(taps.shape, suggests_channels_last(taps), input)


class _Pooling:
    """The arguments of a pooling that are not tensors, and the two linear maps that its winners define."""

    def __init__(self, input_size, channels_last, arguments):
        self.input_size, self.channels_last, self.arguments = list(input_size), channels_last, arguments

    def scatter(self, grad_output, taps):
        return max_pool2d_backward(grad_output, taps, self.input_size, self.channels_last, *self.arguments)

    def gather(self, input, taps):
        return max_pool2d_gather(input, taps, *self.arguments)


def _front(tensor, dim, size):
    """With the mapped dimension folded into the batch."""
    front = tensor.movedim(dim, 0) if dim is not None else tensor.unsqueeze(0).expand(size, *tensor.shape)
    return fold_batch(front)


def _setup_with_taps(ctx, inputs, outputs):
    input, *arguments, _ceil_mode = inputs
    ctx.pooling = _Pooling(input.shape, suggests_channels_last(input), arguments)
    ctx.mark_non_differentiable(outputs[1])
    ctx.save_for_backward(outputs[1])
    ctx.save_for_forward(outputs[1])


def _vmap_with_taps(info, in_dims, input, *arguments):
    outputs = max_pool2d_with_taps(_front(input, in_dims[0], info.batch_size), *arguments)
    return tuple(unfold_batch(output, info.batch_size) for output in outputs), (0, 0)


max_pool2d_with_taps = define(
    "max_pool2d_with_taps",
    fake=_with_taps_fake,
    setup_context=_setup_with_taps,
    backward=lambda ctx, grad, _taps: (ctx.pooling.scatter(grad, ctx.saved_tensors[0]), *[None] * 5),
    jvp=lambda ctx, tangent, *_: (ctx.pooling.gather(tangent, ctx.saved_tensors[0]), None),
    vmap=_vmap_with_taps,
)


def _setup_backward(ctx, inputs, output):
    _grad_output, taps, input_size, channels_last, *arguments = inputs
    ctx.pooling = _Pooling(input_size, channels_last, arguments)
    ctx.save_for_backward(taps)
    ctx.save_for_forward(taps)


def _vmap_backward(info, in_dims, grad_output, taps, input_size, channels_last, *arguments):
    size, (n, *rest) = info.batch_size, input_size
    grads, winners = _front(grad_output, in_dims[0], size), _front(taps, in_dims[1], size)
    return unfold_batch(max_pool2d_backward(grads, winners, [n * size, *rest], channels_last, *arguments), size), 0


max_pool2d_backward = define(
    "max_pool2d_backward",
    fake=_backward_fake,
    setup_context=_setup_backward,
    backward=lambda ctx, grad: (ctx.pooling.gather(grad, ctx.saved_tensors[0]), *[None] * 7),
    jvp=lambda ctx, tangent, *_: ctx.pooling.scatter(tangent, ctx.saved_tensors[0]),
    vmap=_vmap_backward,
)


def _setup_gather(ctx, inputs, output):
    input, taps, *arguments = inputs
    ctx.pooling = _Pooling(input.shape, suggests_channels_last(input), arguments)
    ctx.save_for_backward(taps)
    ctx.save_for_forward(taps)


def _vmap_gather(info, in_dims, input, taps, *arguments):
    size = info.batch_size
    return unfold_batch(
        max_pool2d_gather(_front(input, in_dims[0], size), _front(taps, in_dims[1], size), *arguments), size
    ), 0


max_pool2d_gather = define(
    "max_pool2d_gather",
    fake=_gather_fake,
    setup_context=_setup_gather,
    backward=lambda ctx, grad: (ctx.pooling.scatter(grad, ctx.saved_tensors[0]), *[None] * 5),
    jvp=lambda ctx, tangent, *_: ctx.pooling.gather(tangent, ctx.saved_tensors[0]),
    vmap=_vmap_gather,
)


def _autograd_kernel(input, *arguments):
    refuse_tangents("max_pool2d", (input,))
    if needs_grad((input,)):
        return max_pool2d_with_taps(input, *arguments)[0]
    with below_autograd():
        return torch.ops.convkit.max_pool2d.default(input, *arguments)


def _indices_autograd_kernel(taps, *arguments):
    with below_autograd():  # integers from integers: nothing to differentiate
        return torch.ops.convkit.max_pool2d_indices.default(taps, *arguments)


def _values(*args):
    if torch.compiler.is_compiling() or autocast_active():
        return torch.ops.convkit.max_pool2d.default(*args)
    with below_autograd():  # not through the kernel above, which is Python
        return torch.ops.convkit.max_pool2d.default(*args)


library.impl("max_pool2d", _autograd_kernel, "Autograd")
library.impl("max_pool2d_indices", _indices_autograd_kernel, "Autograd")


def max_pool2d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """2-D max-pooling: :func:`torch.nn.functional.max_pool2d` bit for bit, values, indices and ties.

    A window's first maximum wins, its last NaN wins over everything. Backward saves one byte per output (four where the
    window has more than 255 positions), not the input and no indices.

    Args:
        input: [n, c, h, w] or, unbatched, [c, h, w]; any real dtype and strides.
        kernel_size, padding, dilation: int or (height, width).
        stride: int or (height, width); None means ``kernel_size``.
        ceil_mode: keep windows that hang over the end.
        return_indices: also return the winners' positions ``h * W + w`` in their plane, int64.

    Returns:
        [n, c, oh, ow], channels_last if the input is; with ``return_indices`` a pair.

    Raises:
        RuntimeError: sizes that do not fit, in torch's words.
        NotImplementedError: a bool or complex input.
        TypeError: an argument of the wrong kind.
    """
    check_tensor("max_pool2d", "input", input)
    check_dtype("max_pool2d", input, REAL)
    kernel_size = pair("max_pool2d", "kernel_size", kernel_size)
    if not isinstance(ceil_mode, bool):
        raise TypeError(f"max_pool2d(): argument 'ceil_mode' must be bool, but got {ceil_mode!r}")
    stride = kernel_size if stride in (None, [], ()) else pair("max_pool2d", "stride", stride)
    padding, dilation = pair("max_pool2d", "padding", padding), pair("max_pool2d", "dilation", dilation)
    if input.dim() not in (3, 4):
        raise RuntimeError(
            "max_pool2d: Expected 3D or 4D (batch mode) tensor with optional 0 dim batch size for input, but got: "
            f"{list(input.shape)}"
        )
    images = input if input.dim() == 4 else input.unsqueeze(0)
    geometry = (kernel_size, stride, padding, dilation)
    if return_indices:
        output, taps = max_pool2d_with_taps(images, *geometry, ceil_mode)
        indices = torch.ops.convkit.max_pool2d_indices(taps, images.shape, *geometry)
        return (output, indices) if input.dim() == 4 else (output.squeeze(0), indices.squeeze(0))
    if needs_grad((images,)) or transforms_active():
        output, _ = max_pool2d_with_taps(images, *geometry, ceil_mode)
    else:
        output = _values(images, *geometry, ceil_mode)
    return output if input.dim() == 4 else output.squeeze(0)
