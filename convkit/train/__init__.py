"""One training loop for all models: ``convkit.train.fit(model, train, valid)``. Needs ``convkit[train]``."""

from convkit.train.checkpoint import CheckpointError
from convkit.train.config import Config
from convkit.train.distributed import processes
from convkit.train.metrics import Metrics, evaluate
from convkit.train.run import Output, fit
from convkit.train.trainer import Trainer

__all__ = ["CheckpointError", "Config", "Metrics", "Output", "Trainer", "evaluate", "fit", "processes"]
