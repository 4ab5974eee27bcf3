"""conv2d against torch in float64: values, gradients and strides over the catalogue of shapes."""

import functools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import convkit
from convkit import _C
from convkit.testing import shapes, tolerances
from tests._devices import DEVICES, on

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
CASES = pytest.mark.parametrize("case", shapes.CASES, ids=str)
SMALL = [
    case for case in shapes.CASES if case.name in ("primes", "groups_2", "unequal_pairs", "depthwise", "one_by_one")
]
LARGE = shapes.Conv2dCase("large", 8, 19, (29, 31), 70, (3, 3), (1, 2), (1, 1))


def algorithms(dtype, case):
    """Those that take a case of the catalogue in this dtype, but for those with tests of their own."""
    if dtype == torch.float64:
        return ["auto", "generic"]
    splits_taps = case.stride == (1, 1) and case.groups == 1
    group = max(case.in_channels, case.out_channels) // case.groups
    grouped = case.groups > 1 and group * case.kernel[0] * case.kernel[1] <= 512 and 0 < group <= 4
    return ["auto", "direct", "generic", *(["kn2row"] if splits_taps else []), *(["grouped"] if grouped else [])]


def tensors_of(case, dtype=torch.float32, layout="contiguous", bias=True, kind="normal", weight_layout=None):
    """Input, weight and bias (or None) of a case; the bias has the strides of a slice if the input is one."""
    arrange = shapes.LAYOUTS
    input = arrange[layout](shapes.random(case.input_size, dtype, kind, seed=1))
    weight = arrange[weight_layout or layout](shapes.random(case.weight_size, dtype, seed=2))
    numbers = shapes.random((2 * case.out_channels,), dtype, seed=3)
    step = 2 if layout == "sliced" else 1
    return [input, weight, numbers[: step * case.out_channels : step] if bias else None]


def grad_output_of(case, tensors, layout):
    size = F.conv2d(*(t if t is None else t.to("meta") for t in tensors), **case.arguments).shape
    return shapes.LAYOUTS[layout](shapes.random(size, tensors[0].dtype, seed=4))


def call(case, algorithm="auto"):
    return functools.partial(convkit.conv2d, **case.arguments, algorithm=algorithm)


def check(case, tensors, grad_output=None, only=None, device="cpu"):
    """Every algorithm under the contract, with gradients and without; `auto` is held to that of what it takes."""
    contract = tolerances.Contract(functools.partial(F.conv2d, **case.arguments), tensors, grad_output)
    if device != "cpu":
        for algorithm in ("auto", "generic"):
            contract.hold(on(device, call(case, algorithm)), "generic")
        return
    for algorithm in only or algorithms(tensors[0].dtype, case):
        plan = convkit.explain(call(case, algorithm), *tensors).ops[0]
        held_to = "winograd" if plan.algorithm == "winograd" else "direct"
        contract.hold(call(case, algorithm), held_to)
        contract.hold_results([call(case, algorithm)(*tensors)], held_to)


@CASES
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@DEVICES
def test_values_and_gradients(case, dtype, device):
    layouts = ["contiguous", "channels_last", "sliced"] if dtype in tolerances.HALF_TYPES else list(shapes.LAYOUTS)
    for i, layout in enumerate(layouts):
        tensors = tensors_of(case, dtype, layout, bias=i % 2 == 0)
        check(case, tensors, grad_output_of(case, tensors, layout), device=device)


@CASES
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_without_bias_and_with_a_gradient_of_another_layout(case, layout):
    """A gradient often arrives expanded from a sum, or in the format that is not the input's."""
    tensors = tensors_of(case, layout=layout, bias=layout == "channels_last")
    for arrives in ("contiguous", "channels_last", "expanded"):
        check(case, tensors, grad_output_of(case, tensors, arrives), only=["auto"])


@CASES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@DEVICES
def test_output_has_torchs_strides(case, dtype, device):
    torch.set_num_threads(1)
    for layout in shapes.LAYOUTS:
        for weight_layout in ("contiguous", "channels_last", "transposed"):
            tensors = tensors_of(case, dtype, layout, weight_layout=weight_layout)
            expected = F.conv2d(*tensors, **case.arguments)
            tensors = [t.to(device) for t in tensors]
            for algorithm in algorithms(dtype, case) if device == "cpu" else ["auto", "generic"]:
                actual = convkit.conv2d(*tensors, **case.arguments, algorithm=algorithm)
                assert actual.stride() == expected.stride(), f"{layout} input, {weight_layout} weight, {algorithm}"


@CASES
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_gradients_have_the_strides_of_their_tensors(case, layout):
    tensors = tensors_of(case, layout=layout)
    for algorithm in algorithms(torch.float32, case):
        grad_output = grad_output_of(case, tensors, layout)
        results = tolerances.in_own_dtype(call(case, algorithm), tensors, grad_output)
        _, grad_input, grad_weight, grad_bias = results
        memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        assert grad_input.numel() == 0 or grad_input.is_contiguous(memory_format=memory_format)
        assert grad_weight.is_contiguous(memory_format=memory_format)
        assert grad_bias.is_contiguous()


@pytest.mark.parametrize("kind", ["same_sign", "offset"])
@pytest.mark.parametrize("case", [*SMALL, *shapes.VGG_CASES], ids=str)
def test_data_that_does_not_cancel(case, kind):
    for dtype in DTYPES:
        tensors = tensors_of(case, dtype, kind=kind)
        check(case, tensors, grad_output_of(case, tensors, "contiguous"))


def test_long_sum_of_one_sign():
    case = shapes.Conv2dCase("long_sum", 1, 512, (6, 6), 8, padding=(1, 1))
    tensors = [shapes.random(s, kind="same_sign", seed=5) for s in (case.input_size, case.weight_size)]
    check(case, [*tensors, None], shapes.random((1, 8, 6, 6), kind="same_sign", seed=6))


def test_the_same_channel_over_and_over():
    """Equal products round alike, so that errors add up: no worse than twice torch's."""
    input = shapes.random((2, 1, 7, 7), seed=7).expand(2, 64, 7, 7)
    weight = shapes.random((64, 1, 3, 3), seed=8).expand(64, 64, 3, 3)
    contract = tolerances.Contract(functools.partial(F.conv2d, padding=1), [input, weight])
    for algorithm in ("auto", "direct", "kn2row", "generic"):
        output = convkit.conv2d(input, weight, padding=1, algorithm=algorithm)
        tolerances.assert_not_worse_than_torch(output, contract.torchs[0], contract.expected[0][0])


@pytest.mark.parametrize(
    ("width", "kernel", "padding", "dilation"), [(10, 5, 4, 1), (40, 3, 1, 1), (9, 3, 9, 9), (40, 3, 20, 20)], ids=str
)
def test_kn2row_keeps_rows_apart(width, kernel, padding, dilation):
    """Of a few rows that are multiplied together, a NaN reaches the windows that hold it and no others."""
    x, weight = shapes.random((1, 32, 24, width), seed=9), shapes.random((2, 32, kernel, kernel), seed=10)
    x[0, 5, 11, -1] = x[0, 7, 12, 0] = float("nan")
    arguments = {"padding": padding, "dilation": dilation}
    output = convkit.conv2d(x, weight, **arguments, algorithm="kn2row")
    torch.testing.assert_close(output, F.conv2d(x, weight, **arguments), equal_nan=True, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "channels", "kernel", "stride", "tasks"),
    [(41, 64, 5, 3, 2), (60, 16, 3, 1, 6), (74, 64, 1, 1, 8)],
    ids=str,
)
def test_few_tasks_are_an_even_number(size, channels, kernel, stride, tasks):
    """So that two threads share them equally."""
    pixels = (size + 2 * (kernel // 2) - kernel) // stride + 1
    window = [kernel, kernel, stride, stride, kernel // 2, kernel // 2, 1, 1, 1]
    shape = [1, channels, size, size, channels, pixels, pixels, *window]
    assert _C.conv2d_plan("forward", shape, "float32", "direct", True)["tasks"] == tasks


@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (3, 3), (4, 3), (5, 2)], ids=str)
@pytest.mark.parametrize("dilation", [1, 2, (2, 3)], ids=str)
def test_padding_by_name(kernel, dilation):
    """'same' pads an even kernel by one more at the bottom and right."""
    case = shapes.Conv2dCase("named", 2, 4, (12, 13), 6, kernel, groups=2)
    tensors = tensors_of(case, torch.float64)
    for padding in ("same", "valid"):
        arguments = {"padding": padding, "dilation": dilation, "groups": 2}
        theirs = functools.partial(F.conv2d, **arguments)
        contract = tolerances.Contract(theirs, tensors, torch.ones_like(theirs(*tensors)))
        contract.hold(functools.partial(convkit.conv2d, **arguments))


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_unbatched(case):
    input, weight, bias = tensors_of(case)
    actual = convkit.conv2d(input[0], weight, bias, **case.arguments)
    expected = convkit.conv2d(input[:1], weight, bias, **case.arguments)
    assert actual.dim() == 3
    assert torch.equal(actual, expected[0])
    check(case, [input[0], weight, bias], torch.ones_like(actual))


def test_numbers_and_one_tuples_are_pairs():
    case = shapes.Conv2dCase("ints", 2, 4, (9, 9), 6, stride=(2, 2), padding=(1, 1), dilation=(2, 2))
    tensors = tensors_of(case)
    expected = convkit.conv2d(*tensors, **case.arguments)
    assert torch.equal(convkit.conv2d(*tensors, 2, 1, 2), expected)
    assert torch.equal(convkit.conv2d(*tensors, [2], (1,), [2]), expected)


def results_on(threads, case, tensors, grad_output, algorithm):
    torch.set_num_threads(threads)
    return tolerances.in_own_dtype(call(case, algorithm), tensors, grad_output)


@pytest.mark.parametrize("algorithm", ["auto", "direct", "generic"])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("batch", [1, 2, 3, 8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_same_bits_on_any_number_of_threads_and_in_any_batch(algorithm, layout, batch, dtype):
    tensors = tensors_of(LARGE, dtype, layout)
    grad_output = grad_output_of(LARGE, tensors, layout)
    of_all = results_on(1, LARGE, tensors, grad_output, algorithm)
    tensors[0], grad_output = tensors[0][:batch], grad_output[:batch]
    first = results_on(1, LARGE, tensors, grad_output, algorithm)
    for whole, part in zip(of_all[:2], first[:2], strict=True):  # output and grad_input, an image at a time
        assert torch.equal(whole[:batch], part), f"an image gives other bits in a batch of {batch} than of 8"
    for threads in (1, 2, 3, 8):
        for before, now in zip(first, results_on(threads, LARGE, tensors, grad_output, algorithm), strict=True):
            assert torch.equal(before, now), f"{threads} threads"


@settings(max_examples=400)
@given(st.data())
def test_any_geometry(data):
    def pair(least, most):
        return data.draw(st.tuples(st.integers(least, most), st.integers(least, most)))

    kernel, dilation, padding = pair(1, 4), pair(1, 3), pair(0, 4)
    least = [max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(kernel, dilation, padding, strict=True)]
    size = tuple(m + extra for m, extra in zip(least, pair(0, 9), strict=True))
    groups = data.draw(st.integers(1, 3))
    batch, per_group = data.draw(st.integers(0, 3)), pair(1, 11)
    channels = [groups * c for c in per_group]
    case = shapes.Conv2dCase(
        "drawn", batch, channels[0], size, channels[1], kernel, pair(1, 4), padding, dilation, groups
    )
    layout = data.draw(st.sampled_from(list(shapes.LAYOUTS)))
    dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16]))
    tensors = tensors_of(case, dtype, layout, bias=data.draw(st.booleans()))
    check(case, tensors, grad_output_of(case, tensors, layout))
