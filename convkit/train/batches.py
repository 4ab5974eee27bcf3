"""Which samples make up a batch, in which process, and how they are loaded."""

import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler, TensorDataset

from convkit._text import counted
from convkit.train import distributed


def as_dataset(data, argument):
    """A dataset of (input, target): ``data`` itself, or a pair of tensors as a ``TensorDataset``.

    Raises:
        ValueError: no sample; one that is not finite. Of other datasets than tensors this is seen when it is loaded.
    """
    if isinstance(data, Dataset):
        if len(data) == 0:
            raise ValueError(f"{argument}: there is no sample in it")
        if isinstance(data, TensorDataset):
            _check_finite(data.tensors, argument)
        return data
    try:
        inputs, targets = (torch.as_tensor(part) for part in data)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{argument} must be a Dataset or a pair (inputs, targets), but got {type(data)}") from error
    if len(inputs) != len(targets) or not len(inputs):
        raise ValueError(f"{argument}: got {counted(len(inputs), 'input')} and {counted(len(targets), 'target')}")
    _check_finite((inputs, targets), argument)
    return TensorDataset(inputs, targets)


def _check_finite(tensors, argument):
    for name, tensor in zip(("input", "target"), tensors, strict=False):
        bad = (~tensor.isfinite().reshape(len(tensor), -1).all(1)).nonzero()
        if len(bad):
            raise ValueError(f"{argument}: the {name} of sample {bad[0].item()} is not finite")


class _Finite(Dataset):
    """``dataset``, but a sample that holds NaN or an infinity is a ValueError that names it."""

    def __init__(self, dataset, argument):
        self.dataset, self.argument = dataset, argument

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        sample = self.dataset[index]
        for name, value in zip(("input", "target"), sample, strict=False):
            if not torch.as_tensor(value).isfinite().all():
                raise ValueError(f"{self.argument}: the {name} of sample {index} is not finite")
        return sample


class Shuffled(Sampler):
    """Batches of one epoch, as lists of indices; each process gets every n-th sample of each batch.

    The order is a function of ``seed`` and ``epoch``. ``start`` skips batches that are done. In a last batch with fewer
    samples than processes, those without one get its first: a step of all needs an input in each. :meth:`share` tells
    how many count.
    """

    def __init__(self, samples, batch_size, seed):
        self.samples, self.batch_size, self.seed = samples, batch_size, seed
        self.epoch = self.start = 0
        self.rank, self.size = distributed.rank(), distributed.size()
        if min(samples, batch_size) < self.size:
            raise ValueError(
                f"train: {self.size} processes need as many samples in a batch, but batch_size is {batch_size} and "
                f"the data has {counted(samples, 'sample')}"
            )

    def __len__(self):
        """Batches of a whole epoch."""
        return -(-self.samples // self.batch_size)

    def share(self, batch):
        """(samples of that batch, samples of them that are this process's)."""
        samples = min(self.batch_size, self.samples - batch * self.batch_size)
        return samples, len(range(self.rank, samples, self.size))

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(self.samples, generator=generator)
        for batch in order.split(self.batch_size)[self.start :]:
            yield (batch[self.rank :: self.size] if self.rank < len(batch) else batch[:1]).tolist()


def _load(dataset, batches, config, argument):
    """Batches by lists of indices; tensors are indexed by the whole list at once."""
    whole = isinstance(dataset, TensorDataset)
    order = {"sampler": batches, "batch_size": None} if whole else {"batch_sampler": batches}
    return DataLoader(
        dataset if whole else _Finite(dataset, argument),
        **order,
        num_workers=0 if whole else config.workers,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator().manual_seed(0),  # else every epoch would take a number from torch's generator
    )


def training_loader(dataset, batches, config):
    """The batches of ``batches.epoch``; a dataset with ``set_epoch`` is told the epoch first, for its augmentation."""
    if hasattr(dataset, "set_epoch"):
        dataset.set_epoch(batches.epoch)
    return _load(dataset, batches, config, "train")


def evaluation_loader(dataset, config):
    """This process's share of ``dataset``, in order."""
    if len(dataset) < distributed.size():
        raise ValueError(f"evaluate: {distributed.size()} processes need as many samples, but there are {len(dataset)}")
    share = range(distributed.rank(), len(dataset), distributed.size())
    return _load(dataset, BatchSampler(share, config.batch_size, drop_last=False), config, "evaluate")
