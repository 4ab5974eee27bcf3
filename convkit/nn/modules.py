"""One class per torch.nn module that convkit has an op for; only ``forward`` differs."""

import torch.nn.functional
from torch import nn

from convkit.ops.conv2d import conv2d
from convkit.ops.linear import linear
from convkit.ops.max_pool2d import max_pool2d
from convkit.ops.relu import relu


class Conv2d(nn.Conv2d):
    """:class:`torch.nn.Conv2d` through :func:`convkit.conv2d`, every ``padding_mode`` included."""

    def padded(self, input):
        """The input and the padding that is left for the convolution: none where the mode is not zeros."""
        if self.padding_mode == "zeros":
            return input, self.padding
        sides = self._reversed_padding_repeated_twice
        return torch.nn.functional.pad(input, sides, mode=self.padding_mode), 0

    def forward(self, input):
        input, padding = self.padded(input)
        return conv2d(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class Linear(nn.Linear):
    """:class:`torch.nn.Linear` through :func:`convkit.linear`."""

    def forward(self, input):
        return linear(input, self.weight, self.bias)


class MaxPool2d(nn.MaxPool2d):
    """:class:`torch.nn.MaxPool2d` through :func:`convkit.max_pool2d`."""

    def forward(self, input):
        return max_pool2d(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        )


class ReLU(nn.ReLU):
    """:class:`torch.nn.ReLU` through :func:`convkit.relu`."""

    def forward(self, input):
        return relu(input, self.inplace)
