"""The kernels for few channels in a group (csrc/cuda/conv2d_grouped*), run on the CPU by tests/cuda_host."""

# ruff: noqa: F811 (the fixture of test_cuda_kernels)
import contextlib
import dataclasses
import functools

import pytest
import torch
import torch.nn.functional as F

from convkit.testing import shapes, tolerances
from convkit.testing.shapes import Conv2dCase
from tests.cuda_host import build
from tests.test_conv2d import grad_output_of, tensors_of
from tests.test_cuda_kernels import FORMATS, arguments_of, results_of, same_bits, strict  # noqa: F401

pytestmark = pytest.mark.skipif(build.missing() is not None, reason=f"CUDA kernels on the CPU: {build.missing()}")
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)

# Groups that fill quads of four filters and channels, and that do not; depths around the chunk of 256 products.
GROUPED = (
    Conv2dCase("resnext_4_channels", 2, 32, (9, 10), 32, padding=(1, 1), groups=8),
    Conv2dCase("resnext_8_strided", 1, 48, (11, 9), 48, stride=(2, 2), padding=(1, 1), groups=6),
    Conv2dCase("resnext_32_channels", 1, 64, (5, 4), 64, padding=(1, 1), groups=2),
    Conv2dCase("shufflenet", 3, 60, (5, 7), 24, (1, 1), groups=3),
    Conv2dCase("quads_and_a_rest", 1, 15, (7, 6), 21, (2, 3), padding=(1, 2), groups=3),
    Conv2dCase("multiplier", 2, 6, (6, 9), 18, padding=(1, 1), groups=6),
    Conv2dCase("one_filter_a_group", 1, 20, (8, 5), 4, (3, 4), (2, 1), (0, 3), groups=4),
    Conv2dCase("strided_phases_without_taps", 1, 8, (11, 10), 8, (2, 2), (3, 4), (1, 0), groups=2),
    Conv2dCase("more_phases_than_a_launch_has", 1, 8, (11, 10), 16, (3, 3), (5, 4), (1, 1), groups=2),
    Conv2dCase("dilated_and_strided", 2, 16, (12, 13), 16, (3, 3), (2, 3), (3, 2), (3, 2), groups=4),
    Conv2dCase("window_of_4_columns", 1, 8, (6, 9), 8, (1, 4), padding=(0, 2), groups=2),
    Conv2dCase("chunk_exactly", 1, 64, (4, 4), 8, (2, 4), padding=(1, 1), groups=2),
    Conv2dCase("chunks_of_scalars", 1, 58, (4, 4), 6, (3, 3), padding=(1, 1), groups=2),
    Conv2dCase("no_images", 0, 8, (5, 6), 8, groups=2),
    Conv2dCase("one_group", 1, 7, (6, 6), 5, padding=(1, 1)),
)
# As many groups as channels, with windows that conv2d_depthwise.cu does not take.
DEPTHWISE = (
    Conv2dCase("depthwise_dilated", 2, 20, (9, 10), 20, padding=(2, 2), dilation=(2, 2), groups=20),
    Conv2dCase("depthwise_dilated_strided", 1, 9, (13, 12), 9, (3, 3), (2, 2), (3, 3), (3, 3), groups=9),
    Conv2dCase("depthwise_9x9", 1, 6, (10, 12), 6, (9, 9), padding=(4, 4), groups=6),
    Conv2dCase("depthwise_1x5_strided", 2, 40, (5, 11), 40, (1, 5), (1, 3), (0, 2), groups=40),
    Conv2dCase("depthwise_17x17", 1, 3, (18, 17), 3, (17, 17), padding=(8, 8), groups=3),
)


def hold(ops, case, dtype, layout, algorithm):
    tensors = tensors_of(case, dtype, layout)
    grad_output = grad_output_of(case, tensors, layout)
    contract = tolerances.Contract(functools.partial(F.conv2d, **case.arguments), tensors, grad_output)
    results = results_of(ops, case, tensors, grad_output, layout, algorithm)
    contract.hold_results(results, "direct")
    relu = ops.conv2d(*tensors, *arguments_of(case), "relu", algorithm)
    assert same_bits(relu, results[0].relu())


@DTYPES
@FORMATS
@pytest.mark.parametrize("case", GROUPED, ids=str)
def test_grouped(strict, case, layout, dtype):
    hold(strict, case, dtype, layout, "grouped")


@DTYPES
@FORMATS
@pytest.mark.parametrize("case", DEPTHWISE, ids=str)
def test_depthwise_of_other_windows(strict, case, layout, dtype):
    hold(strict, case, dtype, layout, "depthwise")


@pytest.mark.parametrize("case", [c for c in shapes.EDGE_CASES if c.batch], ids=str)
def test_edge_cases(strict, case):
    for dtype, layout in ((torch.float32, "sliced"), (torch.bfloat16, "transposed"), (torch.float16, "channels_last")):
        tensors = tensors_of(case, dtype, layout, bias=len(case.name) % 2 == 0)
        grad_output = grad_output_of(case, tensors, "contiguous")
        exact = tolerances.Contract(functools.partial(F.conv2d, **case.arguments), tensors, grad_output)
        exact.hold_results(results_of(strict, case, tensors, grad_output, layout, "grouped")[:3], "direct")


@FORMATS
def test_several_tiles_and_parts(strict, layout):
    """More pixels than a block takes at once; more than one part, and in contiguous memory more than one chain."""
    for case in (
        Conv2dCase("tiles", 1, 8, (79, 83), 8, padding=(1, 1), groups=2),
        Conv2dCase("tiles_of_deep_groups", 1, 64, (33, 35), 8, padding=(1, 1), groups=2),
        Conv2dCase("parts", 1, 8, (181, 190), 4, (1, 2), groups=2),
        Conv2dCase("depthwise_parts", 1, 3, (150, 151), 3, dilation=(2, 1), groups=3),
    ):
        hold(strict, case, torch.float32, layout, "depthwise" if case.groups == case.in_channels else "grouped")


def test_several_chains_in_each_part(strict):
    """More pixels than 128 parts of 64 a thread: parts then add what they have stored."""
    case = Conv2dCase("chains", 1, 20, (513, 520), 20, (1, 1), groups=5)
    tensors = tensors_of(case, layout="channels_last")
    grad_output = grad_output_of(case, tensors, "channels_last")
    exact = tolerances.Contract(functools.partial(F.conv2d, **case.arguments), tensors, grad_output)
    grad_weight = strict.conv2d_backward_weight(
        grad_output, tensors[0], list(case.weight_size), True, *arguments_of(case), "grouped"
    )
    tolerances.assert_close(grad_weight, *exact.expected[2], "direct")


@FORMATS
@pytest.mark.parametrize("kind", ["same_sign", "offset"])
def test_sums_that_do_not_cancel(strict, layout, kind):
    case = Conv2dCase("long", 1, 128, (24, 25), 8, padding=(1, 1), groups=2)
    tensors = tensors_of(case, layout=layout, kind=kind)
    grad_output = grad_output_of(case, tensors, layout)
    exact = tolerances.Contract(functools.partial(F.conv2d, **case.arguments), tensors, grad_output)
    results = results_of(strict, case, tensors, grad_output, layout, "grouped")
    for actual, (expected, magnitude) in zip(results, exact.expected, strict=False):
        tolerances.assert_close(actual, expected, magnitude, "direct")


@FORMATS
@pytest.mark.parametrize(("case", "algorithm"), [(GROUPED[0], "grouped"), (DEPTHWISE[0], "depthwise")])
def test_an_image_has_the_same_bits_in_any_batch(strict, case, algorithm, layout):
    input, weight, bias = tensors_of(dataclasses.replace(case, batch=5), layout=layout)
    whole = strict.conv2d(input, weight, bias, *arguments_of(case), "none", algorithm)
    for i in (0, 3):
        one = strict.conv2d(input[i : i + 1], weight, bias, *arguments_of(case), "none", algorithm)
        assert same_bits(one, whole[i : i + 1])


@FORMATS
def test_the_order_of_threads_changes_no_bit(strict, layout):
    for case, algorithm in ((GROUPED[1], "grouped"), (DEPTHWISE[1], "depthwise")):
        tensors = tensors_of(case, layout=layout)
        grad_output = grad_output_of(case, tensors, layout)
        expected = results_of(strict, case, tensors, grad_output, layout, algorithm)
        for order in ("forward", "reverse"):
            build.set_order(order)
            found = results_of(strict, case, tensors, grad_output, layout, algorithm)
            assert all(map(same_bits, found, expected))


@FORMATS
def test_mixed_memory_formats(strict, layout):
    """The input of one format, weight, gradient and output of the other."""
    other = "contiguous" if layout == "channels_last" else "channels_last"
    for case, algorithm in ((GROUPED[0], "grouped"), (GROUPED[4], "grouped"), (DEPTHWISE[0], "depthwise")):
        input, weight, bias = tensors_of(case, layout=layout)
        weight = shapes.LAYOUTS[other](weight)
        grad_output = shapes.LAYOUTS[other](grad_output_of(case, (input, weight, bias), layout))
        exact = tolerances.Contract(functools.partial(F.conv2d, **case.arguments), (input, weight, bias), grad_output)
        exact.hold_results(results_of(strict, case, (input, weight, bias), grad_output, other, algorithm), "direct")


def test_infinities_and_nans_stay(strict):
    case = Conv2dCase("special", 1, 8, (9, 9), 8, padding=(1, 1), groups=2)
    for layout in ("contiguous", "channels_last"):
        input, weight, bias = tensors_of(case, layout=layout)
        input[0, 3, 4, 4], input[0, 1, 0, 0], input[0, 6, 8, 8] = float("inf"), float("nan"), float("-inf")
        output = strict.conv2d(input, weight, bias, *arguments_of(case), "none", "grouped")
        expected = F.conv2d(input.double(), weight.double(), bias.double(), padding=1, groups=2)
        assert torch.equal(output.isfinite(), expected.isfinite())
        assert torch.equal(output.isnan(), expected.isnan())


@pytest.fixture
def old_gpu(strict):
    """Of kernels for sm_75, which have tensor cores for float16 alone."""
    build.load().simt_set_device(4, 75)
    yield
    build.load().simt_set_device(4, 90)


@FORMATS
@pytest.mark.parametrize("groups", [1, 2, 16])
def test_bfloat16_without_tensor_cores(strict, old_gpu, groups, layout):
    hold(strict, Conv2dCase("old", 2, 16, (7, 8), 16, padding=(1, 1), groups=groups), torch.bfloat16, layout, "auto")


def taken(ops, case, dtype, algorithm):
    """Which algorithms give the bits of `algorithm`, all that are not refused."""
    tensors, arguments = tensors_of(case, dtype), (*arguments_of(case), "none")
    expected = ops.conv2d(*tensors, *arguments, algorithm)
    found = set()
    for name in ("direct", "3xtf32", "tf32", "grouped", "generic"):
        with contextlib.suppress(RuntimeError):  # refused
            if same_bits(ops.conv2d(*tensors, *arguments, name), expected):
                found.add(name)
    return found


@pytest.mark.parametrize(
    ("channels", "dtype", "algorithm", "expected"),
    [
        (31, torch.float32, "auto", "grouped"),
        (32, torch.float32, "auto", "3xtf32"),
        (7, torch.float32, "auto_tf32", "grouped"),
        (8, torch.float32, "auto_tf32", "tf32"),
        (4, torch.float64, "auto", "generic"),
    ],
)
def test_auto_takes_it_for_few_channels(strict, channels, dtype, algorithm, expected):
    """Fewer than a tile pays for."""
    case = Conv2dCase("auto", 1, 2 * channels, (9, 9), 2 * channels, (5, 5), padding=(2, 2), groups=2)
    assert taken(strict, case, dtype, algorithm) == {expected}
