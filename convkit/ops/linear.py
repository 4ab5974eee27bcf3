"""linear: csrc/cpu/linear.cpp."""

import torch
from torch.utils.flop_counter import mm_flop, register_flop_formula

from convkit.ops import _conv2d_vmap
from convkit.ops._arguments import FLOATING, check_dtype, check_tensor
from convkit.ops._autocast import register_lower_precision
from convkit.ops._autograd import define
from convkit.ops._conv2d_fake import check_activation, check_bias, check_same_dtype
from convkit.ops._conv2d_gradient import conv2d_backward_bias
from convkit.ops._torch_internals import autocast_active
from convkit.ops.relu import relu_backward


def _linear_fake(input, weight, bias, activation):
    if input.dim() != 2 or weight.dim() != 2:
        raise RuntimeError(
            f"linear: expected 2D input and weight, but got sizes {list(input.shape)} and {list(weight.shape)}"
        )
    if input.shape[1] != weight.shape[1]:
        raise RuntimeError(
            f"linear: input of size {list(input.shape)} cannot be multiplied with weight of size "
            f"{list(weight.shape)}: in_features differ"
        )
    check_same_dtype("linear", "input", input, "weight", weight)
    if bias is not None:
        check_bias("linear", bias, weight)
    check_activation("linear", activation)
    return input.new_empty([input.shape[0], weight.shape[0]])


def _product(a, b):
    """a @ b.T: the gradients of a linear layer are linear layers on transposed views."""
    return linear_forward(a, b, None, "none")


def _setup(ctx, inputs, output):
    input, weight, _bias, activation = inputs
    ctx.relu = activation == "relu"
    needs_input, needs_weight = ctx.needs_input_grad[:2]
    ctx.save_for_backward(
        input if needs_weight else None, weight if needs_input else None, output if ctx.relu else None
    )
    ctx.save_for_forward(input, weight, output)


def _backward(ctx, grad):
    input, weight, output = ctx.saved_tensors
    if ctx.relu:
        grad = relu_backward(grad, output)
    needs_input, needs_weight, needs_bias, _ = ctx.needs_input_grad
    return (
        _product(grad, weight.t()) if needs_input else None,
        _product(grad.t(), input.t()) if needs_weight else None,
        conv2d_backward_bias(grad.t()[None, :, None]) if needs_bias else None,
        None,
    )


def _jvp(ctx, input_tangent, weight_tangent, bias_tangent, _activation):
    input, weight, output = ctx.saved_tensors
    terms = []
    if input_tangent is not None:
        terms.append(_product(input_tangent, weight))
    if weight_tangent is not None:
        terms.append(_product(input, weight_tangent))
    if bias_tangent is not None:
        terms.append(bias_tangent.expand_as(output))
    tangent = sum(terms[1:], terms[0])
    return relu_backward(tangent, output) if ctx.relu else tangent


linear_forward = define(
    "linear",
    fake=_linear_fake,
    setup_context=_setup,
    backward=_backward,
    jvp=_jvp,
    vmap=_conv2d_vmap.linear(lambda *args: linear_forward(*args)),
)
register_lower_precision("linear")


@register_flop_formula(torch.ops.convkit.linear)
def _linear_flops(input_shape, weight_shape, *_args, **_kwargs):
    return mm_flop(input_shape, weight_shape[::-1])


def linear(input, weight, bias=None, *, activation=None):
    """``input @ weight.T + bias``: :func:`torch.nn.functional.linear`, optionally with its activation.

    Args:
        input: [..., in_features]; float32, float64, bfloat16 or float16, any strides.
        weight: [out_features, in_features] or, for one output, [in_features]; of the input's dtype.
        bias: [out_features] or None.
        activation: None or "relu".

    Returns:
        [..., out_features], contiguous. With up to four rows the weight is read once, at the speed of memory.

    Raises:
        RuntimeError: sizes or dtypes that do not fit.
        NotImplementedError: a dtype that convkit has no kernel for.
        TypeError, ValueError: an argument of the wrong kind.
    """
    check_tensor("linear", "input", input)
    check_tensor("linear", "weight", weight)
    if bias is not None:
        check_tensor("linear", "bias", bias)
    if not autocast_active():  # which casts first
        check_same_dtype("linear", "input", input, "weight", weight)
        if bias is not None:
            check_same_dtype("linear", "input", input, "bias", bias)
    check_dtype("linear", input, FLOATING)
    if activation not in (None, "relu"):
        raise ValueError(f"linear: activation must be None or 'relu', but got {activation!r}")
    if input.dim() == 0 or weight.dim() not in (1, 2) or input.shape[-1] != weight.shape[-1]:
        raise RuntimeError(
            f"linear: input of size {list(input.shape)} cannot be multiplied with weight of size "
            f"{list(weight.shape)}: in_features differ"
        )
    if weight.dim() == 1:
        bias = bias.reshape(1) if bias is not None and bias.dim() == 0 else bias
        return linear(input, weight.unsqueeze(0), bias, activation=activation).squeeze(-1)
    rows = input.reshape(-1, input.shape[-1]) if input.dim() != 2 else input
    output = linear_forward(rows, weight, bias, activation or "none")
    return output.view(*input.shape[:-1], weight.shape[0]) if input.dim() != 2 else output
