"""Which samples make up a batch, in which process, and how they are loaded."""

import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, TensorDataset

from convkit.train import distributed


def as_dataset(data, argument):
    """A dataset of (input, target): ``data`` itself, or a pair of tensors as a ``TensorDataset``."""
    if isinstance(data, Dataset):
        if len(data) == 0:
            raise ValueError(f"{argument}: there is no sample in it")
        return data
    try:
        inputs, targets = (torch.as_tensor(part) for part in data)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{argument} must be a Dataset or a pair (inputs, targets), but got {type(data)}") from error
    if len(inputs) != len(targets) or not len(inputs):
        raise ValueError(f"{argument}: got {len(inputs)} inputs and {len(targets)} targets")
    return TensorDataset(inputs, targets)


class Shuffled(Sampler):
    """Batches of one epoch, as lists of indices; each process gets every n-th sample of each batch.

    The order is a function of ``seed`` and ``epoch``. ``start`` skips batches that are done. A last batch with fewer
    samples than processes is left out.
    """

    def __init__(self, samples, batch_size, seed):
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self.epoch = self.start = 0
        self.rank, self.size = distributed.rank(), distributed.size()
        if min(samples, batch_size) < self.size:
            raise ValueError(
                f"train: {self.size} processes need as many samples in a batch, but batch_size is {batch_size} and "
                f"there are {samples} samples"
            )

    def __len__(self):
        """Batches of a whole epoch."""
        full, rest = divmod(self.samples, self.batch_size)
        return full + (rest >= self.size)

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.samples, generator=generator)
        for batch in order.split(self.batch_size)[self.start : len(self)]:
            yield batch[self.rank :: self.size].tolist()


def _load(dataset, batches, config):
    """Batches by lists of indices; tensors are indexed by the whole list at once."""
    whole = isinstance(dataset, TensorDataset)
    order = {"sampler": batches, "batch_size": None} if whole else {"batch_sampler": batches}
    return DataLoader(
        dataset,
        **order,
        num_workers=0 if whole else config.workers,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(0),  # else every epoch would take a number from torch's generator
    )


def training_loader(dataset, batches, config):
    """The batches of ``batches.epoch``; a dataset with ``set_epoch`` is told the epoch first, for its augmentation."""
    if hasattr(dataset, "set_epoch"):
        dataset.set_epoch(batches.epoch)
    return _load(dataset, batches, config)


def evaluation_loader(dataset, config):
    """This process's share of ``dataset``, in order."""
    if len(dataset) < distributed.size():
        raise ValueError(f"evaluate: {distributed.size()} processes need as many samples, but there are {len(dataset)}")
    share = range(distributed.rank(), len(dataset), distributed.size())
    return _load(dataset, BatchSampler(share, config.batch_size, drop_last=False), config)
