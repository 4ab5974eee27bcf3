"""How many parameters an MLP and a CNN have as the image grows."""

from dataclasses import dataclass

import torch

from convkit.models import mlp, small_cnn, suggest_mlp, summary

IMAGE_SIZES = (8, 16, 32, 64, 128, 224)
CHANNELS, CLASSES = 3, 10
NARROW = 100  # the width of scikit-learn's default MLP
ANY_NUMBER = 10**15  # of samples: the rule of thumb without its limit


@dataclass(frozen=True)
class Counts:
    """Parameters for colour images of ``size`` x ``size`` pixels and ten classes."""

    size: int
    inputs: int
    rule_of_thumb: int  # an MLP whose first layer is half as wide as the input
    narrow: int  # an MLP with one hidden layer of 100 neurons
    cnn: int  # small_cnn
    convolutions: int  # of which in its convolutions


def count(size):
    inputs = CHANNELS * size * size
    hidden = suggest_mlp(inputs, CLASSES, ANY_NUMBER).hidden
    with torch.device("meta"):
        cnn = summary(small_cnn(CHANNELS, CLASSES, size))
        rule, narrow = (summary(mlp(inputs, widths, CLASSES)) for widths in (hidden, [NARROW]))
    convolutions = sum(layer.parameters for layer in cnn.layers if layer.kind == "Conv2d")
    return Counts(size, inputs, rule.parameters, narrow.parameters, cnn.parameters, convolutions)


def compute():
    return [count(size) for size in IMAGE_SIZES]
