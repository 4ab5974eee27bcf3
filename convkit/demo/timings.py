"""Each op of convkit beside torch's: time of both, and how far each is from the same call in float64."""

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch.nn import functional
from tqdm import tqdm

import convkit
from convkit.testing.timing import Timing, compare

VGG_LAYERS = [(3, 224, 64), (64, 224, 64), (128, 112, 128), (256, 56, 256), (512, 28, 512), (512, 14, 512)]


@dataclass(frozen=True)
class Row:
    """One line of the table; times are of the same call on the same data."""

    op: str
    size: str
    layout: str
    convkit: Timing
    torch: Timing

    @property
    def ratio(self):
        """How many times faster convkit is: above 1 convkit wins."""
        return self.torch.median / self.convkit.median


@dataclass(frozen=True)
class Case:
    """A call to time: ``ours`` and ``theirs`` take ``inputs`` and return a tensor."""

    op: str
    size: str
    layout: str
    ours: callable
    theirs: callable
    inputs: tuple

    def with_gradients(self):
        """The same case, forward and backward: it returns the gradients of all inputs."""
        op = f"{self.op}, forward + backward"
        return replace(self, op=op, ours=_gradients(self.ours), theirs=_gradients(self.theirs))

    def run(self, seconds):
        calls = {"convkit": partial(self.ours, *self.inputs), "torch": partial(self.theirs, *self.inputs)}
        timings = compare(calls, reference=lambda: self.theirs(*(t.double() for t in self.inputs)), seconds=seconds)
        return Row(self.op, self.size, self.layout, timings["convkit"], timings["torch"])


def _gradients(function):
    def call(*inputs):
        leaves = [tensor.detach().requires_grad_() for tensor in inputs]
        output = function(*leaves)
        return torch.autograd.grad(output, leaves, torch.ones_like(output))

    return call


def _images(*shape, layout):
    formats = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}
    return torch.randn(shape).to(memory_format=formats[layout])


def conv_case(channels, size, out_channels, layout):
    """A 3x3 convolution with padding 1 on one image, as in VGG."""
    weight = _images(out_channels, channels, 3, 3, layout=layout) * (2 / (9 * channels)) ** 0.5
    return Case(
        "conv2d 3x3",
        f"{channels} → {out_channels}, {size}x{size}",
        layout,
        partial(convkit.conv2d, padding=1),
        partial(functional.conv2d, padding=1),
        (_images(1, channels, size, size, layout=layout), weight, torch.randn(out_channels)),
    )


def fused_case(channels, size, layout):
    """Convolution, ReLU and 2x2 max-pooling: one call of convkit, three of torch."""

    def theirs(input, weight, bias):
        return functional.max_pool2d(functional.relu(functional.conv2d(input, weight, bias, padding=1)), 2)

    plain = conv_case(channels, size, channels, layout)
    ours = partial(convkit.conv2d, padding=1, activation="relu", max_pool=2)
    return Case("conv2d + ReLU + pool", plain.size, layout, ours, theirs, plain.inputs)


def pool_case(channels, size, kernel, padding, layout):
    """A max-pooling with stride 2; ``input`` after a ReLU, as in a network."""
    options = {"kernel_size": kernel, "stride": 2, "padding": padding}
    return Case(
        f"max_pool2d {kernel}x{kernel}, stride 2",
        f"{channels}, {size}x{size}",
        layout,
        partial(convkit.max_pool2d, **options),
        partial(functional.max_pool2d, **options),
        (_images(1, channels, size, size, layout=layout).relu_(),),
    )


def linear_case(rows, features, out_features):
    inputs = (
        torch.randn(rows, features),
        torch.randn(out_features, features) / features**0.5,
        torch.randn(out_features),
    )
    size = f"{rows} x {features} → {out_features}"
    return Case("linear", size, "rows", convkit.linear, functional.linear, inputs)


def cases(quick):
    """The lines of the table; with ``quick`` a handful of small ones."""
    both = ("channels_last", "NCHW")
    relu_input = torch.randn(1, 64, 112, 112)
    relu = Case("relu", "64, 112x112", "NCHW", convkit.relu, functional.relu, (relu_input,))
    if quick:
        chosen = [conv_case(64, 56, 64, layout) for layout in both] + [fused_case(64, 56, "channels_last")]
        return [*chosen, *(pool_case(64, 56, 2, 0, layout) for layout in both), relu, linear_case(64, 512, 512)]
    convolutions = [conv_case(*layer, layout) for layer in VGG_LAYERS for layout in both]
    pools = [pool_case(64, *pool, layout) for pool in ((224, 2, 0), (112, 3, 1)) for layout in both]
    return [
        *convolutions,
        conv_case(64, 56, 64, "channels_last").with_gradients(),
        conv_case(256, 28, 256, "channels_last").with_gradients(),
        fused_case(64, 112, "channels_last"),
        fused_case(128, 56, "channels_last"),
        *pools,
        *(pool_case(64, 112, 3, 1, layout).with_gradients() for layout in both),
        relu,
        relu.with_gradients(),
        linear_case(1, 4096, 4096),
        linear_case(64, 4096, 1024),
    ]


def run(quick):
    """Time every case on torch's number of threads; returns a list of `Row`."""
    torch.manual_seed(0)
    seconds = 0.2 if quick else 0.8
    return [case.run(seconds) for case in tqdm(cases(quick), desc="timings", unit="op", leave=False)]
