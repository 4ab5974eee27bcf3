"""The devices that tests run on: the CPU, and CUDA where this machine and this build have it."""

import pytest
import torch

from tests._tree import CUDA_ARCHS

if not torch.cuda.is_available():
    WITHOUT_CUDA = "torch sees no CUDA device"
else:
    WITHOUT_CUDA = None if CUDA_ARCHS else "this convkit was built without CUDA kernels"

NEEDS_CUDA = [pytest.mark.cuda, pytest.mark.skipif(WITHOUT_CUDA is not None, reason=str(WITHOUT_CUDA))]
DEVICES = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_CUDA)])


def on(device, function):
    """``function`` of CPU tensors, computed on that device; gradients come back too."""
    if device == "cpu":
        return function

    def moved(*tensors):
        return function(*(t if t is None else t.to(device) for t in tensors)).cpu()

    return moved
