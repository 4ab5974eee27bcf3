"""The gradients of conv2d and of its backward ops. Every derivative of a convolution is a convolution again, so all of
them are the three ops conv2d, conv2d_backward_input and conv2d_backward_weight."""

from convkit.ops import _conv2d_fake, _conv2d_vmap
from convkit.ops._arguments import suggests_channels_last
from convkit.ops._autocast import register_lower_precision
from convkit.ops._autograd import define
from convkit.ops._conv2d_shape import convolved_size
from convkit.ops.relu import relu_backward


class Geometry:
    """The arguments of a convolution that are not tensors, as backward needs them again."""

    def __init__(self, input, weight, stride, padding, dilation, groups, algorithm):
        self.input_size, self.weight_size = list(input.shape), list(weight.shape)
        self.input_channels_last = suggests_channels_last(input)
        self.weight_channels_last = suggests_channels_last(weight)
        self.arguments = (stride, padding, dilation, groups)
        self.algorithm = algorithm

    def output_size(self):
        return convolved_size(self.input_size, self.weight_size, *self.arguments[:3])

    def output(self, input, weight):
        return conv2d_forward(input, weight, None, *self.arguments, "none", self.algorithm)

    def grad_input(self, grad_output, weight):
        size, channels_last = self.input_size, self.input_channels_last
        return conv2d_backward_input(grad_output, weight, size, channels_last, *self.arguments, self.algorithm)

    def grad_weight(self, grad_output, input):
        size, channels_last = self.weight_size, self.weight_channels_last
        # kn2row serves few output channels, and a gradient of the weight has none.
        algorithm = "direct" if self.algorithm == "kn2row" else self.algorithm
        return conv2d_backward_weight(grad_output, input, size, channels_last, *self.arguments, algorithm)

    def grads(self, needs, grad_output, input, weight):
        """(grad_input, grad_weight, grad_bias), each where it is needed."""
        return (
            self.grad_input(grad_output, weight) if needs[0] else None,
            self.grad_weight(grad_output, input) if needs[1] else None,
            conv2d_backward_bias(grad_output) if needs[2] else None,
        )

    def tangent(self, input, weight, input_tangent, weight_tangent, bias_tangent):
        """The forward-mode derivative of the output, before any activation."""
        terms = []
        if input_tangent is not None:
            terms.append(self.output(input_tangent, weight))
        if weight_tangent is not None:
            terms.append(self.output(input, weight_tangent))
        if bias_tangent is not None:
            terms.append(bias_tangent.view(1, -1, 1, 1).expand(self.output_size()))
        return sum(terms[1:], terms[0])


def _through(activation, grad, output):
    """The gradient, or tangent, of an activation, of which the output tells where values pass."""
    if activation == "none":
        return grad
    return relu_backward(grad.masked_fill(output >= 6, 0) if activation == "relu6" else grad, output)


def _setup_forward(ctx, inputs, output):
    input, weight, _bias, *geometry, ctx.activation, algorithm = inputs
    ctx.geometry = Geometry(input, weight, *geometry, algorithm)
    needs_input, needs_weight = ctx.needs_input_grad[:2]
    ctx.save_for_backward(
        input if needs_weight else None,
        weight if needs_input else None,
        None if ctx.activation == "none" else output,
    )
    ctx.save_for_forward(input, weight, output)


def _backward_forward(ctx, grad):
    input, weight, output = ctx.saved_tensors
    grad = _through(ctx.activation, grad, output)
    return *ctx.geometry.grads(ctx.needs_input_grad, grad, input, weight), None, None, None, None, None, None


def _jvp_forward(ctx, input_tangent, weight_tangent, bias_tangent, *_):
    input, weight, output = ctx.saved_tensors
    tangent = ctx.geometry.tangent(input, weight, input_tangent, weight_tangent, bias_tangent)
    return _through(ctx.activation, tangent, output)


conv2d_forward = define(
    "conv2d",
    fake=_conv2d_fake.conv2d,
    setup_context=_setup_forward,
    backward=_backward_forward,
    jvp=_jvp_forward,
    vmap=_conv2d_vmap.conv2d(lambda *args: conv2d_forward(*args)),
)
register_lower_precision("conv2d")


def _define_bilinear(name, *, fake, vmap, operands, value, grad_first, grad_second):
    """Define a backward op, which is linear in each of its first two tensors, a and b.

    ``operands(a, b, output)`` are input and weight of the forward convolution, for their sizes;
    ``value(geometry, a, b)`` is the op; ``grad_first(geometry, grad, b)`` and ``grad_second(geometry, a, grad)``
    are its two gradients.
    """

    def setup_context(ctx, inputs, output):
        a, b, _size, _channels_last, *geometry, algorithm = inputs
        ctx.geometry = Geometry(*operands(a, b, output), *geometry, algorithm)
        ctx.save_for_backward(a, b)
        ctx.save_for_forward(a, b)

    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        needs_first, needs_second = ctx.needs_input_grad[:2]
        return (
            grad_first(ctx.geometry, grad, b) if needs_first else None,
            grad_second(ctx.geometry, a, grad) if needs_second else None,
            *[None] * 7,
        )

    def jvp(ctx, a_tangent, b_tangent, *_):
        a, b = ctx.saved_tensors
        terms = []
        if a_tangent is not None:
            terms.append(value(ctx.geometry, a_tangent, b))
        if b_tangent is not None:
            terms.append(value(ctx.geometry, a, b_tangent))
        return sum(terms[1:], terms[0])

    return define(name, fake=fake, setup_context=setup_context, backward=backward, jvp=jvp, vmap=vmap)


conv2d_backward_input = _define_bilinear(
    "conv2d_backward_input",
    fake=_conv2d_fake.conv2d_backward_input,
    vmap=_conv2d_vmap.backward_input(lambda *args: conv2d_backward_input(*args)),
    operands=lambda _grad_output, weight, grad_input: (grad_input, weight),
    value=Geometry.grad_input,
    grad_first=Geometry.output,
    grad_second=Geometry.grad_weight,
)

conv2d_backward_weight = _define_bilinear(
    "conv2d_backward_weight",
    fake=_conv2d_fake.conv2d_backward_weight,
    vmap=_conv2d_vmap.backward_weight(lambda *args: conv2d_backward_weight(*args)),
    operands=lambda _grad_output, input, grad_weight: (input, grad_weight),
    value=Geometry.grad_weight,
    grad_first=lambda geometry, grad, input: geometry.output(input, grad),
    grad_second=Geometry.grad_input,
)


def _setup_backward_bias(ctx, inputs, output):
    ctx.shape = inputs[0].shape


conv2d_backward_bias = define(
    "conv2d_backward_bias",
    fake=_conv2d_fake.conv2d_backward_bias,
    setup_context=_setup_backward_bias,
    backward=lambda ctx, grad: grad.view(1, -1, 1, 1).expand(ctx.shape),
    jvp=lambda ctx, tangent: conv2d_backward_bias(tangent),
    vmap=_conv2d_vmap.backward_bias(lambda *args: conv2d_backward_bias(*args)),
)
