"""The small convolutional network of the lecture."""

from torch import nn

import convkit.nn
from convkit.models._check import check_positive


def small_cnn(in_channels=1, num_classes=10, image_size=28, *, layers=convkit.nn):
    """Two blocks of 3x3 convolution, ReLU and 2x2 max-pooling (16, then 32 channels), and one dense layer.

    Args:
        in_channels: 1 for grey images, 3 for colour.
        num_classes: number of logits.
        image_size: height and width of the images in pixels, a pair or one number for both.
        layers: namespace with ``Conv2d``, ``ReLU``, ``MaxPool2d`` and ``Linear``; ``torch.nn`` gives the same network,
            with the same state_dict.

    Returns:
        ``torch.nn.Sequential`` from (N, in_channels, height, width) to (N, num_classes).
    """
    check_positive("small_cnn", in_channels=in_channels, num_classes=num_classes)
    height, width = image_size if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    if min(height, width) < 4:
        raise ValueError(f"small_cnn: image_size must be at least 4, but got {image_size}")
    model = nn.Sequential(
        layers.Conv2d(in_channels, 16, 3, padding=1),
        layers.ReLU(),
        layers.MaxPool2d(2),
        layers.Conv2d(16, 32, 3, padding=1),
        layers.ReLU(),
        layers.MaxPool2d(2),
        nn.Flatten(),
        layers.Linear(32 * (height // 4) * (width // 4), num_classes),
    )
    model.input_size = (in_channels, height, width)
    return model
