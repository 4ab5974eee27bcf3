"""Scores of a model on a data set, summed batch by batch and over processes."""

from contextlib import contextmanager

import torch
from torch.nn import functional

from convkit.train import distributed
from convkit.train.batches import as_dataset, evaluation_loader
from convkit.train.config import PRECISIONS, Config


def loss_sum(outputs, targets, loss):
    """The loss of each sample, added up; ``outputs`` (N, K) in float32.

    Args:
        targets: class numbers (N,) for "cross_entropy", values (N, K) or (N,) for "mse".
    """
    if loss == "cross_entropy":
        return functional.cross_entropy(outputs, targets, reduction="sum")
    return functional.mse_loss(outputs, targets.reshape(outputs.shape), reduction="sum") / outputs.shape[1]


class Metrics:
    """Loss and accuracy (top-1, and top-5 from six classes on) of a classification, or loss, mean absolute error and
    R² of a regression. Made of sums alone, so that processes can be added."""

    def __init__(self, loss, device, confusion=False):
        self.loss, self.classes = loss, 0
        self.wants_confusion = confusion
        self.sums = torch.zeros(6, dtype=torch.float64, device=device)
        self.confusion = self.values = None

    def update(self, outputs, targets):
        outputs = outputs.float()
        found = [torch.tensor(float(len(outputs))), loss_sum(outputs, targets, self.loss)]
        if self.loss == "cross_entropy":
            self.classes = outputs.shape[1]
            likeliest = outputs.topk(min(5, self.classes)).indices
            hits = likeliest == targets[:, None]
            found += [hits[:, 0].sum(), hits.any(1).sum()]
            if self.wants_confusion:
                self._count(targets, likeliest[:, 0])
        else:
            values, targets = outputs.double(), targets.double().reshape(outputs.shape)
            each = 1 / outputs.shape[1]
            found += [(values - targets).abs().sum() * each, targets.sum() * each]
            found += [targets.square().sum() * each, (values - targets).square().sum() * each]
        for i, value in enumerate(found):
            self.sums[i] += value

    def _count(self, targets, likeliest):
        if self.confusion is None:
            self.confusion = torch.zeros(self.classes, self.classes, dtype=torch.int64, device=self.sums.device)
        cells = torch.bincount(targets * self.classes + likeliest, minlength=self.classes**2)
        self.confusion += cells.reshape(self.confusion.shape)

    def compute(self):
        """Fill in and return ``values``, over all processes: ``loss``, then ``accuracy`` and ``top5`` in [0, 1], or
        ``mae`` and ``r2``. ``confusion[i, j]`` then counts the samples of class i that were called j."""
        count, loss, *rest = distributed.add(self.sums).tolist()
        self.values = {"loss": loss / count}
        if self.loss == "cross_entropy":
            if self.confusion is not None:
                distributed.add(self.confusion)
            self.values["accuracy"] = rest[0] / count
            if self.classes > 5:
                self.values["top5"] = rest[1] / count
        else:
            absolute, total, squares, errors = rest
            variance = squares - total * total / count
            self.values |= {"mae": absolute / count, "r2": 1 - errors / variance if variance > 0 else 0.0}
        return self.values


def move(batch, device, config):
    """(inputs, targets) on ``device``, images in the memory format of ``config``."""
    inputs, targets = batch
    layout = {"memory_format": torch.channels_last} if inputs.dim() == 4 and config.channels_last else {}
    return inputs.to(device, non_blocking=True, **layout), targets.to(device, non_blocking=True)


@contextmanager
def evaluating(model):
    """The model in evaluation mode; each of its modules then has the mode of before."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@torch.no_grad()
def evaluate(model, data, config=None, *, confusion=False):
    """Score ``model`` on ``data``, a dataset or a pair of tensors; its mode is kept. ``config``: `Config`'s defaults.

    Returns:
        :class:`Metrics`, with ``values`` and, if asked for, ``confusion``.
    """
    config = Config() if config is None else config
    dataset = as_dataset(data, "evaluate: data")
    device = next(model.parameters()).device
    metrics = Metrics(config.loss, device, confusion)
    with evaluating(model):
        for batch in evaluation_loader(dataset, config):
            inputs, targets = move(batch, device, config)
            with autocast(config, device):
                outputs = model(inputs)
            metrics.update(outputs, targets)
    metrics.compute()
    return metrics


def autocast(config, device):
    """torch.autocast as ``config.precision`` says."""
    enabled = config.precision != "float32"
    return torch.autocast(device.type, PRECISIONS[config.precision] if enabled else None, enabled=enabled)
