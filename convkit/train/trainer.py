"""The training loop: an epoch at a time, with a state that can be saved after every step and taken up again."""

import copy
import math
import random
import time

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from convkit._text import counted
from convkit.train import distributed
from convkit.train.batches import Shuffled, as_dataset, training_loader
from convkit.train.checkpoint import CheckpointError, check_weights
from convkit.train.config import Config, make_optimizer, make_schedule
from convkit.train.metrics import autocast, evaluate, evaluating, loss_sum, move


class Trainer:
    """Trains ``model`` in place; :meth:`run_epoch` is the loop.

    Args:
        model: a module from inputs to logits or values, (N, K). It moves to ``config.device``; in several processes
            (``torchrun``) DistributedDataParallel wraps it.
        train: what to learn from: a Dataset of (input, target), or a pair of tensors. Targets are class numbers (int64)
            for "cross_entropy", values of shape (N,) or (N, K) for "mse".
        valid: the same, to be scored after every epoch; None for none.
        config: :class:`Config`.

    Attributes:
        epoch, batch: where training stands: whole epochs, and batches of the next one.
        history: a dict for each epoch: epoch, lr, seconds (of training), train_loss, valid_loss, valid_accuracy ...
        best: epoch and valid_loss of the lowest validation loss, and the weights of then.
    """

    def __init__(self, model, train, valid=None, config=None):
        self.config = config = Config() if config is None else config
        if not isinstance(config, Config):
            raise TypeError(f"train: config must be a Config, but got {config!r}")
        self.train_data = as_dataset(train, "train")
        self.valid_data = None if valid is None else as_dataset(valid, "valid")
        if config.patience is not None and valid is None:
            raise ValueError("Config: patience needs validation data")
        self.device = distributed.device(config.device)
        _check_samples(model, self.train_data, config)
        self.model = model.to(self.device)
        if config.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.forward = DistributedDataParallel(self.model) if distributed.size() > 1 else self.model
        self.batches = Shuffled(len(self.train_data), config.batch_size, config.seed)
        self.optimizer = make_optimizer(config, self.model.parameters())
        self.schedule = make_schedule(config, self.optimizer, config.epochs * len(self.batches))
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "float16")
        self.epoch = self.batch = 0
        self.sums = torch.zeros(2, dtype=torch.float64, device=self.device)  # loss and samples of this epoch
        self.seconds, self.lr = 0.0, config.lr  # of this epoch: so far, and at its start
        self.history, self.best = [], None
        for seed in (torch.manual_seed, np.random.seed, random.seed):
            seed(config.seed + distributed.rank())

    def step(self, inputs, targets):
        """One batch: forward, backward, optimizer, schedule; returns the sum of this process's losses."""
        self.optimizer.zero_grad()
        with autocast(self.config, self.device):
            outputs = self.forward(inputs)
        samples, own = self.batches.share(self.batch)
        total = loss_sum(outputs.float(), targets, self.config.loss)
        if not own:
            total = total * 0
        # The mean over all processes: DistributedDataParallel averages over them, whatever their shares are.
        self.scaler.scale(total * (distributed.size() / samples)).backward()
        self.scaler.unscale_(self.optimizer)
        if self.config.clip_norm is not None:
            clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        return total.detach()

    def run_epoch(self, on_step=None):
        """Train to the end of the epoch, then score ``valid``; returns the new dict of ``history``.

        Args:
            on_step: called after each batch, with the mean loss of the batch over all processes.
        """
        self.batches.epoch, self.batches.start = self.epoch, self.batch
        if self.batch == 0:
            self.lr = self.optimizer.param_groups[0]["lr"]
        self.model.train()
        loader = training_loader(self.train_data, self.batches, self.config)
        begin = time.perf_counter() - self.seconds
        for batch in self._bar(loader):
            inputs, targets = move(batch, self.device, self.config)
            total, (_, own) = self.step(inputs, targets), self.batches.share(self.batch)
            done = torch.stack([total.double(), torch.tensor(own, device=self.device).double()])
            self.sums += done
            self.batch += 1
            self.seconds = time.perf_counter() - begin
            if on_step:
                loss, samples = distributed.add(done.clone()).tolist()
                on_step(loss / samples)
        distributed.broadcast(self.model.buffers())  # as before each step: running statistics are those of process 0
        loss, samples = self.check()
        row = {"epoch": self.epoch + 1, "lr": self.lr, "seconds": self.seconds, "train_loss": loss / samples}
        if self.valid_data is not None:
            scores = evaluate(self.model, self.valid_data, self.config).values
            row |= {f"valid_{name}": value for name, value in scores.items()}
            self._keep_best(row)
        self.history.append(row)
        self.epoch, self.batch, self.seconds = self.epoch + 1, 0, 0.0
        self.sums.zero_()
        return row

    def check(self):
        """(sum of this epoch's losses, samples) over all processes; RuntimeError if training has diverged."""
        loss, samples = distributed.add(self.sums.clone()).tolist()
        bad = [name for name, parameter in self.model.named_parameters() if not parameter.isfinite().all()]
        if bad or not math.isfinite(loss):
            what = f"the loss is {loss}" if not math.isfinite(loss) else f"{bad[0]} is no longer finite"
            advice = f"a lower lr than {self.config.lr} or clip_norm may help"
            raise RuntimeError(f"train: {what} in epoch {self.epoch + 1}; {advice}")
        return loss, samples

    def _bar(self, loader):
        hidden = not self.config.progress or distributed.rank() > 0
        bar = tqdm(
            loader,
            desc=f"epoch {self.epoch + 1}/{self.config.epochs}",
            total=len(self.batches),
            initial=self.batch,
            unit="batch",
            leave=False,
            disable=hidden or None,
        )
        for batch in bar:
            yield batch
            if not bar.disable and self.batch % 10 == 1:  # not more often: on a GPU it waits for the results
                loss, samples = self.sums.tolist()
                bar.set_postfix_str(f"loss {loss / samples:.4f}", refresh=False)

    def _keep_best(self, row):
        if self.best is None or row["valid_loss"] < self.best["valid_loss"]:
            weights = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
            self.best = {"epoch": row["epoch"], "valid_loss": row["valid_loss"], "weights": weights}

    @property
    def done(self):
        """Whether all epochs are trained, or the validation loss has not fallen for ``config.patience`` of them."""
        patience = self.config.patience
        return self.epoch >= self.config.epochs or (
            patience is not None and self.best is not None and self.epoch - self.best["epoch"] >= patience
        )

    def restore_best(self):
        """Give the model the weights of the lowest validation loss."""
        if self.best is not None:
            self.model.load_state_dict(self.best["weights"])

    def state_dict(self):
        """All that the next step depends on. In several processes each must call it."""
        return {
            "config": self.config.as_dict(),
            "data": _fingerprint(self.train_data),
            "processes": distributed.size(),
            "epoch": self.epoch,
            "batch": self.batch,
            "sums": distributed.gather(self.sums.clone().cpu()),
            "seconds": self.seconds,
            "lr": self.lr,
            "history": self.history,
            "model": self.model.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "generators": distributed.gather(_generators(self.device)),
        }

    def load_state_dict(self, state, source="the state"):
        """Continue from :meth:`state_dict`; CheckpointError, and nothing changed, where it is another run's."""
        if "generators" not in state:
            raise CheckpointError(f"{source} is no state of a run, but something else that convkit wrote")
        own = {"data": _fingerprint(self.train_data), "processes": distributed.size(), **self.config.as_dict()}
        for name, theirs in {"data": state["data"], "processes": state["processes"], **state["config"]}.items():
            if own.get(name) != theirs:
                raise CheckpointError(f"{source} is of another run: {name} was {theirs}, now it is {own.get(name)}")
        check_weights(source, state["model"], self.model)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for parameter, values in self.optimizer.state.items():
            for name, value in values.items():
                if torch.is_tensor(value) and value.shape == parameter.shape:  # with the strides of before
                    values[name] = torch.empty_like(parameter).copy_(value)
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        for name in ("epoch", "batch", "seconds", "lr", "best"):
            setattr(self, name, state[name])
        self.history = copy.deepcopy(state["history"])
        self.sums.copy_(state["sums"][distributed.rank()])
        _set_generators(state["generators"][distributed.rank()], self.device)


def _check_samples(model, dataset, config):
    """Refuse data that the first step, or a CUDA assertion, would stumble over."""
    inputs, targets = dataset.tensors if hasattr(dataset, "tensors") else (None, None)
    if inputs is None:
        return
    if not inputs.is_floating_point():
        raise ValueError(f"train: inputs must be floating-point numbers, but got {inputs.dtype}")
    with torch.no_grad(), evaluating(model):
        outputs = model(inputs[:1].to(next(model.parameters()).device))
    if outputs.dim() != 2:
        raise ValueError(f"train: the model must return (N, K), but for one sample it returns {tuple(outputs.shape)}")
    count, given = outputs.shape[1], f"{targets.dtype} of shape {tuple(targets.shape)}"
    if config.loss == "mse":
        if targets.numel() != len(inputs) * count or targets.is_complex():
            raise ValueError(f"train: targets must be {counted(count, 'value')} for each sample, but got {given}")
    elif targets.dtype != torch.int64 or targets.dim() != 1:
        raise ValueError(f"train: targets must be class numbers, torch.int64 of shape (N,), but got {given}")
    elif targets.min() < 0 or targets.max() >= count:
        least, most = targets.min().item(), targets.max().item()
        raise ValueError(f"train: targets must be from 0 to {count - 1}, but they are from {least} to {most}")


def _fingerprint(dataset):
    """Enough of the data, and of its augmentation, to notice that it is not the same; a dataset may have its own
    ``fingerprint``."""
    if hasattr(dataset, "fingerprint"):
        return dataset.fingerprint
    if not hasattr(dataset, "tensors"):
        return f"{len(dataset)} samples"
    sums = [tensor.sum(dtype=torch.float64).item() for tensor in dataset.tensors]
    shape, augmentation = tuple(dataset.tensors[0].shape[1:]), getattr(dataset, "augmentation", "as they are")
    return f"{len(dataset)} samples of {shape}, sums {sums[0]:.17g} and {sums[1]:.17g}, {augmentation}"


def _generators(device):
    """The states of torch's generators, numpy's and Python's."""
    name, keys, position, has_gauss, gauss = np.random.get_state()
    version, numbers, gauss_next = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss],
        "python": [version, torch.tensor(numbers), gauss_next],
    }


def _set_generators(states, device):
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    version, numbers, gauss_next = states["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss_next))
