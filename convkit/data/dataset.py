"""What every source gives: parts to learn from, to choose by and to test on, and how to read one more sample."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch.utils.data import Dataset, TensorDataset

from convkit._fields import check_kinds
from convkit._text import counted


@dataclass(frozen=True)
class Options:
    """How to read and split a source.

    Attributes:
        test, valid: shares of the samples for the test and for validation; None takes what the source says. A source
            with parts of its own keeps its test part. ``valid=0`` leaves ``Data.valid`` None.
        seed: of the split, and of the augmentation.
        image_size: height and width that images are brought to; None takes the source's, for folders 224.
        target: column of a CSV file to predict; None takes the last one.
        task: "classification" or "regression"; None decides by the targets of a CSV file.
        augment: shift, crop and mirror the images that are learned from.
        check: decode every image of a folder once, to leave out those that cannot be read.
    """

    test: float | None = None
    valid: float | None = None
    seed: int = 0
    image_size: int | None = None
    target: str | None = None
    task: str | None = None
    augment: bool = True
    check: bool = True

    def __post_init__(self):
        check_kinds(self, "data")
        for name in ("test", "valid"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ValueError(f"data: {name} must be a share in [0, 1), but got {value}")
        if (self.test or 0) + (self.valid or 0) >= 1:
            raise ValueError(f"data: test and valid leave nothing to learn from: {self.test} + {self.valid}")
        if self.image_size is not None and self.image_size < 1:
            raise ValueError(f"data: image_size must be at least 1, but got {self.image_size}")
        if self.task not in (None, "classification", "regression"):
            raise ValueError(f"data: task must be classification or regression, but got {self.task!r}")

    def share(self, name, default):
        """The share ``name`` ("test" or "valid"), or the source's own where it is left open."""
        given = getattr(self, name)
        return default if given is None else given


NOTES = {
    "empty": "column {name} is empty: left out",
    "missing": "column {name}: missing values, taken for the median: {count}",
    "texts": "column {name}: a feature for each text, {count} in all",
    "unknown": "column {name}: values that are none of {known}: {count}",
}


@dataclass(frozen=True)
class Note:
    """What was done with a column of a table: a name of ``NOTES`` and what fills its places; ``str`` makes the text."""

    kind: str
    values: dict

    def __str__(self):
        return NOTES[self.kind].format(**self.values)


@dataclass(frozen=True)
class Data:
    """A source, read and split.

    Attributes:
        name: the source.
        train, valid, test: Datasets of (input, target), or None.
        classes: names of the classes, in the order of their numbers; empty for a regression.
        input_size: of one sample: (features,), (channels, height, width) or (channels, frames, height, width).
        outputs: what a model must return for a sample: the number of classes, or of values.
        preprocessing: how inputs, and targets of a regression, were made: numbers, texts and lists only.
        notes: what was left out or filled in, for the reader: texts, or :class:`Note`.
    """

    name: str
    train: Dataset | None
    valid: Dataset | None
    test: Dataset | None
    classes: tuple[str, ...]
    input_size: tuple[int, ...]
    preprocessing: dict
    notes: tuple = field(default=())

    @property
    def task(self):
        return "classification" if self.classes else "regression"

    @property
    def outputs(self):
        return len(self.classes) or 1


def split(labels, options, test=0.2, valid=0.1):
    """Indices of (train, valid, test); in shares of the whole, by class where ``labels`` are class numbers.

    Args:
        labels: array of class numbers, or the number of samples.
        options: :class:`Options`; ``test`` and ``valid`` stand in for what they leave open.
    """
    from sklearn.model_selection import train_test_split

    by_class = not isinstance(labels, int)
    rest = np.arange(len(labels) if by_class else labels)
    parts, left = [], 1.0
    for share in (options.share("test", test), options.share("valid", valid)):
        part = rest[:0]
        if share:
            stratify = labels[rest] if by_class else None
            try:
                rest, part = train_test_split(
                    rest, test_size=share / left, random_state=options.seed, stratify=stratify, shuffle=True
                )
            except ValueError as error:
                raise ValueError(
                    f"data: {counted(len(rest), 'sample')} cannot be split, {share:g} of all: {error}"
                ) from error
            left -= share
        parts.append(np.sort(part))
    return np.sort(rest), parts[1], parts[0]


def tensors(inputs, targets, indices):
    """The samples at ``indices`` as a TensorDataset; None for none."""
    if not len(indices):
        return None
    indices = torch.as_tensor(indices)
    return TensorDataset(inputs[indices], targets[indices])


class Shifted(TensorDataset):
    """Images (N, C, H, W) moved at random by up to an eighth of their size, zeros coming in, and mirrored if ``flip``.

    Where to is a function of the seed, the epoch and the sample. ``dataset[list]`` gives a batch.
    """

    def __init__(self, images, targets, seed, flip=False):
        super().__init__(images, targets)
        self.seed, self.flip, self.reach = seed, flip, max(1, images.shape[-1] // 8)
        self.augmentation = f"shifted by up to {self.reach} from seed {seed}{', mirrored' * flip}"
        self.set_epoch(0)

    def set_epoch(self, epoch):
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        self.offsets = torch.randint(2 * self.reach + 1, (len(self), 2), generator=generator)
        self.mirrored = torch.rand(len(self), generator=generator) < (0.5 if self.flip else 0.0)

    def __getitem__(self, indices):
        images, targets = super().__getitem__(indices)
        single = isinstance(indices, int)
        images = images[None] if single else images
        height, width = images.shape[2:]
        padded = torch.nn.functional.pad(images, [self.reach] * 4)
        offsets, mirrored = self.offsets[indices].view(-1, 2), self.mirrored[indices].view(-1)
        rows = (offsets[:, :1] + torch.arange(height))[:, None, :, None]
        columns = torch.where(mirrored[:, None], torch.arange(width - 1, -1, -1), torch.arange(width))
        columns = (offsets[:, 1:] + columns)[:, None, None]
        channels = torch.arange(images.shape[1])[:, None, None]
        moved = padded[torch.arange(len(images))[:, None, None, None], channels, rows, columns]
        return (moved[0] if single else moved), targets
