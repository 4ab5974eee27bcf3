"""A convolution held to the numerics contract, values and gradients, in a layout and by an algorithm."""

import functools

import torch
import torch.nn.functional as F

import convkit
from convkit.testing import shapes, tolerances


def tensors_of(case, layout):
    """Input, weight and bias of a case."""
    arrange = shapes.LAYOUTS[layout]
    sizes = (case.input_size, case.weight_size)
    return [
        *(arrange(shapes.random(size, seed=i)) for i, size in enumerate(sizes)),
        shapes.random((case.out_channels,)),
    ]


def hold_contract(case, layout, algorithm, gradient_layout=None, dtype=torch.float32):
    tensors = [t.to(dtype) for t in tensors_of(case, layout)]
    theirs = functools.partial(F.conv2d, **case.arguments)
    size = theirs(*(t.to("meta") for t in tensors)).shape
    grad_output = shapes.LAYOUTS[gradient_layout or layout](shapes.random(size, seed=3)).to(dtype)
    contract = tolerances.Contract(theirs, tensors, grad_output)
    contract.hold(functools.partial(convkit.conv2d, **case.arguments, algorithm=algorithm))
