"""Xception (Chollet 2017): depthwise-separable convolutions and residuals, with timm's names of parameters."""

from itertools import pairwise

import torch
from torch import nn

import convkit.nn
from convkit.models._check import check_positive

MIDDLE_BLOCKS = 8


class SeparableConv2d(nn.Sequential):
    """A 3x3 convolution of each channel by itself, then a 1x1 convolution across channels; keeps the size."""

    def __init__(self, in_channels, out_channels, layers):
        super().__init__()
        self.conv1 = layers.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels, bias=False)
        self.pointwise = layers.Conv2d(in_channels, out_channels, 1, bias=False)


class Block(nn.Module):
    """Separable convolutions with ReLU before and BatchNorm behind each; their input, or a 1x1 convolution of it, is
    added to the result.

    Args:
        channels: of the input and of the result of each separable convolution.
        stride: 2 ends the convolutions with a max-pooling that halves the size; with 1 the channels are all the same.
        starts_with_relu: False where a ReLU has just been.
    """

    def __init__(self, channels, stride, layers, *, starts_with_relu=True):
        super().__init__()
        self.skip = None
        if stride != 1:
            self.skip = layers.Conv2d(channels[0], channels[-1], 1, stride, bias=False)
            self.skipbn = nn.BatchNorm2d(channels[-1])
        steps = []
        for inputs, outputs in pairwise(channels):
            relu = layers.ReLU(inplace=bool(steps))  # the block's input is needed again
            steps += [relu, SeparableConv2d(inputs, outputs, layers), nn.BatchNorm2d(outputs)]
        if not starts_with_relu:
            steps.pop(0)
        if stride != 1:
            steps.append(layers.MaxPool2d(3, stride, 1))
        self.rep = nn.Sequential(*steps)

    def forward(self, input):
        shortcut = input if self.skip is None else self.skipbn(self.skip(input))
        return self.rep(input) + shortcut


class Xception(nn.Module):
    """Entry flow (two convolutions, three blocks), middle flow (eight blocks), exit flow; then one dense layer."""

    def __init__(self, in_channels, num_classes, layers):
        super().__init__()
        self.input_size = (in_channels, 299, 299)
        self.conv1 = layers.Conv2d(in_channels, 32, 3, 2, bias=False)
        self.bn1, self.act1 = nn.BatchNorm2d(32), layers.ReLU(inplace=True)
        self.conv2 = layers.Conv2d(32, 64, 3, bias=False)
        self.bn2, self.act2 = nn.BatchNorm2d(64), layers.ReLU(inplace=True)
        self.block1 = Block([64, 128, 128], 2, layers, starts_with_relu=False)
        self.block2 = Block([128, 256, 256], 2, layers)
        self.block3 = Block([256, 728, 728], 2, layers)
        for index in range(4, 4 + MIDDLE_BLOCKS):
            self.add_module(f"block{index}", Block([728] * 4, 1, layers))
        self.block12 = Block([728, 728, 1024], 2, layers)
        self.conv3 = SeparableConv2d(1024, 1536, layers)
        self.bn3, self.act3 = nn.BatchNorm2d(1536), layers.ReLU(inplace=True)
        self.conv4 = SeparableConv2d(1536, 2048, layers)
        self.bn4, self.act4 = nn.BatchNorm2d(2048), layers.ReLU(inplace=True)
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = layers.Linear(2048, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # one ReLU for each pair of depthwise and 1x1 convolution
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear" if module.groups > 1 else "relu")

    def forward(self, input):
        features = input
        for name, module in self.named_children():
            if name != "fc":
                features = module(features)
        return self.fc(torch.flatten(features, 1))


def xception(in_channels=3, num_classes=1000, *, layers=convkit.nn):
    """Xception: 22,855,952 parameters with the defaults, and 54,528 running means and variances.

    Args:
        in_channels: 1 for grey images, 3 for colour.
        num_classes: number of logits.
        layers: namespace with ``Conv2d``, ``ReLU``, ``MaxPool2d`` and ``Linear``; ``torch.nn`` gives the same network.
            Either way the state_dict has timm's keys.

    Returns:
        :class:`Xception`, from (N, in_channels, H, W), made for 299 x 299, to (N, num_classes).
    """
    check_positive("xception", in_channels=in_channels, num_classes=num_classes)
    return Xception(in_channels, num_classes, layers)
