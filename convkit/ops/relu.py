"""relu: csrc/cpu/relu.cpp and csrc/cuda/relu.cpp."""

import torch

from convkit.ops._arguments import REAL, check_dtype, check_tensor
from convkit.ops._autograd import define, elementwise_vmap, library
from convkit.ops._torch_internals import below_autograd, transforms_active


@torch.library.register_fake("convkit::relu_")
def _relu_inplace_fake(input):
    return None


def _relu_backward_fake(grad_output, result):
    if grad_output.shape != result.shape:
        raise RuntimeError(
            "relu_backward: grad_output and result must have the same size, but got "
            f"{list(grad_output.shape)} and {list(result.shape)}"
        )
    return torch.empty_like(result)


def _save_result(ctx, inputs, output):
    ctx.save_for_backward(output)
    ctx.save_for_forward(output)


def _relu_gradient(ctx, grad):
    return relu_backward(grad, ctx.saved_tensors[0])


_relu = define(
    "relu",
    fake=torch.empty_like,
    setup_context=_save_result,
    backward=_relu_gradient,
    jvp=_relu_gradient,
    vmap=lambda info, in_dims, input: (_relu(input), in_dims[0]),
)


def _save_mask(ctx, inputs, output):
    ctx.save_for_backward(inputs[1])
    ctx.save_for_forward(inputs[1])


# Piecewise constant in `result`: only `grad_output` has a derivative, and the same mask is it.
relu_backward = define(
    "relu_backward",
    fake=_relu_backward_fake,
    setup_context=_save_mask,
    backward=lambda ctx, grad: (relu_backward(grad, ctx.saved_tensors[0]), None),
    jvp=lambda ctx, grad, _result: None if grad is None else relu_backward(grad, ctx.saved_tensors[0]),
    vmap=elementwise_vmap(lambda *args: relu_backward(*args)),
)


class _ReluInplace(torch.autograd.Function):
    @staticmethod
    def forward(ctx, input):
        with below_autograd():
            torch.ops.convkit.relu_.default(input)
        ctx.mark_dirty(input)  # raises input's version, so that tensors saved before are known to be stale
        ctx.save_for_backward(input)
        return input

    backward = staticmethod(_relu_gradient)


def _relu_inplace_kernel(input):
    if torch.is_grad_enabled() and input.requires_grad:
        raise NotImplementedError("torch.ops.convkit.relu_ records no gradient; convkit.relu(input, inplace=True) does")
    with below_autograd():
        torch.ops.convkit.relu_.default(input)


library.impl("relu_", _relu_inplace_kernel, "Autograd")


def _relu_inplace(input):
    if torch.compiler.is_compiling() or transforms_active():
        return input.copy_(_relu(input))  # a transform sees values, not memory: torch makes this in place again
    if any(stride == 0 and size > 1 for size, stride in zip(input.shape, input.stride(), strict=True)):
        raise RuntimeError(
            "unsupported operation: more than one element of the written-to tensor refers to a single memory "
            "location. Please clone() the tensor before performing the operation. (relu: input has strides "
            f"{input.stride()})"
        )
    if torch.is_grad_enabled() and input.requires_grad:
        if input.is_leaf:
            raise RuntimeError(
                "a leaf Variable that requires grad is being used in an in-place operation. (relu: input)"
            )
        return _ReluInplace.apply(input)
    with below_autograd():
        torch.ops.convkit.relu_.default(input)
    torch.autograd.graph.increment_version(input)  # an op that returns nothing leaves the version as it was
    return input


def relu(input, inplace=False):
    """``max(0, input)``, element by element: :func:`torch.nn.functional.relu` bit for bit (NaN, -0.0, infinities).

    Args:
        input: tensor of any shape, strides and real dtype.
        inplace: overwrite ``input`` and return it.

    Returns:
        A tensor of the shape, dtype and memory format of ``input``.

    Raises:
        TypeError: ``input`` is not a tensor.
        NotImplementedError: its dtype is complex, or another that convkit has no kernel for.
        RuntimeError: its dtype is bool; or in place, ``input`` is a leaf that requires grad, or expanded.
    """
    check_tensor("relu", "input", input)
    if input.dtype == torch.bool:
        raise RuntimeError("Boolean inputs not supported for relu, but got input of dtype torch.bool")
    check_dtype("relu", input, REAL)
    return _relu_inplace(input) if inplace else _relu(input)
