"""Fast 2-D convolution, ReLU and max-pooling for PyTorch, with their own CPU and CUDA kernels."""

from convkit import _library  # noqa: F401  (registers the ops)
from convkit.ops.conv2d import conv2d
from convkit.ops.linear import linear
from convkit.ops.relu import relu

__all__ = ["conv2d", "linear", "relu"]
