"""VGG16 and VGG19 (Simonyan and Zisserman 2014, configurations D and E), with torchvision's names of parameters."""

import torch
from torch import nn

import convkit.nn
from convkit.models._check import check_positive

# Channels and number of the 3x3 convolutions of each block; a 2x2 max-pooling ends it.
VGG16_BLOCKS = [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]
VGG19_BLOCKS = [(64, 2), (128, 2), (256, 4), (512, 4), (512, 4)]
POOLED_SIZE = 7
WIDTH = 4096


class VGG(nn.Module):
    """Blocks of convolutions with ReLU, each ended by max-pooling, then three dense layers."""

    def __init__(self, blocks, in_channels, num_classes, dropout, layers):
        super().__init__()
        self.input_size = (in_channels, 224, 224)
        features, channels = [], in_channels
        for width, convolutions in blocks:
            for _ in range(convolutions):
                features += [layers.Conv2d(channels, width, 3, padding=1), layers.ReLU(inplace=True)]
                channels = width
            features.append(layers.MaxPool2d(2, 2))
        self.features = nn.Sequential(*features)
        self.avgpool = nn.AdaptiveAvgPool2d(POOLED_SIZE)
        self.classifier = nn.Sequential(
            layers.Linear(channels * POOLED_SIZE**2, WIDTH),
            layers.ReLU(inplace=True),
            nn.Dropout(dropout),
            layers.Linear(WIDTH, WIDTH),
            layers.ReLU(inplace=True),
            nn.Dropout(dropout),
            layers.Linear(WIDTH, num_classes),
        )
        self.apply(self._initialise)

    @staticmethod
    def _initialise(module):
        """He's weights: without BatchNorm, torch's default ones would let the signal fade from layer to layer."""
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)

    def forward(self, input):
        return self.classifier(torch.flatten(self.avgpool(self.features(input)), 1))


def vgg16(in_channels=3, num_classes=1000, *, dropout=0.5, layers=convkit.nn):
    """VGG16: 13 convolutions and 3 dense layers; 138,357,544 parameters with the defaults.

    Args:
        in_channels: 1 for grey images, 3 for colour.
        num_classes: number of logits.
        dropout: share of the dense layers' values that training drops.
        layers: namespace with ``Conv2d``, ``ReLU``, ``MaxPool2d`` and ``Linear``; ``torch.nn`` gives the same network.
            Either way the state_dict has torchvision's keys.

    Returns:
        :class:`VGG`, from (N, in_channels, H, W), H and W at least 32, to (N, num_classes).
    """
    check_positive("vgg16", in_channels=in_channels, num_classes=num_classes)
    return VGG(VGG16_BLOCKS, in_channels, num_classes, dropout, layers)


def vgg19(in_channels=3, num_classes=1000, *, dropout=0.5, layers=convkit.nn):
    """VGG19: 16 convolutions and 3 dense layers; 143,667,240 parameters with the defaults. Arguments as `vgg16`'s."""
    check_positive("vgg19", in_channels=in_channels, num_classes=num_classes)
    return VGG(VGG19_BLOCKS, in_channels, num_classes, dropout, layers)
