"""What only a GPU can show: streams, graphs, several devices, launches that overflow 32 bits."""

import pytest
import torch

import convkit
from convkit.testing import shapes
from tests._devices import NEEDS_CUDA

pytestmark = NEEDS_CUDA
SEVERAL = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are fewer than two CUDA devices")


def block(input, weight, bias):
    return convkit.conv2d(input, weight, bias, padding=1, activation="relu", max_pool=2)


CALLS = {
    "conv2d": lambda x, w, b: convkit.conv2d(x, w, b, padding=1),
    "block": block,
    "max_pool2d": lambda x, w, b: convkit.max_pool2d(x, 3, 2, 1),
    "relu": lambda x, w, b: convkit.relu(x),
    "linear": lambda x, w, b: convkit.linear(x.flatten(1), w.flatten(1).repeat(1, 41)[:, : x[0].numel()], b),
}
EVERY_CALL = pytest.mark.parametrize("name", CALLS)


def tensors_of(device="cuda", dtype=torch.float32):
    sizes = [(4, 16, 18, 20), (24, 16, 3, 3), (24,)]
    return [shapes.random(size, dtype, seed=i).to(device).requires_grad_() for i, size in enumerate(sizes)]


def results_of(name, tensors):
    """The output and every gradient of a call."""
    output = CALLS[name](*tensors)
    return [output.detach(), *torch.autograd.grad(output.sum(), tensors, allow_unused=True)]


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        assert (a is None) == (b is None)
        assert a is None or torch.equal(a.cpu(), b.cpu())


@EVERY_CALL
def test_the_same_call_twice_gives_the_same_bits(name):
    tensors = tensors_of()
    assert_same(results_of(name, tensors), results_of(name, tensors))


@EVERY_CALL
def test_a_call_waits_for_its_stream_and_for_no_other(name):
    expected = results_of(name, tensors_of())
    tensors = [torch.zeros_like(t).requires_grad_() for t in tensors_of()]
    values = tensors_of()
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)  # some 50 ms, in which a kernel on another stream would read zeros
        with torch.no_grad():
            for tensor, value in zip(tensors, values, strict=True):
                tensor.copy_(value)
        results = results_of(name, tensors)
        assert not stream.query(), "the call waited for the device"
    stream.synchronize()
    assert_same(results, expected)


@EVERY_CALL
def test_a_graph_replays_the_call_on_new_values(name):
    tensors = tensors_of()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        results_of(name, tensors)
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = results_of(name, tensors)
    with torch.no_grad():
        for tensor in tensors:
            tensor.mul_(-0.75)
    graph.replay()
    assert_same(results, results_of(name, tensors))


def test_a_prepacked_weight_is_packed_in_each_call():
    input, weight, bias = (t.detach() for t in tensors_of())
    packed = convkit.prepack(weight, bias, padding=1)
    assert packed.packed is None
    assert torch.equal(convkit.conv2d(input, packed, padding=1), convkit.conv2d(input, weight, bias, padding=1))


@SEVERAL
@EVERY_CALL
def test_the_tensors_device_counts_not_the_current_one(name):
    expected = results_of(name, tensors_of("cuda:0"))
    with torch.cuda.device(0):
        results = results_of(name, tensors_of("cuda:1"))
        assert torch.cuda.current_device() == 0
    assert results[0].device == torch.device("cuda:1")
    assert_same(results, expected)


@SEVERAL
def test_tensors_of_two_devices_are_refused():
    input, weight, _ = tensors_of("cuda:0")
    with pytest.raises(
        RuntimeError, match="expected all tensors to be on the same device, but found cuda:0 and cuda:1"
    ):
        convkit.conv2d(input, weight.to("cuda:1"))


def test_a_tensor_on_the_cpu_is_refused():
    input, weight, bias = tensors_of()
    with pytest.raises(RuntimeError, match="input and weight must be on the same device"):
        convkit.conv2d(input, weight.cpu())
    with pytest.raises(RuntimeError, match="input and bias must be on the same device"):
        convkit.conv2d(input, weight, bias.cpu())


def test_an_empty_batch_launches_nothing():
    input, weight, bias = tensors_of()
    for name in ("conv2d", "block", "max_pool2d", "relu"):
        output = CALLS[name](input[:0], weight, bias)
        assert output.numel() == 0
        output.sum().backward()


@pytest.mark.slow
def test_more_than_32_bits_of_elements():
    count = 2**31 + 64
    x = torch.zeros(1, 2, 2, count // 4, dtype=torch.uint8, device="cuda")
    x[0, 1, 1, -1] = 7
    assert convkit.relu(x)[0, 1, 1, -1] == 7
    pooled, indices = convkit.max_pool2d(x, (1, 2), return_indices=True)
    assert pooled[0, 1, 1, -1] == 7
    assert indices[0, 1, 1, -1] == count // 2 - 1
    del pooled, indices
    output = convkit.conv2d(x.half(), torch.ones(1, 2, 1, 1, dtype=torch.half, device="cuda"))
    assert output[0, 0, 1, -1] == 7
    assert output.float().sum() == 7


@pytest.mark.slow
def test_more_than_31_bits_of_packed_weights():
    """64 columns, of which one is there, of 2**25 products and a few more."""
    x, weight = (torch.zeros(n, 2**25 + 64, dtype=torch.bfloat16, device="cuda") for n in (8, 1))
    x[7, -1], weight[0, -1] = 3, 2
    assert convkit.linear(x, weight).flatten().tolist() == [0.0] * 7 + [6.0]
