"""One small call of every public op, for tests of what all of them promise to autograd and torch.compile."""

import convkit
from convkit.testing.shapes import random


def _floats(*sizes, seed=0):
    """float64 tensors whose values differ by more than a finite difference, so that no maximum changes hands."""
    return [random(size, kind="normal", seed=seed + i).double() for i, size in enumerate(sizes)]


def block(input, weight, bias):
    return convkit.conv2d(input, weight, bias, padding=1, activation="relu", max_pool=2)


# name -> (function, its float64 tensors)
CALLS = {
    "conv2d": (lambda x, w, b: convkit.conv2d(x, w, b, padding=1), _floats((2, 3, 4, 5), (4, 3, 3, 3), (4,))),
    "conv2d_no_bias": (lambda x, w: convkit.conv2d(x, w), _floats((1, 2, 4, 4), (3, 2, 2, 2))),
    "conv2d_strided": (
        lambda x, w, b: convkit.conv2d(x, w, b, stride=(2, 1), padding=(1, 2), dilation=(1, 2)),
        _floats((2, 2, 5, 6), (3, 2, 3, 2), (3,)),
    ),
    "conv2d_groups": (lambda x, w, b: convkit.conv2d(x, w, b, groups=2), _floats((2, 4, 4, 3), (6, 2, 2, 2), (6,))),
    "conv2d_same_even": (
        lambda x, w, b: convkit.conv2d(x, w, b, padding="same"),
        _floats((1, 2, 4, 5), (2, 2, 2, 4), (2,)),
    ),
    "conv2d_unbatched": (lambda x, w, b: convkit.conv2d(x, w, b), _floats((2, 4, 4), (3, 2, 2, 2), (3,))),
    "conv2d_relu": (
        lambda x, w, b: convkit.conv2d(x, w, b, activation="relu"),
        _floats((2, 2, 4, 4), (3, 2, 2, 2), (3,)),
    ),
    "linear": (convkit.linear, _floats((3, 5), (4, 5), (4,))),
    "linear_no_bias": (lambda x, w: convkit.linear(x, w), _floats((2, 3, 5), (4, 5))),
    "linear_relu": (lambda x, w, b: convkit.linear(x, w, b, activation="relu"), _floats((3, 5), (4, 5), (4,))),
    "relu": (convkit.relu, _floats((3, 4, 5))),
    "max_pool2d": (lambda x: convkit.max_pool2d(x, 3, 2, 1), _floats((2, 3, 6, 7))),
    "block": (block, _floats((2, 2, 6, 6), (3, 2, 3, 3), (3,))),
    "block_overlapping": (
        lambda x, w: convkit.conv2d(x, w, activation="relu", max_pool=(3, 2, 1)),
        _floats((2, 2, 7, 6), (3, 2, 2, 2)),
    ),
}
