"""algorithm="winograd": values, gradients, fusion and accuracy beside float64 and the direct algorithm."""

import pytest
import torch
import torch.nn.functional as F

import convkit

FORMATS = (torch.contiguous_format, torch.channels_last)
LARGEST_RATIO = 3  # of the relative L2 error of Winograd to that of direct sums
LARGEST_ERROR = 50  # eps of the largest sum of absolute products

# n, in channels, (h, w), out channels, padding
CASES = [
    (2, 64, (56, 56), 64, 1),
    (1, 128, (28, 28), 128, 1),
    (3, 20, (13, 13), 37, 0),  # channels and tiles that fill no vector
    (1, 17, (9, 31), 33, 2),
    (1, 300, (5, 6), 40, (0, 1)),
    (2, 512, (7, 7), 64, 1),
    (1, 3, (40, 80), 8, 1),
    (1, 16, (1, 3), 16, 1),
]
IDS = ["x".join(map(str, (case[0], case[1], *case[2], case[3]))) for case in CASES]


def make(case, memory_format):
    n, ic, size, oc, padding = case
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, ic, *size, generator=generator)
    weight = torch.randn(oc, ic, 3, 3, generator=generator) * (9 * ic) ** -0.5
    bias = torch.randn(oc, generator=generator)
    return x.to(memory_format=memory_format), weight.to(memory_format=memory_format), bias, padding


def run(x, weight, bias, padding, algorithm, **fused):
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    y = convkit.conv2d(x, weight, bias, padding=padding, algorithm=algorithm, **fused)
    y.backward(torch.ones_like(y) if fused else y.detach())
    return y.detach(), x.grad, weight.grad


def relative_error(result, expected):
    return ((result.double() - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("memory_format", FORMATS, ids=["nchw", "channels_last"])
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_values_and_the_gradient_of_the_input(case, memory_format):
    x, weight, bias, padding = make(case, memory_format)
    y, grad, _ = run(x, weight, bias, padding, "winograd")
    expected = F.conv2d(x.double(), weight.double(), bias.double(), padding=padding)
    largest = F.conv2d(x.double().abs(), weight.double().abs(), bias.double().abs(), padding=padding).max()
    eps = torch.finfo(torch.float32).eps
    assert (y - expected).abs().max() <= LARGEST_ERROR * eps * largest
    assert y.stride() == F.conv2d(x, weight, bias, padding=padding).stride()
    gradient = torch.nn.grad.conv2d_input(x.shape, weight.double(), y.double(), padding=padding)
    largest = torch.nn.grad.conv2d_input(x.shape, weight.double().abs(), y.double().abs(), padding=padding).max()
    assert (grad - gradient).abs().max() <= LARGEST_ERROR * eps * largest
    assert grad.stride() == x.stride()


@pytest.mark.parametrize("case", CASES[:2], ids=IDS[:2])
def test_relative_error_is_at_most_three_times_that_of_direct_sums(case):
    x, weight, bias, padding = make(case, torch.contiguous_format)
    expected = F.conv2d(x.double(), weight.double(), bias.double(), padding=padding)
    errors = {
        algorithm: relative_error(convkit.conv2d(x, weight, bias, padding=padding, algorithm=algorithm), expected)
        for algorithm in ("winograd", "direct")
    }
    assert errors["winograd"] <= LARGEST_RATIO * errors["direct"]
    assert errors["winograd"] != errors["direct"]


@pytest.mark.parametrize("memory_format", FORMATS, ids=["nchw", "channels_last"])
@pytest.mark.parametrize("pool", [2, (2, 2, 0), 3, (2, 1, 0), (3, 2, 1), (1, 4, 0)], ids=str)
@pytest.mark.parametrize("case", CASES[:4], ids=IDS[:4])
def test_fused_pooling_gives_the_bits_of_the_ops_one_by_one(case, pool, memory_format):
    x, weight, bias, padding = make(case, memory_format)
    fused, grad, weight_grad = run(x, weight, bias, padding, "winograd", activation="relu", max_pool=pool)
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    features = convkit.relu(convkit.conv2d(x, weight, bias, padding=padding, algorithm="winograd"))
    composed = convkit.max_pool2d(features, *(pool if isinstance(pool, tuple) else (pool,)))
    composed.sum().backward()
    assert torch.equal(fused, composed)
    assert fused.stride() == composed.stride()
    assert torch.equal(grad, x.grad)
    assert torch.equal(weight_grad, weight.grad)


@pytest.mark.parametrize("case", CASES[:4], ids=IDS[:4])
def test_an_image_gives_the_same_bits_in_any_batch_and_on_any_number_of_threads(case):
    x, weight, bias, padding = make((8, *case[1:]), torch.channels_last)
    threads = torch.get_num_threads()
    whole = convkit.conv2d(x, weight, bias, padding=padding, algorithm="winograd")
    try:
        torch.set_num_threads(3)
        for n in (1, 3):
            part = convkit.conv2d(x[:n], weight, bias, padding=padding, algorithm="winograd")
            assert torch.equal(part, whole[:n])
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_stays_in_its_tiles(value):
    x, weight, bias, padding = make(CASES[0], torch.contiguous_format)
    x[1, 5, 21, 30] = value
    direct = convkit.conv2d(x, weight, bias, padding=padding, algorithm="direct")
    winograd = convkit.conv2d(x, weight, bias, padding=padding, algorithm="winograd")
    assert not (winograd.isfinite() & ~direct.isfinite()).any()
    touched = torch.zeros(2, 64, 56, 56, dtype=torch.bool)
    touched[1, :, 20:24, 28:32] = True  # rows 19 to 24 and columns 27 to 32 of the input are this tile's patch
    assert winograd.isfinite()[~touched].all()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"weight": torch.zeros(4, 4, 5, 5)}, "its window is 3x3, not 5x5"),
        ({"stride": 2}, "its stride is 1"),
        ({"dilation": 2}, "its window is not dilated"),
        ({"groups": 2, "weight": torch.zeros(4, 2, 3, 3)}, "it has one group"),
        ({"input": torch.zeros(1, 4, 9, 9).double(), "weight": torch.zeros(4, 4, 3, 3).double()}, "float32, not"),
    ],
)
def test_refusals(arguments, reason):
    arguments = {"input": torch.zeros(1, 4, 9, 9), "weight": torch.zeros(4, 4, 3, 3)} | arguments
    with pytest.raises(RuntimeError, match=f"conv2d: algorithm='winograd' cannot be used: .*{reason}"):
        convkit.conv2d(**arguments, algorithm="winograd")
