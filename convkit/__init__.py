"""Fast 2-D convolution, ReLU and max-pooling for PyTorch, with their own CPU and CUDA kernels."""

from convkit import functional, models, nn
from convkit._explain import explain
from convkit._library import get_float32_algorithm, set_float32_algorithm
from convkit._optimize import optimize
from convkit.info import memory_stats
from convkit.ops._packed_weight import PackedWeight
from convkit.ops.conv2d import conv2d, prepack
from convkit.ops.linear import linear
from convkit.ops.max_pool2d import max_pool2d
from convkit.ops.relu import relu

__all__ = [
    "PackedWeight",
    "conv2d",
    "explain",
    "functional",
    "get_float32_algorithm",
    "linear",
    "max_pool2d",
    "memory_stats",
    "models",
    "nn",
    "optimize",
    "prepack",
    "relu",
    "set_float32_algorithm",
]
