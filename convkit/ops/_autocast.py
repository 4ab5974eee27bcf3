"""Autocast: conv2d and linear are in the lower-precision list, as in torch; relu and max_pool2d keep their dtype."""

import torch

from convkit.ops._autograd import library
from convkit.ops._torch_internals import without_autocast


def register_lower_precision(name):
    """Under autocast, cast the op's floating tensors to the current autocast dtype of their device."""
    op = getattr(torch.ops.convkit, name).default

    def kernel_for(device_type):
        def cast(value, dtype):
            castable = isinstance(value, torch.Tensor) and value.is_floating_point() and value.dtype != torch.float64
            return value.to(dtype) if castable else value

        def kernel(*args):
            dtype = torch.get_autocast_dtype(device_type)
            with without_autocast(device_type):
                return op(*(cast(arg, dtype) for arg in args))

        return kernel

    library.impl(name, kernel_for("cpu"), "AutocastCPU")
    library.impl(name, kernel_for("cuda"), "AutocastCUDA")
