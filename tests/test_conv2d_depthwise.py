"""Depthwise convolution: values and gradients over geometries, layouts and numbers of channels."""

import functools

import pytest
import torch
import torch.nn.functional as F
from _conv2d import hold_contract, tensors_of
from hypothesis import given, settings
from hypothesis import strategies as st

import convkit
from convkit.testing import shapes, tolerances

# Below, at and above whole vectors of any ISA and the channels of a task.
CHANNELS = [1, 7, 8, 16, 33, 48, 80]
CASES = [
    shapes.Conv2dCase("mobilenet", 2, 96, (28, 28), 96, padding=(1, 1), groups=96),
    shapes.Conv2dCase("mobilenet_strided", 2, 96, (28, 27), 96, (3, 3), (2, 2), (1, 1), groups=96),
    shapes.Conv2dCase("seven", 3, 48, (7, 7), 48, padding=(1, 1), groups=48),
    shapes.Conv2dCase("seven_by_seven", 1, 32, (20, 19), 32, (7, 7), padding=(3, 3), groups=32),
    shapes.Conv2dCase("many_channels", 1, 1040, (5, 6), 1040, padding=(1, 1), groups=1040),
    shapes.Conv2dCase("large", 1, 16, (150, 151), 16, padding=(1, 1), groups=16),
]


DTYPES = [torch.float32, torch.bfloat16]


def check(case, layout, gradient_layout=None, dtype=torch.float32):
    hold_contract(case, layout, "depthwise", gradient_layout, dtype)


@pytest.mark.parametrize("layout", list(shapes.LAYOUTS))
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values_and_gradients(case, layout, dtype):
    check(case, layout, dtype=dtype)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_a_gradient_of_the_other_layout(layout):
    check(CASES[0], layout, "channels_last" if layout == "contiguous" else "contiguous")


@settings(max_examples=150)
@given(st.data())
def test_any_geometry(data):
    def pair(least, most):
        return data.draw(st.tuples(st.integers(least, most), st.integers(least, most)))

    kernel, dilation, padding = pair(1, 5), pair(1, 3), pair(0, 4)
    least = [max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(kernel, dilation, padding, strict=True)]
    size = tuple(m + extra for m, extra in zip(least, pair(0, 18), strict=True))
    channels = data.draw(st.sampled_from(CHANNELS))
    batch = data.draw(st.integers(1, 3))
    case = shapes.Conv2dCase(
        "drawn", batch, channels, size, channels, kernel, pair(1, 4), padding, dilation, groups=channels
    )
    layout, dtype = data.draw(st.sampled_from(list(shapes.LAYOUTS))), data.draw(st.sampled_from(DTYPES))
    check(case, layout, dtype=dtype)


@settings(max_examples=60)
@given(st.data())
def test_windows_of_three_two_apart(data):
    """Whose gradient of the input goes two pixels at a time."""
    padding = data.draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    size = tuple(data.draw(st.integers(max(1, 3 - 2 * p), 20)) for p in padding)
    channels = data.draw(st.sampled_from([16, 33]))
    case = shapes.Conv2dCase("drawn", 2, channels, size, channels, (3, 3), (2, 2), padding, groups=channels)
    layout, dtype = data.draw(st.sampled_from(list(shapes.LAYOUTS))), data.draw(st.sampled_from(DTYPES))
    check(case, layout, dtype=dtype)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("case", CASES[:3], ids=str)
def test_same_bits_in_any_batch_and_on_any_number_of_threads(case, layout):
    x, weight, bias = tensors_of(case, layout)
    leaves = [x, weight, bias]
    grad_output = torch.ones_like(convkit.conv2d(*leaves, **case.arguments))
    torch.set_num_threads(1)
    convolve = functools.partial(convkit.conv2d, **case.arguments)
    first = tolerances.in_own_dtype(convolve, leaves, grad_output)
    assert torch.equal(convolve(x[:1], weight, bias), first[0][:1])
    torch.set_num_threads(3)
    for one, other in zip(first, tolerances.in_own_dtype(convolve, leaves, grad_output), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("width", "channels", "stride", "pad"), [(15, 8, 2, 0), (16, 8, 2, 0), (17, 8, 2, 0), (9, 17, 1, 2)]
)
def test_a_value_that_is_not_finite_reaches_its_windows_and_no_other(width, channels, stride, pad, value, layout):
    case = shapes.Conv2dCase(
        "wide", 1, channels, (5, width), channels, stride=(1, stride), padding=(0, pad), groups=channels
    )
    x, weight, _ = tensors_of(case, layout)
    size = (1, channels, 3, (width + 2 * pad - 3) // stride + 1)
    for column in range(width):
        poisoned = x.clone()
        poisoned[0, 3, 2, column] = value
        ours, theirs = (
            tolerances.in_own_dtype(functools.partial(conv2d, **case.arguments), [poisoned, weight], grad)
            for conv2d, grad in ((f, torch.ones(size)) for f in (convkit.conv2d, F.conv2d))
        )
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one.isfinite(), other.isfinite()), column


def test_every_algorithm_has_a_tolerance():
    plan = convkit.explain(convkit.conv2d, torch.ones(1, 4, 5, 5), torch.ones(4, 1, 3, 3), groups=4).ops[0]
    assert {plan.algorithm, *plan.passed_over} == set(tolerances.FACTOR)


def test_fused_relu_and_pooling():
    case = CASES[0]
    tensors = tensors_of(case, "channels_last")
    fused = convkit.conv2d(*tensors, **case.arguments, activation="relu", max_pool=2)
    assert torch.equal(fused, convkit.max_pool2d(convkit.relu(convkit.conv2d(*tensors, **case.arguments)), 2))


def test_what_is_not_depthwise_is_refused():
    with pytest.raises(RuntimeError, match=r"'depthwise' cannot be used: it needs as many groups as input and output"):
        convkit.conv2d(torch.ones(1, 4, 5, 5), torch.ones(8, 1, 3, 3), groups=4, algorithm="depthwise")
    plan = convkit.explain(convkit.conv2d, torch.ones(1, 4, 5, 5), torch.ones(4, 1, 3, 3), groups=4).ops[0]
    assert plan.algorithm == "depthwise"


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_rows_too_long_to_be_packed(layout):
    """As of sound: the bands of a vector of channels would take more than a task's workspace on any ISA."""
    case = shapes.Conv2dCase("long", 1, 16, (1, 300_000), 16, (1, 3), padding=(0, 1), groups=16)
    x, weight, bias = tensors_of(case, layout)
    contract = tolerances.Contract(functools.partial(F.conv2d, **case.arguments), [x, weight, bias])
    contract.hold(functools.partial(convkit.conv2d, **case.arguments, algorithm="depthwise"), "depthwise")


# The narrower phases of the gradient would be cut into bands of more rows, of an input as wide: too large to be packed,
# of AVX-512's vectors and of AVX2's.
@pytest.mark.parametrize(("size", "padding"), [((256, 33), 1000), ((300, 17), 3000)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_phases_of_a_gradient_wider_than_the_input(size, padding, dtype):
    case = shapes.Conv2dCase("wide", 1, 16, size, 16, (2, 2), (2, 2), (1, padding), groups=16)
    check(case, "contiguous", dtype=dtype)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("window", [3, 5])
@pytest.mark.parametrize(("channels", "size"), [(2, (1, 100_000)), (16, (1, 100_000)), (16, (500, 600))], ids=str)
def test_the_gradient_of_the_weight_has_no_long_chain_of_additions(channels, size, window, layout):
    """Of numbers of one sign, whose rounding errors add up."""
    case = shapes.Conv2dCase(
        "long", 1, channels, size, channels, (1, window), padding=(0, window // 2), groups=channels
    )
    tensors = [t.abs() for t in tensors_of(case, layout)]
    grad_output = tensors_of(case, layout)[0].abs().flip(2)
    contract = tolerances.Contract(functools.partial(F.conv2d, **case.arguments), tensors, grad_output)
    contract.hold(functools.partial(convkit.conv2d, **case.arguments), "depthwise")


def test_explain_knows_what_is_packed():
    x, weight = torch.ones(1, 32, 9, 9), torch.ones(32, 1, 3, 3)
    plans = [
        convkit.explain(convkit.conv2d, x.contiguous(memory_format=layout), weight, padding=1, groups=32).ops[0]
        for layout in (torch.contiguous_format, torch.channels_last)
    ]
    assert plans[0].tile == plans[1].tile  # pixels x a vector of channels
    few = convkit.explain(convkit.conv2d, x[:, :3], weight[:3], padding=1, groups=3).ops[0]
    assert few.tile[1] == 1
