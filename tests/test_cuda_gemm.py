"""The matrix products of csrc/cuda (conv2d_gemm.h), run on the CPU by tests/cuda_host, on shapes at the edges of tiles.

Every unit (multiply-adds, TF32, 3xTF32, 16-bit tensor cores) in every direction, against float64.
"""

# ruff: noqa: F811 (the fixture of test_cuda_kernels)
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

# algorithm, dtype, the contract it is held to
UNITS = pytest.mark.parametrize(
    ("algorithm", "dtype", "contract"),
    [
        ("direct", torch.float32, "direct"),
        ("3xtf32", torch.float32, "direct"),
        ("tf32", torch.float32, "tf32"),
        ("direct", torch.bfloat16, "direct"),
        ("direct", torch.float16, "direct"),
    ],
    ids=["ffma", "3xtf32", "tf32", "bfloat16", "float16"],
)
FEW, MANY = 1, 132  # multiprocessors: of few, each gets large tiles and whole sums; of many, small tiles and parts

# Around the tiles' 64 and 128 rows and columns, the steps' 8 to 32 products, the vectors' 4 and 8 channels.
TILE_CASES = (
    Conv2dCase("large_tiles", 5, 8, (12, 12), 130, padding=(1, 1)),
    Conv2dCase("narrow_tiles", 5, 8, (12, 12), 60, padding=(1, 1)),
    Conv2dCase("one_tile_exactly", 2, 8, (8, 8), 128, (1, 1)),
    Conv2dCase("a_tile_and_a_bit", 3, 16, (5, 9), 130, (1, 1)),
    Conv2dCase("just_less_than_a_tile", 1, 8, (7, 9), 63, padding=(1, 1)),
    Conv2dCase("vectors_of_8_and_a_rest_of_filters", 2, 24, (6, 7), 68, padding=(1, 1)),
    Conv2dCase("vectors_of_4_only", 1, 12, (6, 5), 20, (2, 3), (2, 1), (1, 2), (1, 2)),
    Conv2dCase("first_layer", 1, 3, (21, 19), 65, (7, 7), (2, 2), (3, 3)),
    Conv2dCase("strided_phases_without_taps", 1, 8, (11, 10), 8, (2, 2), (3, 4), (1, 0)),
    Conv2dCase("more_phases_than_a_launch_has", 1, 4, (11, 10), 8, (3, 3), (5, 4), (1, 1)),
    Conv2dCase("dilated_and_strided", 2, 8, (12, 13), 12, (3, 3), (2, 3), (3, 2), (3, 2)),
    Conv2dCase("grouped_vectors", 1, 48, (5, 6), 72, padding=(1, 1), groups=3),
    Conv2dCase("chunks_of_every_unit", 1, 120, (4, 5), 16, padding=(1, 1)),
    # Channels by 64: the taps of a row of the window share what is loaded.
    Conv2dCase("rows_of_taps", 2, 64, (5, 9), 70, padding=(1, 1)),
    Conv2dCase("rows_of_dilated_taps", 1, 64, (7, 20), 12, (2, 3), (2, 1), (1, 2), (1, 2)),
    Conv2dCase("rows_of_nine_taps", 1, 64, (2, 40), 12, (1, 9), padding=(0, 4)),
    Conv2dCase("rows_of_taps_in_phases", 2, 12, (4, 21), 64, (3, 4), (2, 2), (1, 1)),
    Conv2dCase("rows_of_taps_in_parts", 1, 128, (3, 9), 8, padding=(1, 1)),
    Conv2dCase("chunks_of_pixels", 1, 8, (49, 43), 8, (1, 1)),
)


@pytest.fixture
def multiprocessors():
    """Sets the number that the device says it has."""
    yield lambda count, capability=90: build.load().simt_set_device(count, capability)
    build.load().simt_set_device(4, 90)


@UNITS
@FORMATS
@pytest.mark.parametrize("case", TILE_CASES, ids=str)
def test_tiles(strict, multiprocessors, case, layout, algorithm, dtype, contract):
    tensors = tensors_of(case, dtype, layout)
    grad_output = grad_output_of(case, tensors, layout)
    exact = tolerances.Contract(functools.partial(F.conv2d, **case.arguments), tensors, grad_output)
    for capability in (80, 90) if algorithm == "tf32" or dtype != torch.float32 else (90,):
        found = []
        for count in (FEW, MANY):
            multiprocessors(count, capability)
            found.append(results_of(strict, case, tensors, grad_output, layout, algorithm)[:3])
            exact.hold_results(found[-1], contract)
        # Neither the tile nor the parts of a sum show in output and grad_input.
        assert same_bits(found[0][0], found[1][0])
        assert same_bits(found[0][1], found[1][1])
        relu = strict.conv2d(*tensors, *arguments_of(case), "relu", algorithm)
        assert same_bits(relu, found[0][0].relu())


@UNITS
@pytest.mark.parametrize(
    "case", [c for c in shapes.EDGE_CASES if c.batch and not c.name.startswith(("depthwise", "out_ch"))], ids=str
)
def test_edge_cases(strict, case, algorithm, dtype, contract):
    layout = ("sliced", "transposed", "channels_last")[len(case.name) % 3]
    tensors = tensors_of(case, dtype, layout, bias=len(case.name) % 2 == 0)
    grad_output = grad_output_of(case, tensors, "contiguous")
    exact = tolerances.Contract(functools.partial(F.conv2d, **case.arguments), tensors, grad_output)
    exact.hold_results(results_of(strict, case, tensors, grad_output, layout, algorithm)[:3], contract)


@UNITS
@FORMATS
@pytest.mark.parametrize("size", [(0, 64, 5, 6), (2, 64, 0, 6)], ids=["no_image", "no_row"])
def test_empty_images(strict, size, layout, algorithm, dtype, contract):
    """Channels and products enough that contiguous images would be copied channels_last."""
    input, bias = shapes.LAYOUTS[layout](torch.empty(size, dtype=dtype)), shapes.random((128,), dtype)
    weight = torch.ones(128, 64, 3, 3, dtype=dtype)
    arguments = [1, 1], [2, 2, 1, 1], [1, 1], 1
    output = strict.conv2d(input, weight, bias, *arguments, "none", algorithm)
    assert output.shape == (size[0], 128, size[2] + 2, 6)
    assert torch.equal(output, bias.view(1, -1, 1, 1).expand_as(output))
    grad_output = shapes.LAYOUTS[layout](torch.ones_like(output))
    grad_weight = strict.conv2d_backward_weight(grad_output, input, [128, 64, 3, 3], False, *arguments, algorithm)
    assert torch.equal(grad_weight, torch.zeros_like(weight))


@pytest.mark.parametrize("algorithm", ["auto", "auto_tf32"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_positions_beyond_32_bits(strict, dtype, algorithm):
    """The last window lies 2**32 rows below the only pixel, and must not meet it."""
    input, weight = torch.ones(1, 8, 1, 1, dtype=dtype), torch.ones(4, 8, 1, 1, dtype=dtype)
    output = strict.conv2d(input, weight, None, [2**16, 1], [0, 2**32, 0, 0], [1, 1], 1, "none", algorithm)
    assert output.shape == (1, 4, 2**16 + 1, 1)
    assert (output[:, :, 0] == 8).all()
    assert (output[:, :, 1:] == 0).all()


@pytest.mark.parametrize("kind", ["same_sign", "offset"])
@pytest.mark.parametrize("algorithm", ["direct", "3xtf32"])
def test_float32_sums_that_do_not_cancel(strict, multiprocessors, algorithm, kind):
    case = Conv2dCase("long", 1, 260, (5, 5), 8, padding=(1, 1))
    tensors = tensors_of(case, kind=kind)
    grad_output = grad_output_of(case, tensors, "contiguous")
    exact = tolerances.Contract(functools.partial(F.conv2d, **case.arguments), tensors, grad_output)
    for count in (FEW, MANY):
        multiprocessors(count)
        results = results_of(strict, case, tensors, grad_output, "contiguous", algorithm)
        for actual, (expected, magnitude) in zip(results, exact.expected, strict=False):
            tolerances.assert_close(actual, expected, magnitude, "direct")


@pytest.mark.parametrize(("algorithm", "size"), [("direct", (260, 261)), ("3xtf32", (368, 369))])
def test_several_chunks_in_each_part_of_a_weights_gradient(strict, algorithm, size):
    """More chunks of 256 or 512 pixels than there are blocks: each block then adds to what it has stored."""
    case = Conv2dCase("parts_of_chunks", 1, 12, size, 4, (1, 1))
    tensors = tensors_of(case, layout="channels_last")
    grad_output = grad_output_of(case, tensors, "channels_last")
    exact = tolerances.Contract(functools.partial(F.conv2d, **case.arguments), tensors, grad_output)
    arguments = (list(case.weight_size), True, *arguments_of(case), algorithm)
    grad_weight = strict.conv2d_backward_weight(grad_output, tensors[0], *arguments)
    tolerances.assert_close(grad_weight, *exact.expected[2], "direct")


@UNITS
def test_an_infinite_weight_meets_its_own_products_only(strict, algorithm, dtype, contract):
    """Not those that fill up a step: 3 channels and 5 taps are no multiple of any."""
    case = Conv2dCase("infinite", 1, 3, (6, 8), 8, (1, 5))
    input, weight, bias = tensors_of(case, dtype)
    input, weight = input.abs() + 1, weight.abs()
    weight[:, 0, 0, 0] = float("inf")
    output = strict.conv2d(input, weight, bias, *arguments_of(case), "none", algorithm)
    assert not output.isfinite().any()
    assert output.isinf().all() or algorithm == "3xtf32"


@UNITS
def test_an_image_has_the_same_bits_in_any_batch(strict, multiprocessors, algorithm, dtype, contract):
    case = Conv2dCase("batch", 5, 40, (6, 6), 70, padding=(1, 1))
    input, weight, bias = tensors_of(case, dtype)
    multiprocessors(8)
    whole = strict.conv2d(input, weight, bias, *arguments_of(case), "none", algorithm)
    for i in (0, 4):
        one = strict.conv2d(input[i : i + 1], weight, bias, *arguments_of(case), "none", algorithm)
        assert same_bits(one, whole[i : i + 1])


@FORMATS
@pytest.mark.parametrize("algorithm", ["direct", "3xtf32", "tf32"])
def test_infinities_and_nans_stay(strict, algorithm, layout):
    """Results are infinite and NaN exactly where float64's are, though float32 in parts has no infinities."""
    case = Conv2dCase("special", 1, 8, (9, 9), 8, padding=(1, 1))
    input, weight, bias = tensors_of(case, layout=layout)
    weight *= 0.1
    payload = torch.tensor([0x7F800001], dtype=torch.int32).view(torch.float32)  # a NaN in the bits that TF32 drops
    input[0, 3, 4, 4], input[0, 1, 0, 0], input[0, 2, 8, 8] = float("inf"), float("nan"), payload[0]
    # Rounded to TF32 it would be infinite, and so is its first part.
    input[0, 5, 4, 8] = 3.0e38 if algorithm == "tf32" else 3.4028e38
    weight[5, 1, 1, 1] = float("-inf")
    output = strict.conv2d(input, weight, bias, *arguments_of(case), "none", algorithm)
    expected = F.conv2d(input.double(), weight.double(), bias.double(), padding=1)
    assert torch.equal(output.isnan(), expected.isnan())
    infinite = expected.isinf()
    assert infinite.any()
    assert torch.equal(output[infinite].double(), expected[infinite])
    assert torch.equal(output.isfinite(), expected.isfinite())


@FORMATS
@pytest.mark.parametrize("capability", [80, 90])
def test_tf32_is_rounded(strict, multiprocessors, capability, layout):
    """Not cut, as tensor cores would: 1 + 2**-11 to 1 + 2**-10, ties away from zero, in both operands."""
    multiprocessors(4, capability)
    rounded, cut = 1 + 2.0**-10, 1 + 2.0**-11
    for x, w in ((cut, 1.0), (1.0, -cut)):
        input = shapes.LAYOUTS[layout](torch.full((1, 64, 4, 9), x))
        weight = torch.full((64, 64, 1, 3), w)
        for result in (
            strict.conv2d(input, weight, None, [1, 1], [0] * 4, [1, 1], 1, "none", "tf32"),
            strict.conv2d_backward_input(input, weight, [1, 64, 4, 11], True, [1, 1], [0] * 4, [1, 1], 1, "tf32")[
                :, :, :, 2:-2
            ],
        ):
            assert (result == 3 * 64 * rounded * (1.0 if w > 0 else -1.0)).all()


POOLED_CASES = (
    Conv2dCase("pooled", 2, 8, (9, 10), 70, padding=(1, 1)),
    Conv2dCase("pooled_strided", 3, 3, (17, 15), 20, (3, 3), (2, 1), (1, 1)),
    Conv2dCase("pooled_in_groups", 1, 32, (6, 6), 32, padding=(1, 1), groups=2),
    Conv2dCase("pooled_in_chunks", 1, 34, (5, 5), 9, padding=(1, 1)),
    Conv2dCase("pooled_one_window", 4, 8, (2, 3), 130, (1, 1)),
)


@UNITS
@FORMATS
@pytest.mark.parametrize("case", POOLED_CASES, ids=str)
def test_the_block_is_its_parts(strict, multiprocessors, case, layout, algorithm, dtype, contract):
    tensors = tensors_of(case, dtype, layout)
    tensors[0][0, 0, 1, 1] = float("nan")
    pool = ([2, 2], [2, 2], [0, 0])
    # Capability 8.0 pools in the kernel of the products what 9.0 does not.
    for activation, count, capability in (("none", FEW, 80), ("relu", MANY, 80), ("relu", FEW, 90)):
        multiprocessors(count, capability)
        value, taps = strict.conv2d_max_pool2d(*tensors, *arguments_of(case), activation, *pool, True, algorithm)
        image = strict.conv2d(*tensors, *arguments_of(case), activation, algorithm)
        composed, composed_taps = strict.max_pool2d_with_taps(image, *pool, [1, 1], False)
        if activation == "relu":
            composed_taps = composed_taps.masked_fill(composed <= 0, 255)
        assert same_bits(value, composed)
        assert value.stride() == composed.stride()
        assert torch.equal(taps, composed_taps)
        alone, _ = strict.conv2d_max_pool2d(*tensors, *arguments_of(case), activation, *pool, False, algorithm)
        assert same_bits(alone, value)


def test_windows_of_minus_infinity_have_the_tap_of_max_pool2d(strict):
    case = Conv2dCase("minus_infinity", 2, 8, (4, 6), 8, (1, 1))
    for layout in ("contiguous", "channels_last"):
        input, weight, bias = tensors_of(case, layout=layout)
        weight = shapes.LAYOUTS[layout](weight.abs() + 1)
        input = shapes.LAYOUTS[layout](torch.full_like(input, float("-inf")))
        pool = ([2, 2], [2, 2], [0, 0])
        for algorithm in ("direct", "tf32"):
            value, taps = strict.conv2d_max_pool2d(
                input, weight, bias, *arguments_of(case), "none", *pool, True, algorithm
            )
            image = strict.conv2d(input, weight, bias, *arguments_of(case), "none", algorithm)
            composed, composed_taps = strict.max_pool2d_with_taps(image, *pool, [1, 1], False)
            assert same_bits(value, composed)
            assert torch.equal(taps, composed_taps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_linear(strict, multiprocessors, dtype):
    for rows, inputs, outputs in ((8, 520, 33), (70, 64, 130), (129, 7, 65)):
        sizes = [(rows, inputs), (outputs, inputs), (outputs,)]
        tensors = [shapes.random(size, dtype, seed=i) for i, size in enumerate(sizes)]
        tensors[0] = tensors[0].t().contiguous().t() if rows == 70 else tensors[0]
        contract = tolerances.Contract(F.linear, tensors)
        for count in (FEW, MANY):
            multiprocessors(count)
            contract.hold_results([strict.linear(*tensors, "none")], "direct")


def test_what_a_unit_cannot_is_refused(strict, multiprocessors):
    case = Conv2dCase("refused", 1, 8, (5, 5), 8)
    tensors, arguments = tensors_of(case), (*arguments_of(case), "none")
    old = "it needs kernels for compute capability 8.0, and those for this device are for 7.5"
    for capability, algorithm, dtype, reason in (
        (75, "tf32", torch.float32, old),
        (75, "3xtf32", torch.float32, old),
        (75, "direct", torch.bfloat16, old),
        (90, "tf32", torch.float16, "it computes in float32, not Half"),
        (90, "direct", torch.float64, "it computes in float32 and 16-bit types, not Double"),
    ):
        multiprocessors(4, capability)
        cast = [t.to(dtype) for t in tensors]
        with pytest.raises(RuntimeError, match=f"algorithm='{algorithm}' cannot be used: {reason}"):
            strict.conv2d(*cast, *arguments, algorithm)
        assert strict.conv2d(*cast, *arguments, "auto").shape == (1, 8, 3, 3)


def test_auto_rounds_to_tf32_only_where_it_may(strict):
    case = Conv2dCase("precision", 1, 16, (6, 6), 16)
    tensors, arguments = tensors_of(case), (*arguments_of(case), "none")
    by = {algorithm: strict.conv2d(*tensors, *arguments, algorithm) for algorithm in ("auto", "3xtf32", "tf32")}
    assert same_bits(by["auto"], by["3xtf32"])
    assert same_bits(strict.conv2d(*tensors, *arguments, "auto_tf32"), by["tf32"])
    assert not same_bits(by["tf32"], by["3xtf32"])
