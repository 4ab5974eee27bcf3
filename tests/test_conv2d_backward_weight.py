"""The gradient of a direct convolution's weight: the tiles for few output channels and for few input channels."""

import functools

import pytest
import torch
import torch.nn.functional as F
from _conv2d import hold_contract, tensors_of

import convkit
from convkit import _C
from convkit.testing import shapes, tolerances

LANES = {"baseline": 4, "avx2": 8}.get(_C.isa(), 16)
# Output columns in the lanes, on every ISA: one register tile and one of two, tails, strides, dilations and groups.
PLANES = [
    shapes.Conv2dCase("few_out", 3, 1, (28, 28), 5, (5, 5), padding=(2, 2)),
    shapes.Conv2dCase("few_out_tail", 2, 1, (9, 31), 5, padding=(1, 1)),
    shapes.Conv2dCase("few_out_strided", 3, 2, (13, 61), 5, (3, 5), (2, 2), (1, 2)),
    shapes.Conv2dCase("few_out_strided_by_3", 2, 2, (11, 90), 5, (2, 4), (1, 3), (0, 1)),
    shapes.Conv2dCase("few_out_dilated", 2, 3, (11, 40), 5, padding=(2, 3), dilation=(2, 3)),
    shapes.Conv2dCase("few_out_of_many", 1, 19, (6, 31), 5, padding=(1, 1)),
    shapes.Conv2dCase("few_out_pointwise", 2, 20, (9, 12), 5, (1, 1)),
    shapes.Conv2dCase("few_out_groups", 2, 6, (7, 30), 10, padding=(1, 1), groups=2),
    shapes.Conv2dCase("few_out_wide", 1, 1, (4, 901), 5, padding=(1, 1)),
    shapes.Conv2dCase("few_out_bands", 2, 2, (61, 62), 5, padding=(1, 1)),
    shapes.Conv2dCase("few_out_empty", 0, 1, (28, 28), 5, (5, 5)),
]
# Rows of 3 and of 5 taps of few input channels, whose one vector of output channels is full on some ISA.
ROWS = [
    shapes.Conv2dCase(f"few_in_{name}_{channels}", 3, ics, (9, 11), channels, kernel, stride, padding, dilation)
    for channels in (4, 8, 16)
    for name, ics, kernel, stride, padding, dilation in (
        ("5x5", 3, (5, 5), (1, 1), (2, 2), (1, 1)),
        ("3x3", 5, (3, 3), (1, 1), (1, 1), (1, 1)),
        ("two_apart", 2, (3, 3), (1, 2), (1, 2), (1, 2)),
        ("strided", 3, (3, 5), (2, 2), (1, 2), (1, 1)),
    )
]


def plan_of(case, algorithm="auto"):
    x, weight = (torch.empty(size, device="meta") for size in (case.input_size, case.weight_size))
    output = F.conv2d(x, weight, **case.arguments)
    window = [*case.kernel, *case.stride, *case.padding, *case.dilation, case.groups]
    shape = [*case.input_size, *output.shape[1:], *window]
    return _C.conv2d_plan("backward_weight", shape, "float32", algorithm, False)


@pytest.mark.parametrize("layout", list(shapes.LAYOUTS))
@pytest.mark.parametrize("case", [*PLANES, *ROWS], ids=str)
def test_values_and_gradients(case, layout):
    hold_contract(case, layout, "direct")


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("case", [*PLANES, *ROWS], ids=str)
def test_a_gradient_of_the_other_layout(case, layout):
    hold_contract(case, layout, "direct", "channels_last" if layout == "contiguous" else "contiguous")


def test_sums_over_many_images_stay_accurate():
    """More bands than are added up one after the other; nothing cancels."""
    x = shapes.random((8300, 1, 1, 16), kind="same_sign", seed=1)
    weight = shapes.random((2, 1, 1, 3), seed=2)
    grad_output = shapes.random((8300, 2, 1, 16), kind="same_sign", seed=3)
    contract = tolerances.Contract(functools.partial(F.conv2d, padding=(0, 1)), [x, weight], grad_output)
    contract.hold(functools.partial(convkit.conv2d, padding=(0, 1), algorithm="direct"))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("case", [PLANES[0], PLANES[9], ROWS[0], ROWS[-4]], ids=str)
def test_same_bits_on_any_number_of_threads(case, layout):
    x, weight, _ = tensors_of(case, layout)
    convolve = functools.partial(convkit.conv2d, **case.arguments, algorithm="direct")
    grad_output = shapes.LAYOUTS[layout](shapes.random(convolve(x, weight).shape, seed=3))
    torch.set_num_threads(1)
    first = tolerances.in_own_dtype(convolve, [x, weight], grad_output)
    for threads in (2, 3, 8):
        torch.set_num_threads(threads)
        for one, other in zip(first, tolerances.in_own_dtype(convolve, [x, weight], grad_output), strict=True):
            assert torch.equal(one, other), f"{threads} threads"


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("which", ["input", "grad_output"])
@pytest.mark.parametrize("channels", [5, 16])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_reaches_its_weights_and_no_other(value, channels, which, layout):
    """At every column, so at every lane and in every tail, where zeros must not meet it."""
    case = shapes.Conv2dCase("poisoned", 1, 2, (6, 31), channels)
    x, weight, _ = tensors_of(case, layout)
    grad_output = shapes.LAYOUTS[layout](shapes.random((1, channels, 4, 29), seed=3))
    for column in range(29):
        tensors = {"input": x.clone(), "grad_output": grad_output.clone()}
        tensors[which][0, 1, 0, column] = value
        ours, theirs = (
            tolerances.in_own_dtype(function, [tensors["input"], weight], tensors["grad_output"])[2]
            for function in (functools.partial(convkit.conv2d, algorithm="direct"), F.conv2d)
        )
        assert torch.equal(ours.isfinite(), theirs.isfinite()), column


def test_explain_knows_which_columns_are_in_the_lanes():
    planes = (LANES, 6 if LANES == 16 else 3)

    def tile(case):
        return plan_of(case, "direct")["tile"]

    assert {tile(case) for case in PLANES if case.kernel != (1, 1)} == {planes}
    assert planes not in {tile(case) for case in ROWS if case.out_channels == LANES}
    # A vector of sums for each weight is much: it has to stay in cache, and a task's scratch is limited.
    large = plan_of(shapes.Conv2dCase("large_window", 1, 8, (64, 80), 5, (41, 41)))
    assert large["algorithm"] == "direct"
    assert (large["tile"] == planes) == (LANES < 16)
