"""Models on convkit's ops as ONNX files: the ops are written as torch's own first, which every exporter knows."""

import importlib.util

import torch
from torch.nn import functional

_OPS = torch.ops.convkit


def _activated(output, activation):
    known = {"none": lambda output: output, "relu": functional.relu, "relu6": functional.relu6}
    return known[activation](output)


def _conv2d(input, weight, bias, stride, padding, dilation, groups, activation, _algorithm):
    top, bottom, left, right = padding
    if (top, left) != (bottom, right):
        input, top, left = functional.pad(input, (left, right, top, bottom)), 0, 0
    return _activated(functional.conv2d(input, weight, bias, stride, (top, left), dilation, groups), activation)


def _conv2d_max_pool2d(*arguments):
    *convolution, kernel_size, stride, padding, return_taps, algorithm = arguments
    if return_taps:
        raise RuntimeError("to_aten: export the model in evaluation mode, without gradients")
    output = functional.max_pool2d(_conv2d(*convolution, algorithm), kernel_size, stride, padding)
    return output, output.new_empty([0], dtype=torch.uint8)


DECOMPOSITIONS = {
    _OPS.conv2d.default: _conv2d,
    _OPS.conv2d_max_pool2d.default: _conv2d_max_pool2d,
    _OPS.linear.default: lambda input, weight, bias, activation: _activated(
        functional.linear(input, weight, bias), activation
    ),
    _OPS.max_pool2d.default: functional.max_pool2d,
    _OPS.relu.default: functional.relu,
}


def to_aten(program):
    """A ``torch.export.ExportedProgram`` without convkit's ops: each is replaced by what torch has for it.

    Raises:
        RuntimeError: an op is left, such as a gradient.
    """
    program = program.run_decompositions(DECOMPOSITIONS)
    left = {str(node.target) for node in program.graph.nodes if str(node.target).startswith("convkit.")}
    if left:
        raise RuntimeError(f"to_aten: no decomposition for {', '.join(sorted(left))}")
    return program


def export(model, args, path, *, dynamic_shapes=None):
    """Write a model as an ONNX file, in evaluation mode. Needs ``convkit[onnx]``.

    Args:
        model: a :class:`torch.nn.Module`; it is left as it is.
        args: tuple of example inputs.
        path: where the file goes.
        dynamic_shapes: which sizes vary, as :func:`torch.export.export` takes it: ``({0: Dim("batch")},)``.

    Raises:
        ModuleNotFoundError: onnx or onnxscript is not installed.
    """
    for name in ("onnx", "onnxscript"):
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"export: {name} is not installed: pip install 'convkit[onnx]'", name=name)
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            program = to_aten(torch.export.export(model, args, dynamic_shapes=dynamic_shapes))
            torch.onnx.export(program, (), path, dynamo=True, verbose=False)
    finally:
        for module, training in modes.items():
            module.training = training
