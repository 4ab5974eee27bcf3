"""The stand-in for a GPU of tests/cuda_host: it runs right kernels right, and names what is wrong with wrong ones."""

import ctypes
import re

import pytest
import torch

from tests.cuda_host import build

pytestmark = pytest.mark.skipif(build.missing() is not None, reason=f"CUDA kernels on the CPU: {build.missing()}")
COUNT, THREADS = 384, 64


def reversed_runs(x):
    return x.view(-1, THREADS).flip(1).reshape(-1)


def first(function):
    """The expected first numbers of the output; the rest stays as it was."""
    return lambda x: function(x)[:THREADS]


def swapped(x):
    return x.view(-1, 2).flip(1).reshape(-1)


def product(k):
    return lambda x: (x[: 16 * k].view(16, k) @ x[16 * k : 24 * k].view(8, k).t()).reshape(-1)


def wgmma_product(x):
    return (x[:48].view(6, 8) @ x[128:].view(32, 8).repeat(2, 1).t()).reshape(-1)


UNORDERED = "without a barrier|which nothing has been stored to"
ABSENT = "the mask names a lane that has ended|deadlock: .* waits for its warp"
# kernel of faults*.cu -> (what the right one computes, what is said of the wrong one)
FAULTS = {
    "missing_barrier": (first(reversed_runs), UNORDERED),
    "missing_barrier_before_reuse": (reversed_runs, "without a barrier"),
    "load_beyond_the_end": (
        lambda x: 2 * x,
        "a load .* outside of every tensor, at byte 1536 of a tensor of 1536",
    ),
    "store_before_the_begin": (
        lambda x: 2 * x,
        "a store .* outside of every tensor, at byte -4 of a tensor of 1536",
    ),
    "store_beyond_shared_memory": (first(lambda x: 2 * x), "a store to shared memory, bytes 256 to 260 of 256"),
    "load_of_what_was_not_stored": (first(lambda x: 2 * x), "byte 28 of shared memory, which nothing has been stored"),
    "store_to_an_input": (first(lambda x: 2 * x), "a store to a tensor that is an input only"),
    "misaligned_vector": (lambda x: x[:4].sum().view(1), "a load of 16 bytes .* not aligned"),
    "blocks_store_to_one_place": (
        lambda x: 2 * x[: 2 * THREADS],
        "after the store of thread .* of block .,",
    ),
    "barriers_of_two_branches": (first(reversed_runs), "barriers differ"),
    "shuffle_without_all_lanes": (
        lambda x: x[:THREADS].view(2, 32).sum(1, keepdim=True).expand(2, 32).reshape(-1),
        ABSENT,
    ),
    "shuffle_after_a_lane_has_ended": (
        first(lambda x: x + swapped(x)),
        ABSENT,
    ),
    "missing_warp_barrier": (first(swapped), UNORDERED),
    "warp_barrier_between_warps": (first(swapped), UNORDERED),
    "copy_not_waited_for": (reversed_runs, "where an asynchronous copy has not been waited for"),
    "copy_waited_for_too_early": (reversed_runs, "where an asynchronous copy has not been waited for"),
    "copy_without_barrier": (reversed_runs, f"{UNORDERED}|has not been waited for"),
    "copy_into_what_is_read": (reversed_runs, f"{UNORDERED}|has not been waited for"),
    "wgmma_without_fence": (wgmma_product, "without fence_async_shared"),
    "wgmma_before_arrival": (wgmma_product, "where an asynchronous copy has not been waited for"),
    "wgmma_of_too_few_bytes": (wgmma_product, "deadlock: bytes that never arrive"),
    "wgmma_without_barrier": (wgmma_product, f"{UNORDERED}|has not been waited for"),
    "wgmma_of_what_is_overwritten": (wgmma_product, "has changed before its wait|without a barrier"),
}
# The same with a wrong map of lanes, which only the numbers show.
LANE_MAPS = {
    "mma_tf32": product(8),
    "mma_half": product(16),
    "mma_bfloat16": product(16),
    "ldmatrix": lambda x: (x[:256].view(16, 16) @ x[256:].view(16, 8)).reshape(-1),
}
ORDERS = pytest.mark.parametrize("order", range(3), ids=["forward", "reverse", "shuffled"])


def run(name, broken, order):
    """-> (error or None, output) of a kernel of faults.cu on small integers, which every format holds exactly."""
    library = build.load()
    input = torch.randint(-8, 9, (COUNT,), generator=torch.Generator().manual_seed(1)).float()
    output = torch.full((COUNT,), float("nan"))
    library.simt_set_order(order)
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in (output, input)]
    failed = getattr(library, f"{name}_fault")(int(broken), *pointers)
    library.simt_set_order(0)
    return library.simt_error().decode() if failed else None, output, input


@ORDERS
@pytest.mark.parametrize("name", FAULTS)
def test_a_right_kernel_is_accepted_and_a_wrong_one_is_not(name, order):
    expected, message = FAULTS[name]
    error, output, input = run(name, False, order)
    assert error is None
    wanted = expected(input)
    assert torch.equal(output[: wanted.numel()], wanted)
    error, _, _ = run(name, True, order)
    assert error is not None
    assert re.search(message, error), error


@ORDERS
@pytest.mark.parametrize("name", LANE_MAPS)
def test_a_wrong_lane_map_gives_wrong_numbers(name, order):
    error, output, input = run(name, False, order)
    assert error is None
    wanted = LANE_MAPS[name](input)
    assert torch.equal(output[: wanted.numel()], wanted)
    error, output, _ = run(name, True, order)
    assert error is None
    assert not torch.equal(output[: wanted.numel()], wanted)
