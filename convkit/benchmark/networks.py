"""Whole networks for timing inference and training, each from a namespace of layers: ``torch.nn`` or ``convkit.nn``.

``Conv2d``, ``ReLU``, ``MaxPool2d`` and ``Linear`` are taken from the namespace, the rest is torch's. All are float32,
map (N, channels, height, width) to logits (N, classes), and have random weights: seed torch before building one.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

import convkit

RESNET50_STAGES = [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)]  # width, blocks, stride
# expansion, output channels, blocks, stride
MOBILENET_V2_STAGES = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)]
MOBILENET_V2_STAGES += [(6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]


def fused(model, layers):
    """The model with its runs of convolution, ReLU and max-pooling fused if its layers are convkit's."""
    return convkit.optimize(model)[0] if layers is convkit.nn else model


def initialise(model):
    """He initialisation of convolutions and dense layers, zero biases; returns the model.

    A branch that ends in a normalisation, without a ReLU, gets the weight 0.5 there: He's weights make up for a ReLU
    that does not follow, and sums of such branches would grow from block to block.
    """
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Sequential) and len(module) and isinstance(module[-1], nn.BatchNorm2d):
            nn.init.constant_(module[-1].weight, 0.5)
    return model


def small_cnn(*, layers=nn):
    """The lecture's network, :func:`convkit.models.small_cnn`, for 28 x 28 grey images."""
    return fused(convkit.models.small_cnn(layers=layers), layers)


def vgg16(*, layers=nn):
    """:func:`convkit.models.vgg16`."""
    return fused(convkit.models.vgg16(layers=layers), layers)


def vgg19(*, layers=nn):
    """:func:`convkit.models.vgg19`."""
    return fused(convkit.models.vgg19(layers=layers), layers)


def xception(*, layers=nn):
    """:func:`convkit.models.xception`."""
    return fused(convkit.models.xception(layers=layers), layers)


def conv_norm(layers, ic, oc, kernel_size, stride=1, groups=1):
    """A convolution without bias that keeps the size but for its stride, and its batch normalisation."""
    conv = layers.Conv2d(ic, oc, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(oc)]


class Residual(nn.Module):
    """``branch(x) + shortcut(x)``, and what comes after the sum."""

    def __init__(self, branch, shortcut, after):
        super().__init__()
        self.branch, self.shortcut, self.after = branch, shortcut, after

    def forward(self, input):
        return self.after(self.branch(input) + self.shortcut(input))


def resnet50(*, layers=nn):
    """ResNet-50 v1.5 as torchvision has it: the stride of a bottleneck is in its 3x3 convolution."""
    modules = [*conv_norm(layers, 3, 64, 7, 2), layers.ReLU(), layers.MaxPool2d(3, 2, 1)]
    channels = 64
    for width, blocks, first_stride in RESNET50_STAGES:
        for stride in [first_stride] + [1] * (blocks - 1):
            branch = [*conv_norm(layers, channels, width, 1), layers.ReLU()]
            branch += [*conv_norm(layers, width, width, 3, stride), layers.ReLU()]
            branch += conv_norm(layers, width, 4 * width, 1)
            shortcut = [] if channels == 4 * width else conv_norm(layers, channels, 4 * width, 1, stride)
            channels = 4 * width
            modules.append(Residual(nn.Sequential(*branch), nn.Sequential(*shortcut), layers.ReLU()))
    return initialise(nn.Sequential(*modules, nn.AdaptiveAvgPool2d(1), nn.Flatten(), layers.Linear(channels, 1000)))


def mobilenet_v2(*, layers=nn):
    """MobileNetV2 as torchvision has it: inverted residuals around depthwise 3x3 convolutions, ReLU6."""
    modules, channels = [*conv_norm(layers, 3, 32, 3, 2), nn.ReLU6()], 32
    for expansion, oc, blocks, first_stride in MOBILENET_V2_STAGES:
        for stride in [first_stride] + [1] * (blocks - 1):
            hidden = channels * expansion
            expand = [*conv_norm(layers, channels, hidden, 1), nn.ReLU6()] if expansion > 1 else []
            depthwise = [*conv_norm(layers, hidden, hidden, 3, stride, hidden), nn.ReLU6()]
            branch = nn.Sequential(*expand, *depthwise, *conv_norm(layers, hidden, oc, 1))
            same_shape = stride == 1 and channels == oc
            modules.append(Residual(branch, nn.Identity(), nn.Identity()) if same_shape else branch)
            channels = oc
    head = [*conv_norm(layers, channels, 1280, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2)]
    return initialise(nn.Sequential(*modules, *head, layers.Linear(1280, 1000)))


@dataclass(frozen=True)
class Network:
    """``build(layers=...)`` makes the network; ``input_size`` is (channels, height, width) of an image."""

    build: Callable[..., nn.Module]
    input_size: tuple[int, int, int]


NETWORKS = {
    "vgg16": Network(vgg16, (3, 224, 224)),
    "vgg19": Network(vgg19, (3, 224, 224)),
    "xception": Network(xception, (3, 299, 299)),
    "resnet50": Network(resnet50, (3, 224, 224)),
    "mobilenet_v2": Network(mobilenet_v2, (3, 224, 224)),
    "small_cnn": Network(small_cnn, (1, 28, 28)),
}
