"""Convolution, ReLU and max-pooling as one module."""

from torch.nn import functional

from convkit.nn.modules import Conv2d
from convkit.ops.conv2d import check_epilogue, conv2d
from convkit.ops.max_pool2d import max_pool2d
from convkit.ops.relu import relu


def activate_and_pool(input, activation, max_pool, inplace=False):
    """The activation and the max-pooling of a block where they are no part of its convolution."""
    if activation == "clamp":  # to the values of ReLU6; its gradient passes at 0 and 6 too
        input = input.clamp(0, 6)
    elif activation:
        input = {"relu": relu, "relu6": functional.relu6}[activation](input, inplace)
    return max_pool2d(input, *max_pool) if max_pool else input


class ConvBlock2d(Conv2d):
    """A convolution with its bias, activation and max-pooling as one op, which in training saves one byte per pooled
    value instead of two feature maps and an index tensor.

    Args:
        activation: None, "relu" or, on the CPU, "relu6".
        max_pool: None, a kernel size, or (kernel_size, stride, padding); see :func:`convkit.conv2d`.
        *args, **kwargs: those of :class:`torch.nn.Conv2d`, whose ``state_dict`` it has.

    Raises:
        ValueError, TypeError, RuntimeError: an activation or a max_pool that :func:`convkit.conv2d` would not take.
    """

    def __init__(self, *args, activation="relu", max_pool=None, **kwargs):
        check_epilogue("ConvBlock2d", activation, max_pool)
        super().__init__(*args, **kwargs)
        self.activation = activation
        self.max_pool = max_pool

    def forward(self, input):
        input, padding = self.padded(input)
        geometry = (self.stride, padding, self.dilation, self.groups)
        return conv2d(input, *self.operands(), *geometry, activation=self.activation, max_pool=self.max_pool)

    def extra_repr(self):
        return f"{super().extra_repr()}, activation={self.activation!r}, max_pool={self.max_pool!r}"
