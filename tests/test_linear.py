"""linear against torch in float64: values and gradients, few rows and many, any strides."""

import functools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import convkit
from convkit.testing import shapes, tolerances
from tests._devices import DEVICES, on

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
# rows, in_features, out_features: a few rows have a kernel of their own; blocks of 8, 16 and 32 outputs.
SIZES = [
    *[(rows, 37, 21) for rows in (0, 1, 2, 3, 4, 5, 8, 13, 64)],
    *[(rows, 19, block + extra) for rows in (1, 5) for block in (8, 16, 32) for extra in (-1, 0, 1)],
    *[(rows, lanes, 9) for rows in (1, 6) for lanes in (1, 7, 8, 9, 15, 16, 17, 31, 33)],
    (1, 700, 130),
    (9, 700, 130),
    (6, 3300, 40),
    (130, 40, 70),
]

LAYOUTS = {
    "contiguous": torch.Tensor.contiguous,
    "transposed": lambda t: t.t().contiguous().t(),
    "sliced": lambda t: t.new_full((2 * t.size(0), 2 * t.size(1) + 1), float("nan"))[::2, 1::2].copy_(t),
    "rows_apart": lambda t: t.new_full((t.size(0), t.size(1) + 3), float("nan"))[:, : t.size(1)].copy_(t),
    "expanded": lambda t: t[:1].expand(t.shape),
}


def tensors_of(rows, features, outputs, dtype=torch.float32, layouts=("contiguous", "contiguous"), kind="normal"):
    input = LAYOUTS[layouts[0]](shapes.random((rows, features), dtype, kind, seed=1))
    weight = LAYOUTS[layouts[1]](shapes.random((outputs, features), dtype, seed=2))
    return [input, weight, shapes.random((2 * outputs,), dtype, seed=3)[::2]]


def check(tensors, layout="contiguous", device="cpu"):
    """A call under the contract, with gradients and without."""
    size = (*tensors[0].shape[:-1], *tensors[1].shape[:-1])
    grad_output = shapes.random(size, tensors[0].dtype, seed=4)
    if grad_output.dim() == 2:
        grad_output = LAYOUTS[layout](grad_output)
    contract = tolerances.Contract(F.linear, tensors, grad_output)
    held_to = "direct" if device == "cpu" else "generic"
    contract.hold(on(device, convkit.linear), held_to)
    contract.hold_results([on(device, convkit.linear)(*tensors)], held_to)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@DEVICES
def test_values_and_gradients(sizes, dtype, device):
    for layout in LAYOUTS:
        both = "contiguous" if layout == "expanded" else layout  # else all outputs were one number, and no sample
        for layouts in ((layout, "contiguous"), ("contiguous", layout), (both, both)):
            tensors = tensors_of(*sizes, dtype, layouts)
            check(tensors if layout == "contiguous" else [*tensors[:2], None], layout, device)


@pytest.mark.parametrize("kind", ["same_sign", "offset"])
@pytest.mark.parametrize("rows", [1, 3, 4, 5, 33])
def test_data_that_does_not_cancel(kind, rows):
    for dtype in DTYPES:
        check(tensors_of(rows, 1500, 19, dtype, kind=kind))


@pytest.mark.parametrize("size", [(37,), (1, 37), (2, 3, 37), (2, 1, 3, 37), (0, 37), (2, 0, 37)], ids=str)
def test_any_number_of_dimensions(size):
    weight, bias = shapes.random((11, 37), seed=2), shapes.random((11,), seed=3)
    input = shapes.random(size, seed=1)
    check([input, weight, bias])
    assert convkit.linear(input, weight, bias).shape == (*size[:-1], 11)


def test_strided_input_of_three_dimensions():
    weight = shapes.random((11, 6), seed=2)
    whole = shapes.random((4, 6, 10), seed=1)
    check([whole.transpose(1, 2), weight, None])
    check([whole[:, :, ::2].transpose(1, 2), weight, None])
    check([whole[:1].expand(4, 6, 10).transpose(1, 2), weight, None])


def test_weight_of_one_dimension():
    """One output feature without a dimension of its own, as in torch."""
    check([shapes.random((5, 7), seed=1), shapes.random((7,), seed=2), None])


def test_activation_is_relu_of_the_output():
    for rows in (1, 4, 5, 40):
        tensors = tensors_of(rows, 33, 50)
        grad_output = torch.ones(50).expand(rows, 50)
        fused = tolerances.in_own_dtype(functools.partial(convkit.linear, activation="relu"), tensors, grad_output)
        composed = tolerances.in_own_dtype(lambda *args: convkit.relu(convkit.linear(*args)), tensors, grad_output)
        for one, other in zip(fused, composed, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("rows", [1, 4, 5, 130])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_same_bits_on_any_number_of_threads_and_twice(rows, dtype):
    tensors = tensors_of(rows, 600, 300, dtype)
    grad_output = shapes.random((rows, 300), dtype, seed=4)
    torch.set_num_threads(1)
    first = tolerances.in_own_dtype(convkit.linear, tensors, grad_output)
    for threads in (1, 2, 3, 8):
        torch.set_num_threads(threads)
        for before, now in zip(first, tolerances.in_own_dtype(convkit.linear, tensors, grad_output), strict=True):
            assert torch.equal(before, now), f"{threads} threads"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_same_bits_in_any_batch_of_many_rows(dtype):
    input, weight, bias = tensors_of(64, 400, 70, dtype)
    whole = convkit.linear(input, weight, bias)
    for rows in (5, 6, 8, 33):
        assert torch.equal(convkit.linear(input[:rows], weight, bias), whole[:rows])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_no_features_is_the_bias(dtype):
    bias = torch.arange(4.0, dtype=dtype)
    for rows in (1, 9):
        output = convkit.linear(torch.ones(rows, 0, dtype=dtype), torch.ones(4, 0, dtype=dtype), bias)
        assert torch.equal(output, bias.expand(rows, 4))
    assert torch.equal(convkit.linear(torch.ones(2, 0), torch.ones(4, 0)), torch.zeros(2, 4))


@pytest.mark.parametrize("rows", [1, 4, 5, 20])
def test_a_value_that_is_not_finite_reaches_its_row_and_no_other(rows):
    for value in (float("nan"), float("inf")):
        for feature in range(18):
            input, weight = torch.ones(rows, 18), torch.ones(21, 18)
            weight[:, feature] = 0  # 0 * inf is not a number
            input[rows - 1, feature] = value
            output = convkit.linear(input, weight)
            assert output[rows - 1].isnan().all()
            assert not output[: rows - 1].isnan().any()


@settings(max_examples=200)
@given(
    rows=st.integers(0, 40),
    features=st.integers(1, 90),
    outputs=st.integers(1, 70),
    layouts=st.tuples(st.sampled_from(list(LAYOUTS)), st.sampled_from(list(LAYOUTS))),
    arrives=st.sampled_from(list(LAYOUTS)),
)
def test_any_sizes(rows, features, outputs, layouts, arrives):
    check(tensors_of(rows, features, outputs, layouts=layouts), arrives)
