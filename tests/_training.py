"""Training runs in processes that tests start, kill and compare: ``python -m tests._training '{"directory": ...}'``.

The network has everything that a resumed run could get wrong: dropout, BatchNorm's buffers, several memory formats, and
a data set with an augmentation of its own.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import Dataset

import convkit.nn
from convkit.train import Config, Output, checkpoint, distributed, fit, run
from tests._tree import HOME

SAMPLES, CLASSES = 45, 7


def pictures(samples=SAMPLES):
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(samples, 2, 8, 8, generator=generator)
    return inputs, torch.randint(CLASSES, (samples,), generator=generator)


class Noisy(Dataset):
    """The pictures with noise that is a function of the epoch and the sample."""

    def __init__(self):
        self.inputs, self.targets = pictures()
        self.epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return SAMPLES

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(1000 * self.epoch + index)
        return self.inputs[index] + 0.1 * torch.randn(2, 8, 8, generator=generator), self.targets[index]


def network(dropout=0.2, batch_norm=True):
    torch.manual_seed(1)
    return nn.Sequential(
        convkit.nn.Conv2d(2, 16, 3, padding=1),
        *([nn.BatchNorm2d(16)] if batch_norm else []),
        convkit.nn.ReLU(),
        convkit.nn.MaxPool2d(2),
        nn.Flatten(),
        *([nn.Dropout(dropout)] if dropout else []),
        convkit.nn.Linear(256, CLASSES),
    )


def end():
    os.kill(os.getpid(), signal.SIGKILL)


def arm(moment, count):
    """Let this process die the hard way at the ``count``-th time of ``moment``: before or after a file takes its place,
    or when half of one is written."""
    left = [count]

    def due():
        left[0] -= 1
        return left[0] == 0

    original = checkpoint.os.replace

    def replace(source, target):
        if due():
            if moment == "half":
                os.truncate(source, os.path.getsize(source) // 2)
            if moment == "after":
                original(source, target)
            end()
        original(source, target)

    checkpoint.os.replace = replace


def main(directory, kill=None, steps=1, **settings):
    torch.set_num_threads(1)
    losses = []

    def on_step(loss):
        losses.append(loss)
        if kill and kill[0] == "step" and len(losses) == kill[1]:
            end()

    if kill and kill[0] != "step":
        arm(*kill)
    config = Config(**{"epochs": 3, "batch_size": 8, "progress": False, "device": "cpu", **settings})
    with distributed.processes("cpu"):
        output = Output(directory, resume=True, checkpoint_steps=steps)
        fit(network(), Noisy(), pictures(20), config, output, on_step)
    return losses


def launch(module, processes=1):
    """The process of a Python with these arguments; several with ``torchrun``."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] * (processes > 1)
    return subprocess.Popen([sys.executable, *launcher, *module], cwd=HOME, stderr=subprocess.PIPE, text=True)


def start(directory, processes=1, **request):
    """The process of a run."""
    return launch(["-m", "tests._training", json.dumps({"directory": str(directory), **request})], processes)


def finish(process):
    _, errors = process.communicate(timeout=300)
    return process.returncode, errors


def without_seconds(state):
    """A checkpoint without what the clock says."""
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in state["history"]]
    return {**state, "history": rows, "seconds": None}


def differences(a, b, path=""):
    """Paths at which two nested states differ, bit for bit."""
    if isinstance(a, torch.Tensor):
        return [] if a.dtype == b.dtype and torch.equal(a, b) else [path]
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [found for key in a for found in differences(a[key], b[key], f"{path}.{key}")]
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b):
        return [found for i in range(len(a)) for found in differences(a[i], b[i], f"{path}.{i}")]
    return [] if a == b else [path]


def states(directory):
    """(checkpoint without the clock, bytes of the weights' file) of a run."""
    directory = Path(directory)
    return without_seconds(checkpoint.load(directory / run.CHECKPOINT)), (directory / run.WEIGHTS).read_bytes()


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
