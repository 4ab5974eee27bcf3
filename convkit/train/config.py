"""What decides a training run, and the optimizer and the schedule made from it."""

import dataclasses
from dataclasses import dataclass, field

import torch

from convkit._fields import check_kinds

OPTIMIZERS = ("adamw", "adam", "sgd")
SCHEDULES = ("constant", "cosine", "step", "one-cycle")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LOSSES = ("cross_entropy", "mse")
FREE = {"free": True}  # of fields that leave the weights alone: a resumed run may have another value


@dataclass(frozen=True)
class Config:
    """Settings of a training run; the same settings, data and threads give the same weights, bit for bit.

    Attributes:
        epochs: passes over the training data.
        batch_size: samples of a step, over all processes together.
        lr: learning rate of the optimizer; for "one-cycle" the highest one.
        optimizer: "adamw", "adam" or "sgd".
        momentum: of "sgd".
        weight_decay: the optimizer's.
        schedule: of the learning rate, stepped after each batch. "constant"; "cosine" falls to 0; "step" divides by 10
            after each third of the run; "one-cycle" rises to ``lr`` and falls again.
        loss: "cross_entropy" for class numbers, "mse" for values.
        clip_norm: gradients are scaled down to this norm; None leaves them.
        precision: "float32"; "bfloat16" and "float16" compute convolutions and dense layers in it (autocast), float16
            with a scaled loss.
        channels_last: keep weights and batches of images in channels_last.
        patience: end after so many epochs without a lower validation loss; None trains all epochs.
        seed: of the order of the samples and of the generators of torch (dropout), numpy and Python.
        device: "cpu", "cuda", "cuda:1" or a torch.device; None takes a GPU that convkit has kernels for, else the CPU.
        workers: processes that load samples; 0 loads in this one.
        progress: draw a bar on a terminal.
    """

    epochs: int = 10
    batch_size: int = 64
    lr: float = 1e-3
    optimizer: str = "adamw"
    momentum: float = 0.9
    weight_decay: float = 1e-4
    schedule: str = "cosine"
    loss: str = "cross_entropy"
    clip_norm: float | None = None
    precision: str = "float32"
    channels_last: bool = True
    patience: int | None = None
    seed: int = 0
    device: str | torch.device | None = field(default=None, metadata=FREE)
    workers: int = field(default=0, metadata=FREE)
    progress: bool = field(default=True, metadata=FREE)

    def __post_init__(self):
        check_kinds(self, "Config")
        choices = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES, "precision": PRECISIONS, "loss": LOSSES}
        for name, values in choices.items():
            if getattr(self, name) not in values:
                raise ValueError(f"Config: {name} must be one of {', '.join(values)}, but got {getattr(self, name)!r}")
        least = {"epochs": 1, "batch_size": 1, "patience": 1, "weight_decay": 0, "momentum": 0, "workers": 0, "seed": 0}
        for name, value in least.items():
            given = getattr(self, name)
            if given is not None and not given >= value:
                raise ValueError(f"Config: {name} must be at least {value}, but got {given!r}")
        if self.seed >= 1 << 31:
            raise ValueError(f"Config: seed must be below 2**31, but got {self.seed}")
        for name in ("lr", "clip_norm"):
            given = getattr(self, name)
            if given is not None and not given > 0:
                raise ValueError(f"Config: {name} must be positive, but got {given!r}")

    def as_dict(self):
        """What a resumed run must have in common with the first one."""
        names = [f.name for f in dataclasses.fields(self) if "free" not in f.metadata]
        return {name: getattr(self, name) for name in names}


def make_optimizer(config, parameters):
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, lr=config.lr, weight_decay=config.weight_decay)


def make_schedule(config, optimizer, steps):
    """The learning rate over ``steps`` batches."""
    schedules = torch.optim.lr_scheduler
    if config.schedule == "constant":
        return schedules.ConstantLR(optimizer, factor=1.0)
    if config.schedule == "cosine":
        return schedules.CosineAnnealingLR(optimizer, T_max=steps)
    if config.schedule == "step":
        return schedules.StepLR(optimizer, step_size=max(1, -(-steps // 3)), gamma=0.1)
    return schedules.OneCycleLR(optimizer, max_lr=config.lr, total_steps=max(2, steps + 1))
