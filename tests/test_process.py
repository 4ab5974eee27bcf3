"""convkit inside a process: forks, Python threads, memory that must come back, switches of torch."""

import ctypes
import gc
import multiprocessing
import threading

import pytest
import torch
from _isolated import outcomes

import convkit
from convkit.testing.shapes import random

# Large enough for several threads. Made once: a forked child must not make them, for torch itself would hang in it.
TENSORS = [random(size, seed=i) for i, size in enumerate([(2, 16, 40, 40), (32, 16, 3, 3), (32,)])]
HEAD = random((10, 32 * 9 * 9), seed=7)


def step():
    """Every op once, forward and backward; returns all results as bytes."""
    leaves = [t.detach().requires_grad_() for t in TENSORS]
    hidden = convkit.conv2d(*leaves, padding=1, activation="relu", max_pool=2)
    hidden = convkit.max_pool2d(convkit.relu(hidden), 3, 2)
    output = convkit.linear(hidden.flatten(1), HEAD)
    gradients = torch.autograd.grad(output.square().sum(), leaves)
    return b"".join(t.detach().numpy().tobytes() for t in (output, *gradients))


def forward():
    return convkit.conv2d(*TENSORS, padding=1).numpy().tobytes()


@pytest.mark.parametrize("function", [forward, step])
def test_a_forked_child_finishes(function):
    """OpenMP cannot be used after a fork of a process that has used it; convkit works serially there instead."""
    torch.set_num_threads(2)
    expected = function()
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(function()))
    child.start()
    arrived = receiver.poll(60)
    result = receiver.recv() if arrived else None
    child.join(10)
    if child.is_alive():
        child.kill()
    assert arrived, "the forked child hangs"
    assert child.exitcode == 0
    assert result == expected


def test_many_python_threads_give_the_same_bits():
    expected, wrong = step(), []

    def work():
        for _ in range(12):
            if step() != expected:
                wrong.append(threading.current_thread().name)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# In a process of its own: threads of other tests may still be on their way out.
WORKSPACE = """
import threading, time
import convkit
from convkit._library import _C
torch.set_num_threads(1)
tensors = torch.randn(2, 16, 40, 40), torch.randn(32, 16, 3, 3)
convkit.conv2d(*tensors, padding=1)
before, held = _C.workspace_bytes(), []
def work():
    convkit.conv2d(*tensors, padding=1)
    held.append(_C.workspace_bytes())
for _ in range(3):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
deadline = time.monotonic() + 10  # join() returns a moment before the operating system's thread is gone
while _C.workspace_bytes() != before and time.monotonic() < deadline:
    time.sleep(0.01)
result = min(held) > before > 0, _C.workspace_bytes() == before
"""


def test_a_threads_workspace_is_freed_when_it_ends():
    assert outcomes({"threads": WORKSPACE})["threads"] == ("returned", "(True, True)")


class HeapState(ctypes.Structure):
    """What glibc's mallinfo2 returns."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


def heap_bytes():
    """Bytes that are allocated and not freed."""
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        pytest.skip("the C library has no mallinfo2")
    mallinfo2.restype = HeapState
    state = mallinfo2()
    return state.uordblks + state.hblkhd


def test_2000_calls_forward_and_backward_do_not_leak():
    """Not even a string: one of 48 bytes in each call also keeps the heap from using larger holes again. The garbage
    collector is off, so that no cycle hides."""
    leaves = [random(size, seed=i).requires_grad_() for i, size in enumerate([(2, 8, 16, 16), (8, 8, 3, 3), (8,)])]
    weight = random((4, 8 * 8 * 8), seed=3).requires_grad_()

    def call():
        hidden = convkit.conv2d(*leaves, padding=1, activation="relu", max_pool=2)
        output = convkit.linear(convkit.relu(hidden).flatten(1), weight)
        torch.autograd.grad(output.sum() + convkit.max_pool2d(hidden, 2).sum(), [*leaves, weight])

    gc.collect()
    gc.disable()
    try:
        for _ in range(200):
            call()
        before = heap_bytes()
        for _ in range(2000):
            call()
        grown = heap_bytes() - before
    finally:
        gc.enable()
    assert grown < 2000 * 24, f"{grown} bytes more than before"


def test_deterministic_algorithms_and_filled_memory_change_nothing():
    """Filled memory is not a number until it is written: none of it may show, nor reach a sum."""
    expected = step()
    torch.use_deterministic_algorithms(True)
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        assert step() == expected
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = filled
        torch.use_deterministic_algorithms(False)


def test_flush_to_zero_stays_as_it_was():
    """No kernel leaves the processor in another mode."""
    tiny = torch.full((64,), 1e-40)
    for setting in (False, True):
        if not torch.set_flush_denormal(setting):
            pytest.skip("this processor cannot flush denormals")
        try:
            step()
            assert bool((tiny * 0.5 == 0).all()) == setting
        finally:
            torch.set_flush_denormal(False)


def test_running_out_of_memory_raises_and_leaves_convkit_working():
    input, weight = torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    with pytest.raises(RuntimeError, match="memory"):
        convkit.conv2d(input, weight, padding=2**20)
    assert convkit.conv2d(input, weight).item() == 1
