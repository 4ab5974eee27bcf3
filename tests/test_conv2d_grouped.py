"""Convolution of groups of few channels: values and gradients over geometries, layouts and numbers of channels."""

import functools

import pytest
import torch
import torch.nn.functional as F
from _conv2d import hold_contract, tensors_of
from hypothesis import given, settings
from hypothesis import strategies as st

import convkit
from convkit import _C
from convkit.testing import shapes, tolerances

LANES = {"baseline": 4, "avx2": 8}.get(_C.isa(), 16)
# Of a group: those that are scalars, fours and vectors of the packed input on some ISA, and none of an even share.
CHANNELS = [(4, 4), (8, 8), (16, 16), (8, 4), (4, 8), (1, 2), (2, 1), (1, 5), (3, 2), (16, 3), (12, 16), (6, 4)]
CASES = [
    shapes.Conv2dCase("resnext_4", 2, 64, (28, 29), 64, padding=(1, 1), groups=16),
    shapes.Conv2dCase("resnext_4_strided", 2, 64, (29, 28), 64, (3, 3), (2, 2), (1, 1), groups=16),
    shapes.Conv2dCase("resnext_8_strided", 1, 128, (16, 15), 128, (3, 3), (2, 2), (1, 1), groups=16),
    shapes.Conv2dCase("resnext_16", 1, 64, (14, 14), 64, padding=(1, 1), groups=4),
    shapes.Conv2dCase("resnext_16_strided", 1, 64, (13, 15), 64, (3, 3), (2, 2), (0, 1), groups=4),
    shapes.Conv2dCase("multiplier", 2, 33, (9, 31), 66, padding=(1, 1), groups=33),
    shapes.Conv2dCase("pointwise_strided", 1, 24, (15, 14), 36, (1, 1), (2, 2), groups=6),
    shapes.Conv2dCase("five_by_five", 1, 40, (12, 13), 40, (5, 5), padding=(2, 2), groups=10),
    shapes.Conv2dCase("wide_bands", 1, 8, (3, 900), 8, padding=(1, 1), groups=2),
    shapes.Conv2dCase("many_bands", 1, 8, (61, 62), 8, (3, 3), (1, 2), (1, 1), groups=2),
]


def algorithm_of(case):
    """ "grouped" where this ISA has it."""
    channels = max(case.in_channels, case.out_channels) // case.groups
    return "grouped" if channels <= LANES else "auto"


def check(case, layout, gradient_layout=None):
    hold_contract(case, layout, algorithm_of(case), gradient_layout)


@pytest.mark.parametrize("layout", list(shapes.LAYOUTS))
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients(case, layout):
    check(case, layout)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("case", CASES[:3], ids=str)
def test_a_gradient_of_the_other_layout(case, layout):
    check(case, layout, "channels_last" if layout == "contiguous" else "contiguous")


@settings(max_examples=300)
@given(st.data())
def test_any_geometry(data):
    def pair(least, most):
        return data.draw(st.tuples(st.integers(least, most), st.integers(least, most)))

    kernel, dilation, padding = pair(1, 4), pair(1, 2), pair(0, 3)
    least = [max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(kernel, dilation, padding, strict=True)]
    size = tuple(m + extra for m, extra in zip(least, pair(0, 18), strict=True))
    group_ic, group_oc = data.draw(st.sampled_from(CHANNELS))
    groups, batch = data.draw(st.sampled_from([2, 3, 4, 9, 17])), data.draw(st.integers(1, 2))
    sizes = (batch, groups * group_ic, size, groups * group_oc)
    case = shapes.Conv2dCase("drawn", *sizes, kernel, pair(1, 3), padding, dilation, groups=groups)
    check(case, data.draw(st.sampled_from(list(shapes.LAYOUTS))))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_same_bits_in_any_batch_and_on_any_number_of_threads(case, layout):
    x, weight, bias = tensors_of(case, layout)
    leaves = [torch.cat([x, x + 1, x]), weight, bias]
    convolve = functools.partial(convkit.conv2d, **case.arguments, algorithm=algorithm_of(case))
    grad_output = torch.ones_like(convolve(*leaves))
    torch.set_num_threads(1)
    first = tolerances.in_own_dtype(convolve, leaves, grad_output)
    assert torch.equal(convolve(x[:1], weight, bias), first[0][:1])
    torch.set_num_threads(3)
    for one, other in zip(first, tolerances.in_own_dtype(convolve, leaves, grad_output), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("channels", [(4, 4), (2, 1), (3, 2)])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_value_that_is_not_finite_reaches_its_windows_and_no_other(stride, channels, layout):
    group_ic, group_oc = channels
    case = shapes.Conv2dCase("", 1, 6 * group_ic, (5, 17), 6 * group_oc, (3, 3), (1, stride), (1, 1), groups=6)
    x, weight, _ = tensors_of(case, layout)
    for column, value in zip(range(0, 17, 3), 3 * [float("nan"), float("inf")], strict=True):
        poisoned = x.clone()
        poisoned[0, 2 * group_ic, 2, column] = value
        ours, theirs = (
            tolerances.in_own_dtype(functools.partial(function, **case.arguments), [poisoned, weight], grad)
            for function in (functools.partial(convkit.conv2d, algorithm=algorithm_of(case)), F.conv2d)
            for grad in [torch.ones(1, 6 * group_oc, 5, (17 + stride - 1) // stride)]
        )
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one.isfinite(), other.isfinite()), column


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_fused_relu_and_pooling(layout):
    case = CASES[0]
    tensors = tensors_of(case, layout)
    fused = convkit.conv2d(*tensors, **case.arguments, activation="relu", max_pool=2)
    assert torch.equal(fused, convkit.max_pool2d(convkit.relu(convkit.conv2d(*tensors, **case.arguments)), 2))


def test_what_is_chosen_and_refused():
    def algorithm(ic, oc, kernel=3, groups=2, chosen="auto"):
        tensors = torch.ones(1, groups * ic, 12, 12), torch.ones(groups * oc, ic, kernel, kernel)
        return convkit.explain(convkit.conv2d, *tensors, groups=groups, algorithm=chosen).ops[0].algorithm

    assert algorithm(4, 4) == algorithm(1, 2) == algorithm(2, 1) == algorithm(LANES, LANES) == "grouped"
    assert algorithm(1, 1) == "depthwise"
    assert algorithm(LANES + 1, 4) == algorithm(4, LANES + 1) == "direct"
    with pytest.raises(RuntimeError, match=rf"'grouped' cannot be used: a group has more than {LANES} channels"):
        algorithm(LANES + 1, 4, chosen="grouped")
    with pytest.raises(RuntimeError, match="'grouped' cannot be used: it needs several groups"):
        algorithm(4, 4, groups=1, chosen="grouped")
    with pytest.raises(RuntimeError, match="'grouped' cannot be used: a window has 576 products, more than 512"):
        algorithm(4, 4, kernel=12, chosen="grouped")


def test_explain_knows_the_memory_format():
    def tile(memory_format, out_channels, in_channels, groups):
        x = torch.ones(1, in_channels, 32, 32).contiguous(memory_format=memory_format)
        plan = convkit.explain(convkit.conv2d, x, torch.ones(out_channels, in_channels // groups, 3, 3), groups=groups)
        return plan.ops[0].tile, plan.ops[0].packed_bytes

    (rows, cols), packed = tile(torch.channels_last, 16, 3, 1)
    assert tile(torch.contiguous_format, 16, 3, 1) == ((cols, rows), 0)  # turned, and reads weights where they lie
    assert packed > 0
    assert tile(torch.channels_last, 32, 32, 32)[0][1] == LANES
    assert tile(torch.contiguous_format, 32, 32, 32) == tile(torch.channels_last, 32, 32, 32)  # after it is turned
    assert tile(torch.contiguous_format, 3, 3, 3)[0] == (4 * LANES, 1)
