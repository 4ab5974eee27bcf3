"""The multi-layer perceptron of the lecture."""

from itertools import pairwise

from torch import nn

import convkit.nn


def mlp(in_features, hidden, out_features, *, layers=convkit.nn):
    """Linear layers with a ReLU between each two: ``mlp(13, [8, 4], 3)`` is the lecture's network for the Wine data.

    Args:
        in_features: number of features of a sample.
        hidden: widths of the hidden layers; ``[]`` gives a linear model.
        out_features: number of classes (logits) or of predicted values.
        layers: namespace with ``Linear`` and ``ReLU``; ``torch.nn`` gives the same network, with the same state_dict.

    Returns:
        ``torch.nn.Sequential`` from (N, in_features) to (N, out_features).
    """
    modules = []
    for inputs, outputs in pairwise([in_features, *hidden, out_features]):
        modules += [layers.Linear(inputs, outputs), layers.ReLU()]
    return nn.Sequential(*modules[:-1])
