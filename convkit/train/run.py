"""``fit``: a whole training run, with its files."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from convkit._fields import check_kinds
from convkit.train import checkpoint, distributed
from convkit.train.records import TensorBoard, write_csv, write_curves
from convkit.train.trainer import Trainer

CHECKPOINT, WEIGHTS = "checkpoint.safetensors", "model.safetensors"
SECONDS = 1.0


@dataclass(frozen=True)
class Output:
    """Where a run writes.

    Attributes:
        directory: gets ``checkpoint.safetensors`` (to resume from), ``model.safetensors`` (the best weights so far,
            under the model's own names), ``metrics.csv`` and ``curves.png``.
        resume: continue from the checkpoint there, or begin where there is none yet. False: a directory that has one is
            refused.
        checkpoint_steps: write the checkpoint after so many steps too, not only after each epoch.
        tensorboard: write TensorBoard's event files too (``convkit[tensorboard]``).
        about: numbers, texts, lists and dicts to keep in ``model.safetensors``, as how to build the model.
        report: called with the dict of each epoch.
    """

    directory: str | Path
    resume: bool = False
    checkpoint_steps: int | None = None
    tensorboard: bool = False
    about: dict | None = None
    report: Callable | None = None

    def __post_init__(self):
        check_kinds(self, "Output")
        if self.checkpoint_steps is not None and self.checkpoint_steps < 1:
            raise ValueError(f"Output: checkpoint_steps must be at least 1, but got {self.checkpoint_steps}")


def fit(model, train, valid=None, config=None, output=None, on_step=None):
    """Train ``model``; with ``valid`` it ends with the weights of the lowest validation loss, else with the last.

    Args:
        model, train, valid, config: as :class:`Trainer` takes them.
        output: :class:`Output`, or a directory; None writes nothing.
        on_step: called after each batch, with its mean loss.

    Returns:
        The history: a dict for each epoch.
    """
    if output is not None and not isinstance(output, Output):
        output = Output(output)
    trainer = Trainer(model, train, valid, config)
    files = Files(trainer, output) if output else None
    while not trainer.done:
        trainer.run_epoch(_both(on_step, files))
        if files:
            files.write_epoch()
            files.tell()
    if files:
        files.write_curves()
    trainer.restore_best()
    return trainer.history


def _both(on_step, files):
    if files is None or files.output.checkpoint_steps is None:
        return on_step

    def call(loss):
        if on_step:
            on_step(loss)
        files.write_step()

    return call


class Files:
    """The files of a run; opening them loads the checkpoint that is to be continued."""

    def __init__(self, trainer, output):
        self.trainer, self.output = trainer, output
        self.directory = Path(output.directory)
        path = self.directory / CHECKPOINT
        if path.exists():
            if not output.resume:
                raise FileExistsError(f"{path} is there already: resume it (resume=True, --resume) or write elsewhere")
            trainer.load_state_dict(checkpoint.load(path), path)
        if distributed.rank() == 0:
            self.directory.mkdir(parents=True, exist_ok=True)
        first_step = trainer.epoch * len(trainer.batches) + trainer.batch
        self.written, self.written_weights = -SECONDS, None
        wanted = output.tensorboard and distributed.rank() == 0
        self.tensorboard = TensorBoard(self.directory / "tensorboard", first_step) if wanted else None

    def write_step(self):
        if self.trainer.batch % self.output.checkpoint_steps == 0:
            self.trainer.check()  # before a good file is replaced
            self._write_checkpoint()

    def write_epoch(self):
        """Write everything, but not more often than `SECONDS`, for epochs that take no time. The results come first:
        where only the checkpoint is missing, the epoch is trained again to the same ones."""
        trainer = self.trainer
        elapsed = distributed.gather(time.monotonic() - self.written)[0]
        if elapsed < SECONDS and not trainer.done:
            return
        if distributed.rank() == 0:
            best = trainer.best or {"epoch": trainer.epoch, "weights": trainer.model.state_dict()}
            if best["epoch"] != self.written_weights:
                about = {"epoch": best["epoch"], **(self.output.about or {})}
                checkpoint.save(self.directory / WEIGHTS, {"": best["weights"], "about": about})
                self.written_weights = best["epoch"]
            write_csv(self.directory / "metrics.csv", trainer.history)
        self._write_checkpoint()
        self.written = time.monotonic()

    def tell(self):
        """The epoch to TensorBoard and to whoever listens."""
        row = self.trainer.history[-1]
        if self.tensorboard:
            self.tensorboard.write(row, self.trainer.epoch * len(self.trainer.batches))
        if self.output.report:
            self.output.report(row)

    def write_curves(self):
        if distributed.rank() == 0:
            write_curves(self.directory / "curves.png", self.trainer.history)

    def _write_checkpoint(self):
        state = self.trainer.state_dict()
        if distributed.rank() == 0:
            checkpoint.save(self.directory / CHECKPOINT, state)
