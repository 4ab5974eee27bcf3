"""Exercise 2: chains of filters on small images, computed step by step, and a chain that detects a given pattern.

The proposed chain has three convolutions, each with ReLU. With u = bright - dark, whole numbers stay exact:

1. 1x1: makes bright pixels u and the others 0.
2. 3x3: a filter for each 3x3 part of the pattern, +1 where the part is on, -1 where it is off, and a bias of u (1 - the
   number of ones). Only the part itself gives u; any other window has a one less or a zero more and gives 0.
3. a filter over the parts, +1 at the place of each, and a bias of u (1 - their number): u only where all are in place.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch

import convkit

LARGEST_IMAGE = 64  # rows and columns that a file may have: beyond, nobody reads the numbers
EAR = [[0, 0, 0, 0, 0], [0, 0, 1, 0, 0], [0, 1, 0, 1, 0], [1, 0, 0, 0, 1], [0, 0, 0, 0, 0]]


@dataclass(frozen=True)
class Layer:
    """A convolution and what follows it.

    Attributes:
        filters: (out_channels, in_channels, kh, kw) float32.
        bias: (out_channels,) or None.
        stride, padding: of the convolution.
        relu: whether a ReLU follows.
        max_pool: size and stride of a max-pooling that follows, partial windows kept; None for none.
    """

    filters: torch.Tensor
    bias: torch.Tensor | None = None
    stride: int = 1
    padding: int = 0
    relu: bool = True
    max_pool: int | None = None


@dataclass(frozen=True)
class Step:
    """Feature maps (channels, height, width) and the operation that made them."""

    name: str
    maps: torch.Tensor


def run(image, layers):
    """Every step of a chain on an image (channels, height, width); returns a list of :class:`Step`."""
    steps = [Step("image", image)]
    for number, layer in enumerate(layers, 1):
        maps = convkit.conv2d(steps[-1].maps, layer.filters, layer.bias, layer.stride, layer.padding)
        steps.append(Step(f"convolution {number}", maps))
        if layer.relu:
            steps.append(Step(f"ReLU {number}", convkit.relu(steps[-1].maps)))
        if layer.max_pool:
            pooled = convkit.max_pool2d(steps[-1].maps, layer.max_pool, ceil_mode=True)
            steps.append(Step(f"max-pooling {number}", pooled))
    return steps


def as_text(steps):
    """The steps as matrices of numbers."""
    blocks = []
    for step in steps:
        for channel, rows in enumerate(step.maps.tolist(), 1):
            cells = [[f"{value:g}" for value in row] for row in rows]
            width = max(len(cell) for row in cells for cell in row)
            name = step.name if len(step.maps) == 1 else f"{step.name}, channel {channel}"
            blocks.append("\n".join([f"{name}:", *("  " + " ".join(c.rjust(width) for c in row) for row in cells)]))
    return "\n\n".join(blocks)


def detector(pattern, *, dark=0.0, bright=1.0):
    """A chain that fires on ``pattern`` and nowhere else.

    Args:
        pattern: matrix of 0 and 1, at least 3x3.
        dark, bright: values up to ``dark`` count as 0 and ``bright`` as 1. The image must have no others, or the chain
            may fire elsewhere: :func:`check_image` refuses it.

    Returns:
        list of :class:`Layer`. The last map has a number for each place where the pattern fits into the image: ``bright
        - dark`` where its top left corner is, 0 everywhere else.

    Raises:
        ValueError: a pattern or levels of another kind.
    """
    for name, value in (("dark", dark), ("bright", bright)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"detector: {name} must be a finite number, but got {value!r}")
    if not bright > dark:
        raise ValueError(f"detector: bright must be above dark, but got {bright} and {dark}")
    wanted = "detector: pattern must be a matrix of 0 and 1, at least 3x3"
    try:
        matrix = torch.as_tensor(pattern, dtype=torch.float32)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"{wanted}, but got {pattern!r}") from error
    if matrix.dim() != 2 or min(matrix.shape) < 3 or not ((matrix == 0) | (matrix == 1)).all():
        raise ValueError(f"{wanted}, but got {matrix.tolist()}")
    pattern = matrix
    rows, columns = (_offsets(size) for size in pattern.shape)
    corners = [(row, column) for row in rows for column in columns]
    parts = torch.stack([pattern[row : row + 3, column : column + 3] for row, column in corners])
    placement = torch.zeros(1, len(corners), rows[-1] + 1, columns[-1] + 1)
    for index, (row, column) in enumerate(corners):
        placement[0, index, row, column] = 1
    unit = bright - dark
    return [
        Layer(torch.ones(1, 1, 1, 1), torch.tensor([-float(dark)])),
        Layer((2 * parts - 1)[:, None], unit * (1 - parts.sum((1, 2)))),
        Layer(placement, torch.tensor([unit * (1.0 - len(corners))])),
    ]


def check_image(image, *, dark=0.0, bright=1.0):
    """Raise a ValueError where an image (1, height, width) has a value that :func:`detector` does not take."""
    if len(image) != 1:
        raise ValueError(f"detector: the image must have 1 channel, but it has {len(image)}")
    wrong = ~((image[0] <= dark) | (image[0] == bright))
    if wrong.any():
        row, column = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"detector: values must be at most dark, {dark:g}, or bright, {bright:g}, but row {row + 1}, column "
            f"{column + 1} of the image is {image[0, row, column].item():g}"
        )


def _offsets(size):
    """Where 3-wide parts begin that cover ``size`` pixels."""
    return [*range(0, size - 3, 2), size - 3]


def scene():
    """A picture with one ear among things that resemble it: its values are 0, 3 and 10 as in the lecture.

    Returns:
        (image (1, height, width), (row, column) of the ear, names of the others by their corner).
    """
    ear = torch.tensor(EAR, dtype=torch.float32)
    broken, thick = ear.clone(), ear.clone()
    broken[1, 2] = 0
    thick[2, 2] = 1
    shapes = {
        (1, 1): ("upside_down", ear.flip(0)),
        (1, 8): ("ear", ear),
        (1, 15): ("broken", broken),
        (8, 1): ("filled", thick),
        (8, 8): ("cross", torch.eye(5) + torch.eye(5).flip(1) - torch.eye(5) * torch.eye(5).flip(1)),
        (8, 15): ("sideways", ear.T),
    }
    image = torch.zeros(14, 21)
    for (row, column), (_, shape) in shapes.items():
        image[row : row + 5, column : column + 5] = 10 * shape
    image[13], image[6:8, ::3] = 3, 3  # grey, which the first filter takes away
    place = next(corner for corner, (name, _) in shapes.items() if name == "ear")
    return image[None], place, {corner: name for corner, (name, _) in shapes.items()}


def read(path):
    """A chain from a JSON file: {"image": [[...]], "layers": [{"filters": [...], "bias": [...], "padding": 1,
    "stride": 1, "relu": true, "max_pool": 2}]}. An image is a matrix or a list of channels; filters are matrices where
    the image has one channel, else lists of one matrix for each channel. In the place of "layers", "pattern": [[...]]
    asks for the :func:`detector` of a pattern, with "dark" and "bright" if they are not 0 and 1.

    Returns:
        (image (channels, height, width), list of :class:`Layer`).
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        image = _numbers(found["image"], 3)
        if "pattern" in found:
            levels = {"dark": found.get("dark", 0.0), "bright": found.get("bright", 1.0)}
            layers = detector(found["pattern"], **levels)
            check_image(image, **levels)
        else:
            layers = [_layer(layer) for layer in found["layers"]]
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        reason = f"there is no {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{path} describes no chain of filters: {reason}") from error
    if max(image.shape[1:]) > LARGEST_IMAGE:
        raise ValueError(f"{path}: the image is {tuple(image.shape[1:])}, but at most {LARGEST_IMAGE} a side are drawn")
    return image, layers


def _numbers(values, dimensions):
    """A tensor of that many dimensions; one less is a single channel."""
    tensor = torch.tensor(values, dtype=torch.float32)
    if tensor.dim() == dimensions - 1:
        tensor = tensor.unsqueeze(dimensions - 3)
    if tensor.dim() != dimensions or not tensor.numel():
        raise ValueError(f"{values!r} is no list of numbers in {dimensions - 1} or {dimensions} levels")
    return tensor


def _layer(found):
    known = {"filters", "bias", "stride", "padding", "relu", "max_pool"}
    if set(found) - known:
        raise ValueError(f"a layer has {', '.join(sorted(known))}, but not {', '.join(sorted(set(found) - known))}")
    bias = None if found.get("bias") is None else torch.tensor(found["bias"], dtype=torch.float32)
    rest = {name: found[name] for name in ("stride", "padding", "relu", "max_pool") if name in found}
    for name, least in (("stride", 1), ("padding", 0), ("max_pool", 1)):
        value = rest.get(name, least)
        if not (name == "max_pool" and value is None) and (type(value) is not int or value < least):
            raise ValueError(f"{name} must be an integer of at least {least}, but got {value!r}")
    if not isinstance(rest.get("relu", True), bool):
        raise ValueError(f"relu must be true or false, but got {rest['relu']!r}")
    return Layer(_numbers(found["filters"], 4), bias, **rest)
