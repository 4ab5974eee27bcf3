"""One class per torch.nn module that convkit has an op for; only ``forward`` differs."""

import torch
import torch.nn.functional
from torch import nn

from convkit.ops._packed_weight import FrozenWeight
from convkit.ops.conv2d import conv2d
from convkit.ops.linear import linear
from convkit.ops.max_pool2d import max_pool2d
from convkit.ops.relu import relu


class Conv2d(nn.Conv2d):
    """:class:`torch.nn.Conv2d` through :func:`convkit.conv2d`, every ``padding_mode`` included."""

    _frozen = None  # weight and bias while they are frozen

    def freeze(self):
        """Keep what is computed from the weight for calls without gradient; they need not see later changes of it until
        ``train()``, ``to()`` or ``load_state_dict()``."""
        with torch.no_grad():
            weight, bias = self.current_operands()
        self._frozen = FrozenWeight(weight.detach()), bias

    def train(self, mode=True):
        if mode:
            self._frozen = None
        return super().train(mode)

    def _apply(self, *args, **kwargs):
        self._frozen = None
        return super()._apply(*args, **kwargs)

    def _load_from_state_dict(self, *args, **kwargs):
        self._frozen = None
        super()._load_from_state_dict(*args, **kwargs)

    def current_operands(self):
        return self.weight, self.bias

    def operands(self):
        """The weight and bias to convolve with."""
        if self._frozen is None or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self.current_operands()
        return self._frozen

    def padded(self, input):
        """The input and the padding that is left for the convolution: none where the mode is not zeros."""
        if self.padding_mode == "zeros":
            return input, self.padding
        sides = self._reversed_padding_repeated_twice
        return torch.nn.functional.pad(input, sides, mode=self.padding_mode), 0

    def forward(self, input):
        input, padding = self.padded(input)
        return conv2d(input, *self.operands(), self.stride, padding, self.dilation, self.groups)


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
