"""The lecture's table of networks for ILSVRC 2012: published figures as they were published, and ours beside them."""

import importlib
import importlib.util
import os
from dataclasses import dataclass, field

import torch
from torch import nn
from tqdm import tqdm

import convkit
from convkit import models
from convkit.testing.timing import compare
from convkit.testing.tolerances import relative_error

FORMATS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}
LARGEST_ERROR = 1e-5  # relative L2 distance of the logits from those of torch.nn, beyond which no time is shown
MiB = 1 << 20


@dataclass(frozen=True)
class Published:
    """A row as the lecture prints it. Accuracies, depth and times are those of Keras' documentation; the times are of
    other machines (92 cores of an AMD EPYC, and a Tesla A100; 32 images a step)."""

    size_mb: int
    top1: float
    top5: float
    parameters: int
    depth: int
    cpu_ms: float
    gpu_ms: float


PUBLISHED = {
    "xception": Published(88, 0.790, 0.945, 22_910_480, 126, 109.42, 8.06),
    "vgg16": Published(528, 0.713, 0.901, 138_357_544, 23, 69.50, 4.16),
    "vgg19": Published(549, 0.713, 0.900, 143_667_240, 26, 84.75, 4.38),
}
KERAS = {"xception": "Xception", "vgg16": "VGG16", "vgg19": "VGG19"}


@dataclass
class Row:
    """What is measured of a network here. ``seconds[contender, batch]`` is the median, in the better of the contender's
    two memory formats; ``reasons[contender]`` tells why there is none."""

    name: str
    trainable: int
    statistics: int  # running means and variances
    megabytes: float  # of 2**20 bytes
    gflops: float
    input_size: tuple
    seconds: dict = field(default_factory=dict)
    error: float = 0.0
    reasons: dict = field(default_factory=dict)

    @property
    def parameters(self):
        return self.trainable + self.statistics


def describe(name):
    """A :class:`Row` without times."""
    with torch.device("meta"):
        model = getattr(models, name)()
        found = models.summary(model)
    megabytes, gflops = found.bytes / MiB, found.flops / 1e9
    return Row(name, found.parameters, found.buffers, megabytes, gflops, model.input_size)


@torch.no_grad()
def measure(row, batches, seconds):
    """Time inference of the network on ``convkit.optimize`` and on torch.nn, with the same weights."""
    torch.manual_seed(0)
    model = getattr(models, row.name)(layers=nn).eval()
    formats = dict.fromkeys(("convkit", "torch"), tuple(FORMATS))  # that are worth a try
    for batch in batches:
        images = torch.randn(batch, *row.input_size)
        found = {}
        for name, memory_format in FORMATS.items():
            contenders = [contender for contender, tried in formats.items() if name in tried]
            if not contenders:
                continue
            model.to(memory_format=memory_format)
            ours, laid_out = convkit.optimize(model)[0], images.to(memory_format=memory_format)
            row.error = max(row.error, relative_error(ours(laid_out[:1]), model(laid_out[:1]).double()))
            calls = {"convkit": lambda m=ours, x=laid_out: m(x), "torch": lambda x=laid_out: model(x)}
            timings = compare({contender: calls[contender] for contender in contenders}, seconds=seconds)
            found |= {(contender, name): timing.median for contender, timing in timings.items()}
        for contender in formats:
            times = {name: time for (who, name), time in found.items() if who == contender}
            best = min(times, key=times.get)
            row.seconds[contender, batch] = times[best]
            formats[contender] = (best,)  # a larger batch is tried in that format alone
    if not row.error <= LARGEST_ERROR:
        row.seconds = {key: time for key, time in row.seconds.items() if key[0] != "convkit"}
        row.reasons["convkit"] = f"wrong: a relative error of {row.error:.2g}"


def keras():
    """The Keras that is installed, on its backend, or None."""
    if importlib.util.find_spec("keras") is None:
        return None
    if importlib.util.find_spec("tensorflow") is None:
        os.environ.setdefault("KERAS_BACKEND", "torch")
    try:
        return importlib.import_module("keras")
    except ImportError:  # the backend that it is set up for is not there
        return None


def keras_name():
    """Its version and backend, or None."""
    found = keras()
    return found and f"{found.__version__}, {found.backend.backend()}"


def measure_keras(row, batches, seconds):
    found = keras()
    if found is None:
        row.reasons["keras"] = "not installed"
        return
    model = getattr(found.applications, KERAS[row.name])(weights=None)
    channels, height, width = row.input_size
    for batch in batches:
        images = torch.randn(batch, height, width, channels).numpy()

        def call(images=images):
            return torch.from_numpy(model.predict_on_batch(images))

        row.seconds["keras", batch] = compare({"keras": call}, seconds=seconds)["keras"].median


def run(batches=(1, 32), seconds=2.0, names=tuple(PUBLISHED)):
    """Describe and time the networks; returns a list of :class:`Row`."""
    rows = [describe(name) for name in names]
    for row in tqdm(rows, desc="ILSVRC", unit="network", leave=False, disable=None):
        measure(row, batches, seconds)
        measure_keras(row, batches, seconds)
    return rows
