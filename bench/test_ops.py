"""A handful of calls for pytest-benchmark: ``pytest bench --benchmark-autosave``, later ``--benchmark-compare``."""

import pytest
import torch
from torch.nn import functional

import convkit

LAYOUTS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}
SIDES = {"convkit": convkit, "torch": functional}

pytestmark = [
    pytest.mark.parametrize("side", SIDES),
    pytest.mark.parametrize("layout", LAYOUTS),
]


def images(*shape, layout):
    torch.manual_seed(0)
    return torch.randn(shape).to(memory_format=LAYOUTS[layout])


@pytest.mark.parametrize(("channels", "size"), [(64, 112), (256, 28), (512, 14)])
def test_conv2d(benchmark, side, layout, channels, size):
    benchmark.group = f"conv2d 3x3, {channels} channels, {size}x{size}, {layout}"
    weight = images(channels, channels, 3, 3, layout=layout)
    benchmark(SIDES[side].conv2d, images(1, channels, size, size, layout=layout), weight, padding=1)


def test_conv2d_gradients(benchmark, side, layout):
    benchmark.group = f"conv2d 3x3 forward and backward, 64 channels, 56x56, {layout}"
    input = images(1, 64, 56, 56, layout=layout).requires_grad_()
    weight = images(64, 64, 3, 3, layout=layout).requires_grad_()

    def step():
        output = SIDES[side].conv2d(input, weight, padding=1)
        return torch.autograd.grad(output.sum(), (input, weight))

    benchmark(step)


@pytest.mark.parametrize(("kernel", "padding", "size"), [(2, 0, 224), (3, 1, 112)])
def test_max_pool2d(benchmark, side, layout, kernel, padding, size):
    benchmark.group = f"max_pool2d {kernel}x{kernel}, 64 channels, {size}x{size}, {layout}"
    input = images(1, 64, size, size, layout=layout).relu()
    benchmark(SIDES[side].max_pool2d, input, kernel, 2, padding)


def test_relu(benchmark, side, layout):
    benchmark.group = f"relu, 64 channels, 112x112, {layout}"
    benchmark(SIDES[side].relu, images(1, 64, 112, 112, layout=layout))
