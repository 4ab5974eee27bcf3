"""What :mod:`convkit.sklearn` adds to skorch: faster batches, and scikit-learn's rule of stopping."""

import copy
import math

import torch
from skorch.callbacks import Callback
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler


def whole_batches(dataset, batch_size, shuffle=False):
    """Batches that are cut out of the arrays at once, where skorch's own loader would collect sample by sample."""
    order = RandomSampler(dataset) if shuffle else SequentialSampler(dataset)
    batches = BatchSampler(order, batch_size, drop_last=False)
    # Every pass takes a number from a generator: in order, not from torch's own.
    return DataLoader(dataset, sampler=batches, batch_size=None, generator=None if shuffle else torch.Generator())


class Patience(Callback):
    """Ends training as scikit-learn does: after more than ``patience`` epochs in a row that each lower the best loss by
    less than ``tol``. skorch's own EarlyStopping adds small steps up and goes on.

    With ``restore``, the weights of the epoch with the best loss come back at the end.
    """

    def __init__(self, monitor, patience, tol, restore):
        self.monitor, self.patience, self.tol, self.restore = monitor, patience, tol, restore

    def on_train_begin(self, net, **_):
        self.best_, self.misses_, self.weights_ = math.inf, 0, None

    def on_epoch_end(self, net, **_):
        loss = net.history[-1, self.monitor]
        self.misses_ = self.misses_ + 1 if loss > self.best_ - self.tol else 0
        if loss < self.best_ and self.restore:
            self.weights_ = copy.deepcopy(net.module_.state_dict())
        self.best_ = min(self.best_, loss)
        if self.misses_ > self.patience:
            raise KeyboardInterrupt  # skorch's way to end training and keep the net

    def on_train_end(self, net, **_):
        if self.weights_ is not None:
            net.module_.load_state_dict(self.weights_)
        self.weights_ = None
