"""What convkit.optimize makes of a convolution and of a BatchNorm behind it. They keep parameters and names."""

import torch
from torch import nn

from convkit.nn.block import ConvBlock2d, activate_and_pool
from convkit.nn.modules import Conv2d


class FoldedBatchNorm2d(nn.BatchNorm2d):
    """In evaluation mode does nothing: the convolution before it has applied it. In training mode, BatchNorm and what
    follows in the run."""

    def fuse(self, activation, max_pool):
        self.activation, self.max_pool = activation, max_pool

    @property
    def is_folded(self):
        return not self.training and self.running_mean is not None

    def folded(self, weight, bias):
        """The weight and bias of a convolution that applies this BatchNorm too."""
        wide = torch.promote_types(weight.dtype, torch.float32)
        scale = torch.rsqrt(self.running_var.to(wide) + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        shift = -self.running_mean if bias is None else bias - self.running_mean
        shift = shift * scale if self.bias is None else shift * scale + self.bias
        return (weight * scale[:, None, None, None]).to(weight.dtype), shift.to(weight.dtype)

    def forward(self, input):
        if self.is_folded:
            return input
        return activate_and_pool(
            super().forward(input), self.activation, self.max_pool, inplace=not torch.is_grad_enabled()
        )


class FusedConv2d(ConvBlock2d):
    """A convolution with what follows it in a run: BatchNorm while that is in evaluation mode, ReLU or ReLU6,
    max-pooling."""

    def fuse(self, batch_norm, activation, max_pool):
        self._batch_norm = [batch_norm]  # in a list: the module is registered where it was before, and only there
        self.activation, self.max_pool = activation, max_pool

    def current_operands(self):
        (norm,) = self._batch_norm
        folds = norm is not None and norm.is_folded
        return norm.folded(self.weight, self.bias) if folds else (self.weight, self.bias)

    def forward(self, input):
        (norm,) = self._batch_norm
        if norm is not None and not norm.is_folded:
            self._frozen = None  # numbers of the BatchNorm are folded into it, and this call changes them
            return Conv2d.forward(self, input)
        if self.activation == "relu6" and input.is_cuda:  # of which conv2d knows nothing there
            return activate_and_pool(Conv2d.forward(self, input), self.activation, self.max_pool)
        return super().forward(input)
