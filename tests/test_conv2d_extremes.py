"""conv2d where an index, a value or a request is out of the ordinary."""

import pytest
import torch
import torch.nn.functional as F

import convkit
from convkit.testing import shapes, tolerances

ALGORITHMS = ["auto", "direct", "generic"]
BEYOND_INT32 = 2**31 + 8


def far_apart(tensor):
    """The same values with the first dimension's elements more than 2^31 elements apart: only touched pages count."""
    try:
        room = torch.empty((tensor.size(0) - 1) * BEYOND_INT32 + tensor[0].numel(), dtype=tensor.dtype)
    except RuntimeError as error:
        pytest.skip(f"no address space for 9 GB: {error}")
    strides = (BEYOND_INT32, *tensor.contiguous().stride()[1:])
    return room.as_strided(tensor.shape, strides).copy_(tensor)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["input", "weight", "grad_output"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_strides_beyond_int32(which, algorithm):
    sizes = [(2, 3, 6, 7), (2, 3, 3, 3), (2, 2, 6, 7)]
    tensors = [shapes.random(size, seed=i) for i, size in enumerate(sizes)]

    def results(input, weight, grad_output):
        def convolve(x, w):
            return convkit.conv2d(x, w, padding=1, algorithm=algorithm)

        return tolerances.in_own_dtype(convolve, [input, weight], grad_output)

    expected = results(*tensors)
    tensors[which] = far_apart(tensors[which])
    for actual, same in zip(results(*tensors), expected, strict=True):
        assert torch.equal(actual, same)


@pytest.mark.slow
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_output_of_more_than_int32_elements(memory_format):
    """A 1x1 convolution that doubles: exact, so that any wrong offset shows."""
    side = 32768
    input = torch.empty((1, 2, side, side + 1), dtype=torch.bfloat16, memory_format=memory_format)
    input.copy_((torch.arange(side + 1) % 251).to(torch.bfloat16))
    input[:, 1] += 1
    weight = 2 * torch.eye(2, dtype=torch.bfloat16)[:, :, None, None]
    output = convkit.conv2d(input, weight)
    assert output.numel() > 2**31
    for rows in range(0, side, 1024):
        assert torch.equal(output[:, :, rows : rows + 1024], 2 * input[:, :, rows : rows + 1024])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")], ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_value_that_is_not_finite_reaches_its_windows_and_no_other(algorithm, value, layout, dtype):
    """In the input at every column, so at every lane and in every tail; a zero weight does not stop it."""
    weight = shapes.random((18, 3, 3, 3), dtype, seed=1).abs()
    weight[:, :, 1, 1] = 0
    weight = shapes.LAYOUTS[layout](weight)
    for column in range(19):
        input = shapes.LAYOUTS[layout](shapes.random((1, 3, 5, 19), dtype, seed=2))
        input[0, 1, 2, column] = value
        actual = convkit.conv2d(input, weight, padding=1, algorithm=algorithm)
        exact = F.conv2d(input.double(), weight.double(), padding=1)
        assert torch.equal(actual.isnan(), exact.isnan())
        assert torch.equal(actual.isposinf(), exact.isposinf())
        assert torch.equal(actual.isneginf(), exact.isneginf())


@pytest.mark.parametrize("algorithm", ["direct", "generic"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_integers_are_exact(algorithm, dtype):
    """Whole numbers below 2^24 have no rounding, in whatever order they are added; the result is rounded once."""
    generator = torch.Generator().manual_seed(0)
    input = torch.randint(-9, 10, (2, 37, 9, 11), generator=generator).float()
    weight = torch.randint(-9, 10, (33, 37, 3, 3), generator=generator).float()
    for memory_format in (torch.contiguous_format, torch.channels_last):
        tensors = [t.to(dtype, memory_format=memory_format) for t in (input, weight)]
        expected = F.conv2d(input.double(), weight.double(), padding=1).to(dtype)
        assert torch.equal(convkit.conv2d(*tensors, padding=1, algorithm=algorithm), expected)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_bfloat16_below_the_normal_range_becomes_zero_at_most(algorithm):
    """Pairs of bfloat16 are multiplied by an instruction that takes denormals for zeros."""
    smallest = torch.finfo(torch.float32).smallest_normal
    tiny = (smallest * torch.linspace(0.25, 4, 64)).bfloat16()[None, None, None]
    actual = convkit.conv2d(tiny, torch.ones(1, 1, 1, 1, dtype=torch.bfloat16), algorithm=algorithm)
    normal = tiny.float() >= smallest
    assert torch.equal(actual[normal], tiny[normal])
    assert ((actual == tiny) | (actual == 0))[~normal].all()


def test_denormals_are_kept():
    tiny = torch.full((1, 1, 1, 17), 2.0**-140)
    one = torch.ones(1, 1, 1, 1)
    for algorithm in ALGORITHMS:
        assert torch.equal(convkit.conv2d(tiny, one, algorithm=algorithm), tiny)


def test_an_algorithm_that_cannot_serve_says_why():
    input, weight = torch.ones(1, 3, 5, 5).double(), torch.ones(4, 3, 3, 3).double()
    with pytest.raises(RuntimeError, match=r"conv2d: algorithm='direct' cannot be used: .*float32"):
        convkit.conv2d(input, weight, algorithm="direct")


def test_an_unknown_algorithm_is_named():
    with pytest.raises(ValueError, match=r"algorithm.*'auto'.*'direct'.*'generic'.*'fastest'"):
        convkit.conv2d(torch.ones(1, 3, 5, 5), torch.ones(4, 3, 3, 3), algorithm="fastest")


UNSUPPORTED = {torch.int64: "Long", torch.uint8: "Byte", torch.bool: "Bool", torch.complex64: "ComplexFloat"}


@pytest.mark.parametrize(("dtype", "name"), UNSUPPORTED.items(), ids=str)
def test_a_dtype_that_is_not_implemented_is_named(dtype, name):
    input, weight = torch.ones(1, 3, 5, 5, dtype=dtype), torch.ones(4, 3, 3, 3, dtype=dtype)
    with pytest.raises(NotImplementedError, match=f"conv2d.*{name}"):
        convkit.conv2d(input, weight)


def test_a_sum_over_no_channels_is_the_bias():
    output = convkit.conv2d(torch.ones(2, 0, 5, 5), torch.ones(4, 0, 3, 3), torch.arange(4.0))
    assert torch.equal(output, torch.arange(4.0)[None, :, None, None].expand(2, 4, 3, 3))
