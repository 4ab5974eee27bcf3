"""The calls that bench.gpu_measure compares, torch's and convkit's, on the same operands."""

import torch
from torch.nn import functional

import convkit
from convkit.ops._float32_precision import follow_torch

MAX_SETS = 6


class Operands:
    """The tensors of a case; of what a call takes, `inputs`, enough that they do not fit the L2 cache."""

    def __init__(self, case):
        layer = case.layer
        self.dtype = getattr(torch, case.precision, torch.float32)
        self.memory_format = torch.channels_last if case.format == "channels_last" else torch.contiguous_format
        self.generator = torch.Generator("cuda").manual_seed(0)
        image = (layer.batch, layer.channels, layer.size, layer.size)
        result = (layer.batch, layer.filters, layer.output_size, layer.output_size)
        self.weight = self._uniform(layer.filters, layer.channels // layer.groups, layer.kernel, layer.kernel)
        self.bias = self._uniform(layer.filters)
        cache = 2 * torch.cuda.get_device_properties(0).L2_cache_size
        sets = min(MAX_SETS, 1 + cache // (layer.bytes * self.dtype.itemsize))
        takes_gradient = case.call in ("backward_input", "max_pool2d_backward", "relu_backward")
        self.inputs = [self._uniform(*(result if takes_gradient else image)) for _ in range(sets)]
        self.other = self._uniform(*(image if takes_gradient else result))
        self.geometry = {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups}

    def _uniform(self, *shape):
        values = torch.rand(shape, generator=self.generator, device="cuda") * 2 - 1
        values = values.to(self.dtype)
        return values.to(memory_format=self.memory_format) if len(shape) == 4 else values

    def first_image(self, dtype):
        """A copy of the tensors with one image alone."""
        copy = object.__new__(Operands)
        copy.__dict__.update(self.__dict__, weight=self.weight.to(dtype), bias=self.bias.to(dtype))
        copy.inputs, copy.other = [self.inputs[0][:1].to(dtype)], self.other[:1].to(dtype)
        return copy


def torch_call(case, operands, conv2d=functional.conv2d):
    """The call by torch: cuDNN's convolutions, aten's pooling and ReLU."""
    layer, weight, other = case.layer, operands.weight, operands.other
    bias = operands.bias if "bias" in case.call else None
    window = (layer.kernel, layer.stride, layer.padding)

    def block(input):
        output = conv2d(input, weight, bias, **operands.geometry)
        output = functional.relu(output) if "relu" in case.call else output
        return functional.max_pool2d(output, 2) if "pool" in case.call else output

    def gradients(grad_output, input, wanted):
        pairs = ([layer.stride] * 2, [layer.padding] * 2, [1, 1], False, [0, 0])
        mask = [name == wanted for name in ("input", "weight", "bias")]
        grads = torch.ops.aten.convolution_backward(grad_output, input, weight, None, *pairs, layer.groups, mask)
        return grads[mask.index(True)]

    if case.call == "max_pool2d_backward":
        indices = functional.max_pool2d(other, *window, return_indices=True)[1]
        arguments = [[side, side] for side in (*window, 1)]
        backward = torch.ops.aten.max_pool2d_with_indices_backward
        return lambda grad_output: backward(grad_output, other, *arguments, False, indices)
    return {
        "max_pool2d": lambda input: functional.max_pool2d(input, *window),
        "relu": functional.relu,
        "relu_backward": lambda grad_output: torch.ops.aten.threshold_backward(grad_output, other, 0),
        "backward_input": lambda grad_output: gradients(grad_output, other, "input"),
        "backward_weight": lambda input: gradients(other, input, "weight"),
    }.get(case.call, block)


def _conv2d_by_matmul(input, weight, bias, stride, padding, groups):
    columns = functional.unfold(input, weight.shape[2:], padding=padding, stride=stride)
    columns = columns.reshape(len(input), groups, -1, columns.shape[2])
    output = weight.reshape(groups, weight.shape[0] // groups, -1) @ columns
    height = (input.shape[2] + 2 * padding - weight.shape[2]) // stride + 1
    output = output.reshape(len(input), weight.shape[0], height, -1)
    return output if bias is None else output + bias[:, None, None]


def reference(case, operands):
    """The result of the call with the first image, in float64 and without cuDNN."""
    operands = operands.first_image(torch.float64)
    [input], other, weight = operands.inputs, operands.other, operands.weight
    if case.call not in ("backward_input", "backward_weight"):
        return torch_call(case, operands, _conv2d_by_matmul)(input)
    with torch.enable_grad():
        image, grad_output = (other, input) if case.call == "backward_input" else (input, other)
        image, weight = image.detach().requires_grad_(), weight.detach().requires_grad_()
        output = _conv2d_by_matmul(image, weight, None, **operands.geometry)
        return torch.autograd.grad(output, image if case.call == "backward_input" else weight, grad_output)[0]


def convkit_call(case, operands):
    """The call by convkit."""
    layer, weight, other, ops = case.layer, operands.weight, operands.other, torch.ops.convkit
    options = dict(operands.geometry, algorithm=case.algorithm)
    options["activation"] = "relu" if "relu" in case.call else None
    options["max_pool"] = 2 if "pool" in case.call else None
    bias = operands.bias if "bias" in case.call else None
    window = (layer.kernel, layer.stride, layer.padding)
    pairs = [[side, side] for side in (*window, 1)]
    last = case.format == "channels_last"
    algorithm = follow_torch(case.algorithm, weight)
    geometry = ([layer.stride] * 2, [layer.padding] * 4, [1, 1], layer.groups, algorithm)
    if case.call == "max_pool2d_backward":
        _, taps = ops.max_pool2d_with_taps(other, *pairs, False)
        return lambda grad_output: ops.max_pool2d_backward(grad_output, taps, other.shape, last, *pairs)
    return {
        "max_pool2d": lambda input: convkit.max_pool2d(input, *window),
        "relu": convkit.relu,
        "relu_backward": lambda grad_output: ops.relu_backward(grad_output, other),
        "backward_input": lambda grad: ops.conv2d_backward_input(grad, weight, other.shape, last, *geometry),
        "backward_weight": lambda input: ops.conv2d_backward_weight(other, input, weight.shape, last, *geometry),
    }.get(case.call, lambda input: convkit.conv2d(input, weight, bias, **options))
