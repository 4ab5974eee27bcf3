"""The lecture's convolution by hand, the cat's ear, computed by convkit and held against the numbers of the page."""

from dataclasses import dataclass

import torch
from torch import nn

import convkit.nn

IMAGE = [[3, 0, 0, 3, 0], [0, 0, 10, 0, 3], [0, 10, 3, 10, 0], [10, 3, 3, 3, 10], [3, 3, 3, 3, 3]]
FILTERS = [[[-1, -1, 1], [-1, 1, -1], [1, -1, -1]], [[1, -1, -1], [-1, 1, -1], [-1, -1, 1]]]
SECOND_FILTER = [[[-1, -1, -1], [-1, 1, -1], [-1, -1, -1]], [[-1, -1, -1], [-1, -1, 1], [-1, -1, -1]]]

# As printed on the page, except for one cell: see MISPRINT.
FIRST_MAP = [
    [3, -13, -13, 10, -6],
    [-13, -26, 10, -23, 10],
    [-23, 21, -30, -10, -20],
    [11, -20, -9, -26, -3],
    [-7, -13, -6, 1, -13],
]
POOLED = [[[3, 10, 10], [21, 0, 0], [0, 1, 0]], [[7, 4, 0], [0, 18, 11], [1, 0, 0]]]
SECOND_MAP_FROM_PRINTED = [[-43, -70, -39], [7, -70, -60], [-41, -50, -30]]
SIZES_BY_STRIDE = {1: (5, 5), 2: (3, 3), 3: (2, 2)}
THRESHOLD = 0.5  # of the classification layer: any positive whole number in the last map is an ear


@dataclass(frozen=True)
class Misprint:
    """A cell of a pooled channel that the page prints wrong, and computes on with."""

    channel: int
    row: int
    column: int
    printed: int
    correct: int


MISPRINT = Misprint(channel=1, row=0, column=1, printed=10, correct=4)


@dataclass(frozen=True)
class Maps:
    """Every picture of the example, as tensors of shape (channels, height, width)."""

    image: torch.Tensor
    filters: torch.Tensor
    convolved: torch.Tensor
    rectified: torch.Tensor
    pooled: torch.Tensor
    printed_pooled: torch.Tensor
    second_filter: torch.Tensor
    second_from_printed: torch.Tensor
    second_from_correct: torch.Tensor
    by_stride: dict  # stride -> the map of filter 1


def compute():
    """Run the whole example through convkit's ops; returns `Maps`."""
    image = torch.tensor(IMAGE, dtype=torch.float32)[None]
    filters = torch.tensor(FILTERS, dtype=torch.float32)[:, None]
    second_filter = torch.tensor(SECOND_FILTER, dtype=torch.float32)[None]
    convolved = convkit.conv2d(image, filters, padding=1)
    rectified = convkit.relu(convolved)
    pooled = convkit.max_pool2d(rectified, 2, ceil_mode=True)
    printed = pooled.clone()
    printed[MISPRINT.channel, MISPRINT.row, MISPRINT.column] = MISPRINT.printed
    return Maps(
        image=image,
        filters=filters[:, 0],
        convolved=convolved,
        rectified=rectified,
        pooled=pooled,
        printed_pooled=printed,
        second_filter=second_filter[0],
        second_from_printed=convkit.conv2d(printed, second_filter, padding=1),
        second_from_correct=convkit.conv2d(pooled, second_filter, padding=1),
        by_stride={s: convkit.conv2d(image, filters[:1], stride=s, padding=1) for s in SIZES_BY_STRIDE},
    )


def check(maps):
    """Compare `Maps` with the page; returns the names of what was compared, RuntimeError names what differs."""
    pairs = {
        "feature map of filter 1": (maps.convolved[0], FIRST_MAP),
        "pooled channel 1": (maps.pooled[0], POOLED[0]),
        "pooled channel 2": (maps.pooled[1], POOLED[1]),
        "second layer, from the printed channels": (maps.second_from_printed[0], SECOND_MAP_FROM_PRINTED),
    }
    for name, (ours, page) in pairs.items():
        if ours.tolist() != page:
            raise RuntimeError(f"{name}: convkit computes {ours.tolist()}, the lecture {page}")
    for stride, size in SIZES_BY_STRIDE.items():
        if tuple(maps.by_stride[stride].shape[1:]) != size:
            raise RuntimeError(
                f"stride {stride}: convkit's map is {tuple(maps.by_stride[stride].shape[1:])}, not {size}"
            )
    return [*pairs, *(f"size with stride {stride}" for stride in SIZES_BY_STRIDE)]


def window_products(maps, row, column):
    """How one number of the first map comes about: the window around that cell, and its products with filter 1."""
    padded = torch.nn.functional.pad(maps.image[0], (1, 1, 1, 1))
    window = padded[row : row + 3, column : column + 3]
    return window, window * maps.filters[0]


def network():
    """The whole example as a network with its weights: (N, 1, 5, 5) to probabilities (N, 2), "ear" and "no ear"."""
    layers = convkit.nn
    model = nn.Sequential(
        layers.Conv2d(1, 2, 3, padding=1, bias=False),
        layers.ReLU(),
        layers.MaxPool2d(2, ceil_mode=True),
        layers.Conv2d(2, 1, 3, padding=1, bias=False),
        layers.ReLU(),
        nn.Flatten(),
        layers.Linear(9, 2),
        nn.Softmax(dim=1),
    )
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor(FILTERS)[:, None])
        model[3].weight.copy_(torch.tensor(SECOND_FILTER)[None])
        model[6].weight.copy_(torch.tensor([[1.0] * 9, [0.0] * 9]))
        model[6].bias.copy_(torch.tensor([-THRESHOLD, 0.0]))
    return model


def classify(second_map):
    """The classification layer of :func:`network` on a map of the second layer, before and after softmax.

    Returns:
        (score of "ear" beside 0 for "no ear", probability of "ear").
    """
    last = network()[4:]
    with torch.no_grad():
        score = last[:-1](second_map[None])[0, 0].item()
        return score, last(second_map[None])[0, 0].item()
