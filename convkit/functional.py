"""Stands in for ``torch.nn.functional`` in code that is written against it: ``import convkit.functional as F``."""

from convkit.ops.conv2d import conv2d
from convkit.ops.linear import linear
from convkit.ops.max_pool2d import max_pool2d
from convkit.ops.relu import relu

__all__ = ["conv2d", "linear", "max_pool2d", "relu"]
