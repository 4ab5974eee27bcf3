"""The processes that ``torchrun`` starts: who this one is, and sums over all of them."""

import os
from contextlib import contextmanager, suppress

import torch
from torch import distributed

from convkit._text import counted
from convkit.ops.conv2d import conv2d


def size():
    """Number of processes that train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank():
    """Number of this process, from 0; process 0 writes the files."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def add(tensor):
    """Sum ``tensor`` over all processes, in place; returns it."""
    if size() > 1:
        distributed.all_reduce(tensor)
    return tensor


def broadcast(tensors):
    """Give ``tensors`` the values that they have in process 0, in place."""
    for tensor in tensors if size() > 1 else ():
        values = tensor.contiguous()
        distributed.broadcast(values, 0)
        tensor.copy_(values)


def gather(value):
    """What every process has, as a list by rank."""
    values = [value] * size()
    if size() > 1:
        distributed.all_gather_object(values, value)
    return values


def _local_rank():
    return int(os.environ.get("LOCAL_RANK", 0))


def default_device():
    """This process's GPU if convkit's convolution runs on it, else the CPU."""
    if torch.cuda.is_available():
        device = f"cuda:{_local_rank()}"
        with suppress(RuntimeError):  # NotImplementedError is one
            pixel = torch.zeros(1, 1, 1, 1, device=device)
            conv2d(pixel, pixel)
            return device
    return "cpu"


def device(name=None):
    """The ``torch.device`` of this name, or `default_device`; RuntimeError where this machine has none."""
    try:
        found = torch.device(name or default_device())
    except RuntimeError:  # torch does not know it
        found = None
    if found is None or found.type not in ("cpu", "cuda"):
        raise RuntimeError(f"device {name}: convkit runs on cpu and cuda")
    if found.type == "cuda" and found.index is None:
        found = torch.device("cuda", _local_rank())
    if found.type == "cuda" and found.index >= torch.cuda.device_count():
        raise RuntimeError(f"device {name}: torch sees {counted(torch.cuda.device_count(), 'GPU')} here")
    return found


@contextmanager
def processes(name=None):
    """Join the processes of ``torchrun`` (gloo on the CPU, nccl on GPUs) for the block; alone, do nothing.

    Args:
        name: "cpu" or "cuda"; None takes a GPU for each process if convkit has kernels for it.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or distributed.is_initialized():
        yield
        return
    found = device(name)
    if found.type == "cuda":
        torch.cuda.set_device(found)
    distributed.init_process_group("nccl" if found.type == "cuda" else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()
