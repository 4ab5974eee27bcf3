"""The calls that are timed: one layer, in one direction, through convkit and through torch, in both memory formats.

What is right is computed in float64 on a sample of the layer: some images, groups and channels, chosen so that what is
compared is complete in itself. So the error of the largest layer costs no more than a few calls.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle

import torch
from torch.nn import functional

import convkit
from convkit.benchmark.suites import CONVOLUTIONS, FUSED
from convkit.ops._conv2d_gradient import conv2d_backward_input, conv2d_backward_weight
from convkit.ops.max_pool2d import max_pool2d_backward, max_pool2d_with_taps
from convkit.ops.relu import relu_backward
from convkit.testing import tolerances

FORMATS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}
DIRECTIONS = {
    "conv2d": ("forward", "backward_input", "backward_weight", "training"),
    FUSED: ("forward", "training"),
    "max_pool2d": ("forward", "backward"),
    "relu": ("forward", "backward"),
}
SAMPLE = 6  # images, groups or channels that a sample has at most
convolution_backward = torch.ops.aten.convolution_backward


@dataclass(frozen=True, eq=False)
class Contender:
    """One way to do the work: ``function(*tensors)`` returns a tensor or a tuple of tensors."""

    who: str
    format: str
    function: Callable
    tensors: tuple

    def __call__(self):
        return self.function(*self.tensors)

    def rotated(self, at_least_bytes):
        """A function that makes this call on other copies of the tensors each time, in turn.

        All copies together have ``at_least_bytes``: with more than the last-level cache holds, none of them is found
        there when its turn comes.
        """
        own_bytes = sum(tensor.nbytes for tensor in self.tensors)
        count = min(4096, max(2, -(-at_least_bytes // own_bytes)))
        copies = [self.tensors, *(tuple(t.clone() for t in self.tensors) for _ in range(count - 1))]
        turns = cycle(copies)
        return lambda: self.function(*next(turns))


def _all_gradients(function):
    """Forward and backward: the output and the gradient of every tensor but the last, which is grad_output."""

    def call(*tensors):
        *leaves, grad_output = (t.detach() for t in tensors)
        for leaf in leaves:
            leaf.requires_grad_()
        with torch.enable_grad():
            output = function(*leaves)
            return (output.detach(), *torch.autograd.grad(output, leaves, grad_output))

    return call


class _Convolution:
    """A convolution, fused with ReLU and pooling or not, in one direction."""

    def __init__(self, layer, direction):
        self.layer, self.direction = layer, direction
        self.is_sum = True
        self.window = {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups}

    def tensors(self, dtype):
        layer = self.layer
        input, weight = torch.randn(layer.input_size), torch.randn(layer.weight_size)
        weight *= (2 / weight[0].numel()) ** 0.5
        grad_output = torch.randn(layer.output_size)
        chosen = {
            "forward": (input, weight, torch.randn(layer.out_channels)),
            "backward_input": (grad_output, input, weight),
            "backward_weight": (grad_output, input, weight),
            "training": (input, weight, torch.randn(layer.out_channels), grad_output),
        }[self.direction]
        return tuple(tensor.to(dtype) for tensor in chosen)

    def functions(self, format):
        forward = {"convkit": self._ours, "torch": self._theirs}
        if self.direction == "forward":
            return forward
        if self.direction == "training":
            return {who: _all_gradients(function) for who, function in forward.items()}
        return {"convkit": self._our_gradient(format == "channels_last"), "torch": self._their_gradient}

    def _ours(self, input, weight, bias):
        pool = self.layer.pool
        if not pool:
            return convkit.conv2d(input, weight, bias, **self.window)
        max_pool = (pool.kernel, pool.stride, pool.padding)
        return convkit.conv2d(input, weight, bias, **self.window, activation="relu", max_pool=max_pool)

    def _theirs(self, input, weight, bias, groups=None):
        window = self.window if groups is None else {**self.window, "groups": groups}
        output = functional.conv2d(input, weight, bias, **window)
        pool = self.layer.pool
        return functional.max_pool2d(output.relu_(), pool.kernel, pool.stride, pool.padding) if pool else output

    def _our_gradient(self, channels_last):
        layer = self.layer
        (pad_h, pad_w) = layer.padding
        window = (layer.stride, [pad_h, pad_h, pad_w, pad_w], [1, 1], layer.groups, "auto")
        if self.direction == "backward_input":
            return lambda grad, _input, weight: conv2d_backward_input(
                grad, weight, layer.input_size, channels_last, *window
            )
        return lambda grad, input, _weight: conv2d_backward_weight(
            grad, input, layer.weight_size, channels_last, *window
        )

    def _their_gradient(self, grad_output, input, weight, groups=None):
        layer, wanted = self.layer, self.direction == "backward_input"
        return convolution_backward(
            *(grad_output, input, weight, None, layer.stride, layer.padding, [1, 1], False, [0, 0]),
            *(groups or layer.groups, [wanted, not wanted, False]),
        )[0 if wanted else 1]

    def reference(self, tensors):
        """(where the sample lies in the result, exact values, magnitudes) for each tensor of the result."""
        if self.direction == "training" and not self.layer.pool:
            *leaves, grad_output = tensors
            pairs = tolerances.reference(self._theirs, leaves, grad_output)
            return [((slice(None),), exact, magnitude) for exact, magnitude in pairs]
        images, inputs, outputs, groups = self._sample()
        if self.direction in ("forward", "training"):
            # Of a fused block the output alone: a near tie of two pooled values may be won by the other one in float64,
            # and sends the gradient elsewhere.
            input, weight, bias = tensors[:3]
            sample = (input[images][:, inputs], weight[outputs], bias[outputs])
            where, function = (images[:, None], outputs), self._theirs
        else:
            grad_output, input, weight = tensors
            within = self._within_group(inputs)
            sample = (grad_output[images][:, outputs], input[images][:, inputs], weight[outputs][:, within])
            where = (images[:, None], inputs) if self.direction == "backward_input" else (outputs,)
            function = self._their_gradient
        values = [function(*(of(t.double()) for t in sample), groups) for of in (lambda t: t, torch.abs)]
        return [(where, *values)]

    def _sample(self):
        """Indices of images, input channels and output channels, and the number of groups that they form."""
        layer = self.layer
        images = _spread(layer.batch, SAMPLE if self.direction != "backward_weight" else layer.batch)
        if layer.groups > 1:
            groups = _spread(layer.groups, SAMPLE)
            per_in, per_out = layer.in_channels // layer.groups, layer.out_channels // layer.groups
            inputs = (groups[:, None] * per_in + torch.arange(per_in)).flatten()
            outputs = (groups[:, None] * per_out + torch.arange(per_out)).flatten()
            return images, inputs, outputs, len(groups)
        sampled_inputs = self.direction == "backward_input"
        inputs = _spread(layer.in_channels, SAMPLE if sampled_inputs else layer.in_channels)
        outputs = _spread(layer.out_channels, layer.out_channels if sampled_inputs else SAMPLE)
        return images, inputs, outputs, 1

    def _within_group(self, inputs):
        return inputs if self.layer.groups == 1 else slice(None)


def _spread(count, at_most):
    """Up to ``at_most`` of 0 ... count - 1, the first and the last among them."""
    return torch.linspace(0, count - 1, min(count, at_most)).round().long()


class _MaxPooling:
    """A max-pooling; its gradient from what each side saves: winning taps, or indices."""

    def __init__(self, layer, direction):
        self.layer, self.direction = layer, direction
        self.is_sum = direction == "backward" and layer.pool.kernel > layer.pool.stride
        self.window = (layer.pool.kernel, layer.pool.stride, layer.pool.padding)

    def tensors(self, dtype):
        input = torch.randn(self.layer.input_size, dtype=dtype)
        return (input,) if self.direction == "forward" else (torch.randn(self.layer.output_size, dtype=dtype), input)

    def functions(self, format):
        if self.direction == "forward":
            return {
                "convkit": lambda input: convkit.max_pool2d(input, *self.window),
                "torch": lambda input: functional.max_pool2d(input, *self.window),
            }
        size, channels_last, window = self.layer.input_size, format == "channels_last", (*self.window, (1, 1))
        return {
            "convkit": lambda grad, taps: max_pool2d_backward(grad, taps, size, channels_last, *window),
            "torch": lambda grad, input, indices: torch.ops.aten.max_pool2d_with_indices_backward(
                grad, input, *window, False, indices
            ),
        }

    def saved(self, who, tensors):
        """The tensors of the call: for a gradient, with what this side's forward pass saved."""
        if self.direction == "forward":
            return tensors
        grad_output, input = tensors
        if who == "convkit":
            return grad_output, max_pool2d_with_taps(input, *self.window, (1, 1), False)[1]
        return grad_output, input, functional.max_pool2d(input, *self.window, return_indices=True)[1]

    def reference(self, tensors):
        saved = self.saved("torch", [t.double() for t in tensors])
        function = self.functions("NCHW")["torch"]
        return [((slice(None),), function(*saved), function(saved[0].abs(), *saved[1:]))]


class _ReLU:
    is_sum = False

    def __init__(self, layer, direction):
        self.layer, self.direction = layer, direction

    def tensors(self, dtype):
        input = torch.randn(self.layer.input_size, dtype=dtype)
        return (input,) if self.direction == "forward" else (torch.randn_like(input), input.relu())

    def functions(self, format):
        if self.direction == "forward":
            return {"convkit": convkit.relu, "torch": functional.relu}
        return {
            "convkit": relu_backward,
            "torch": lambda grad, result: torch.ops.aten.threshold_backward(grad, result, 0),
        }

    def reference(self, tensors):
        exact = self.functions("NCHW")["torch"](*(t.double() for t in tensors))
        return [((slice(None),), exact, exact.abs())]


def _work(layer, direction):
    kind = _Convolution if layer.op in CONVOLUTIONS else _MaxPooling if layer.op == "max_pool2d" else _ReLU
    return kind(layer, direction)


@dataclass(frozen=True)
class Calls:
    """The contenders of one layer and what their results should be."""

    contenders: list
    reference: list
    is_sum: bool

    def error(self, result):
        """The largest |result - exact| over the sample."""
        return max(tolerances.largest_error(part[where], exact) for part, (where, exact, _) in self._parts(result))

    def bound(self, result, algorithm):
        """The error that the numerics contract allows; zero where no sum is formed."""
        if not self.is_sum:
            return 0.0
        return max(
            tolerances.bound(magnitude, part.dtype, algorithm) for part, (_, _, magnitude) in self._parts(result)
        )

    def _parts(self, result):
        result = (result,) if isinstance(result, torch.Tensor) else result
        return list(zip(result, self.reference, strict=False))


def prepare(layer, direction, dtype, data="normal"):
    """Everything about one layer that is timed.

    Args:
        layer: a `suites.Layer`.
        direction: one of ``DIRECTIONS[layer.op]``.
        dtype: of all tensors.
        data: "normal", or "ReLU'd": the input of a pooling after a ReLU, as it is in a network.
    """
    work = _work(layer, direction)
    tensors = work.tensors(dtype)
    if data == "ReLU'd":
        tensors = (*tensors[:-1], tensors[-1].relu())
    contenders = []
    for format, memory_format in FORMATS.items():
        laid_out = tuple(t.to(memory_format=memory_format) if t.dim() == 4 else t for t in tensors)
        for who, function in work.functions(format).items():
            own = work.saved(who, laid_out) if isinstance(work, _MaxPooling) else laid_out
            contenders.append(Contender(who, format, function, own))
    return Calls(contenders, work.reference(tensors), work.is_sum)
