"""Modules of ``torch.nn`` that compute with convkit: same constructor, same ``state_dict``, same ``isinstance``."""

from convkit.nn.block import ConvBlock2d
from convkit.nn.modules import Conv2d, Linear, MaxPool2d, ReLU

__all__ = ["Conv2d", "ConvBlock2d", "Linear", "MaxPool2d", "ReLU"]
