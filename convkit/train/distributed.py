"""The processes that ``torchrun`` starts: who this one is, and sums over all of them."""

import os
from contextlib import contextmanager, suppress

import torch
from torch import distributed

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


def gather(value):
    """What every process has, as a list by rank."""
    values = [value] * size()
    if size() > 1:
        distributed.all_gather_object(values, value)
    return values


def default_device():
    """This process's GPU if convkit's convolution runs on it, else the CPU."""
    if torch.cuda.is_available():
        device = f"cuda:{int(os.environ.get('LOCAL_RANK', 0))}"
        with suppress(RuntimeError):  # NotImplementedError is one
            pixel = torch.zeros(1, 1, 1, 1, device=device)
            conv2d(pixel, pixel)
            return device
    return "cpu"


@contextmanager
def processes(device=None):
    """Join the processes of ``torchrun`` (gloo on the CPU, nccl on GPUs) for the block; alone, do nothing."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or distributed.is_initialized():
        yield
        return
    device = torch.device(device or default_device())
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()
