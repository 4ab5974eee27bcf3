"""Winograd: values, gradients, fusion, accuracy beside float64 and the direct algorithm, and when "auto" takes it."""

import functools
import itertools

import pytest
import torch
import torch.nn.functional as F

import convkit
from convkit.testing import shapes, tolerances
from tests._tree import python

FORMATS = (torch.contiguous_format, torch.channels_last)

# n, in channels, (h, w), out channels, padding, window; small outputs and 5x5 have tiles of 2x2 pixels, others of 4x4
CASES = [
    (2, 64, (56, 56), 64, 1, 3),
    (1, 128, (28, 28), 128, 1, 3),
    (3, 20, (13, 13), 37, 0, 3),  # channels and tiles that fill no vector
    (2, 20, (13, 13), 37, 0, 5),
    (3, 36, (5, 6), 40, 1, 3),
    (1, 17, (9, 31), 33, 2, 3),
    (1, 17, (30, 31), 33, (4, 2), 5),
    (1, 300, (5, 6), 40, (0, 1), 3),
    (2, 512, (7, 7), 64, 1, 3),
    (1, 3, (40, 80), 8, 1, 3),
    (1, 16, (1, 3), 16, 1, 3),
    (1, 16, (1, 3), 16, 2, 5),
    (5, 130, (2, 2), 128, 1, 3),
]
WITH_POOLS = CASES[:5]
IDS = ["x".join(map(str, (case[0], case[1], *case[2], case[3], case[5]))) for case in CASES]


def make(case, memory_format, dtype=torch.float32):
    n, ic, size, oc, padding, window = case
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, ic, *size, generator=generator)
    weight = torch.randn(oc, ic, window, window, generator=generator) * (window**2 * ic) ** -0.5
    bias = torch.randn(oc, generator=generator)
    x, weight = (t.to(dtype, memory_format=memory_format) for t in (x, weight))
    return x, weight, bias.to(dtype), padding


def run(x, weight, bias, padding, algorithm, **fused):
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    y = convkit.conv2d(x, weight, bias, padding=padding, algorithm=algorithm, **fused)
    y.backward(torch.ones_like(y) if fused else y.detach())
    return y.detach(), x.grad, weight.grad


@pytest.mark.parametrize("memory_format", FORMATS, ids=["nchw", "channels_last"])
@pytest.mark.parametrize("case", CASES, ids=IDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_values_and_gradients(case, memory_format, dtype):
    x, weight, bias, padding = make(case, memory_format, dtype)
    y, grad, weight_grad = run(x, weight, bias, padding, "winograd")
    convolve = functools.partial(F.conv2d, padding=padding)
    exact = tolerances.reference(convolve, [x, weight, bias], y)
    tolerances.assert_close(y, *exact[0], "winograd")
    tolerances.assert_close(grad, *exact[1], "winograd")
    tolerances.assert_close(weight_grad, *exact[2], "winograd")
    assert y.stride() == convolve(x, weight, bias).stride()
    assert grad.stride() == x.stride()
    assert weight_grad.stride() == weight.stride()


@pytest.mark.parametrize("kind", ["normal", "relu", "offset"])
@pytest.mark.parametrize("channels", [16, 24, 36, 64, 128, 200, 512])
@pytest.mark.parametrize(
    ("window", "size"), [(3, (4, 4)), (3, (4, 8)), (3, (14, 14)), (5, (7, 7)), (5, (14, 14))], ids=str
)
def test_relative_error_beside_direct_sums(window, size, channels, kind):
    x = shapes.random((2, channels, *size), kind="offset" if kind == "offset" else "normal", seed=1)
    x = x.relu() if kind == "relu" else x
    weight = shapes.random((32, channels, window, window), seed=2)
    convolve = functools.partial(torch.conv2d, padding=window // 2)
    exact = convolve(x.double(), weight.double())
    winograd, direct = (
        tolerances.relative_error(convkit.conv2d(x, weight, padding=window // 2, algorithm=algorithm), exact)
        for algorithm in ("winograd", "direct")
    )
    assert winograd <= tolerances.WINOGRAD_TIMES_DIRECT[window] * direct
    assert winograd != direct


@pytest.mark.parametrize("kind", ["normal", "relu", "offset"])
@pytest.mark.parametrize(
    "case",
    [
        (1, 64, 56, 32, 3),
        (8, 16, 14, 32, 3),
        (1, 200, 14, 40, 3),
        (4, 64, 4, 64, 3),
        (64, 128, 2, 128, 3),
        (2, 64, 12, 32, 3),
        (1, 64, 14, 64, 5),
    ],
    ids=str,
)
def test_relative_error_of_the_gradient_of_the_weight(case, kind):
    n, ic, size, oc, window = case
    x = shapes.random((n, ic, size, size), kind="offset" if kind == "offset" else "normal", seed=1)
    grad = shapes.random((n, oc, size, size), kind="offset" if kind == "offset" else "normal", seed=2)
    if kind == "relu":
        x, grad = x.relu(), grad.where(shapes.random(grad.shape, seed=3) > 0, 0)  # as behind a ReLU
    weight_size, padding = [oc, ic, window, window], [window // 2] * 4
    exact = torch.nn.grad.conv2d_weight(x.double(), weight_size, grad.double(), padding=window // 2)
    winograd, direct = (
        tolerances.relative_error(
            torch.ops.convkit.conv2d_backward_weight(
                grad, x, weight_size, False, [1, 1], padding, [1, 1], 1, algorithm
            ),
            exact,
        )
        for algorithm in ("winograd", "direct")
    )
    sparse = tolerances.WINOGRAD_SPARSE_WEIGHT_TIMES_DIRECT
    assert winograd <= (sparse if kind == "relu" else tolerances.WINOGRAD_TIMES_DIRECT[window]) * direct
    assert winograd != direct


@pytest.mark.parametrize("memory_format", FORMATS, ids=["nchw", "channels_last"])
@pytest.mark.parametrize("pool", [2, (2, 2, 0), 3, (2, 1, 0), (3, 2, 1), (1, 4, 0)], ids=str)
@pytest.mark.parametrize("case", WITH_POOLS, ids=IDS[:5])
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


@pytest.mark.parametrize("case", WITH_POOLS, ids=IDS[:5])
def test_an_image_gives_the_same_bits_in_any_batch_memory_format_and_number_of_threads(case):
    x, weight, bias, padding = make((8, *case[1:]), torch.channels_last)
    threads = torch.get_num_threads()
    whole = convkit.conv2d(x, weight, bias, padding=padding, algorithm="winograd")
    try:
        torch.set_num_threads(3)
        for n, memory_format in itertools.product((1, 3), FORMATS):
            operands = (x[:n].contiguous(memory_format=memory_format), weight.contiguous(memory_format=memory_format))
            part = convkit.conv2d(*operands, bias, padding=padding, algorithm="winograd")
            assert torch.equal(part, whole[:n])
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("case", WITH_POOLS, ids=IDS[:5])
def test_the_gradient_of_the_weight_has_the_same_bits_on_any_number_of_threads(case):
    operands = make((8, *case[1:]), torch.contiguous_format)
    threads = torch.get_num_threads()
    expected = run(*operands, "winograd")[2]
    try:
        for count in (1, 3, 8):
            torch.set_num_threads(count)
            assert torch.equal(run(*operands, "winograd")[2], expected)
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


@pytest.mark.parametrize("scale", [1e-39, 1e-20, 1e36])
def test_weights_far_from_one(scale):
    """Down to numbers that are not normal, up to where the transforms' own numbers are nearly infinite."""
    x = shapes.random((1, 32, 12, 12), seed=1)
    weight = shapes.random((16, 32, 3, 3), seed=2) * scale
    contract = tolerances.Contract(functools.partial(F.conv2d, padding=1), [x, weight])
    contract.hold(functools.partial(convkit.conv2d, padding=1, algorithm="winograd"), "winograd")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"weight": torch.zeros(4, 4, 7, 7)}, "it needs a 3x3 or 5x5 window, not 7x7"),
        ({"weight": torch.zeros(4, 4, 3, 5)}, "it needs a 3x3 or 5x5 window, not 3x5"),
        ({"stride": 2}, "it needs stride 1"),
        ({"dilation": 2}, "it needs dilation 1"),
        ({"groups": 2, "weight": torch.zeros(4, 2, 3, 3)}, "it needs groups=1"),
        ({"input": torch.zeros(1, 4, 9, 9).double(), "weight": torch.zeros(4, 4, 3, 3).double()}, "float32, not"),
    ],
)
def test_refusals(arguments, reason):
    arguments = {"input": torch.zeros(1, 4, 9, 9), "weight": torch.zeros(4, 4, 3, 3)} | arguments
    with pytest.raises(RuntimeError, match=f"conv2d: algorithm='winograd' cannot be used: .*{reason}"):
        convkit.conv2d(**arguments, algorithm="winograd")


def chosen(*sizes, **arguments):
    """What "auto" takes for zeros of these sizes, and why it passed over Winograd."""
    plan = convkit.explain(convkit.conv2d, *map(torch.zeros, sizes), **arguments).ops[0]
    return plan.algorithm, plan.passed_over.get("winograd")


def chosen_for_weight(batch, window, size):
    """The same of the gradient of the weight, for 128 channels."""
    x, weight = torch.zeros(batch, 128, size, size), torch.zeros(128, 128, window, window, requires_grad=True)
    plan = convkit.explain(lambda: convkit.conv2d(x, weight, padding=window // 2).sum().backward())
    gradient = next(op for op in plan.ops if op.op == "conv2d_backward_weight")
    return gradient.algorithm, gradient.passed_over.get("winograd")


def test_auto_takes_winograd_where_it_pays():
    assert chosen((1, 16, 4, 4), (16, 16, 3, 3), padding=1) == ("winograd", None)
    assert chosen((1, 16, 7, 7), (16, 16, 5, 5), padding=2) == ("winograd", None)
    assert chosen((1, 15, 7, 7), (16, 15, 3, 3), padding=1) == ("direct", "there are fewer than 16 channels")
    assert chosen((1, 16, 7, 7), (15, 16, 3, 3), padding=1) == ("direct", "there are fewer than 16 channels")
    assert chosen((1, 16, 5, 6), (16, 16, 3, 3)) == ("direct", "the output is less than 4 pixels high or wide")
    algorithm, reason = chosen((1, 16, 6, 7), (16, 16, 5, 5), padding=2)
    assert (algorithm, reason) == ("direct", "the output is less than 7 pixels high or wide")
    assert chosen((1, 128, 2, 2), (128, 128, 3, 3), padding=1)[0] == "winograd"
    for batch, window, least in ((1, 3, 4), (1, 5, 14), (64, 5, 14), (16, 3, 4), (256, 3, 2)):
        assert chosen_for_weight(batch, window, least) == ("winograd", None)
        reason = f"the output is less than {least} pixels high or wide"
        assert chosen_for_weight(batch, window, least - 1) == ("direct", reason)
    for batch in (1, 64):  # the batch has no say: an image gives the same bits in any
        assert chosen((batch, 16, 9, 9), (16, 16, 3, 3))[0] == "winograd"


def test_set_float32_algorithm():
    sizes = (1, 16, 9, 9), (16, 16, 3, 3)
    assert convkit.get_float32_algorithm() == "auto"
    convkit.set_float32_algorithm("direct")
    try:
        assert convkit.get_float32_algorithm() == "direct"
        assert chosen(*sizes) == ("direct", "set_float32_algorithm('direct') is in force")
        assert chosen(*sizes, algorithm="winograd")[0] == "winograd"
        x, weight = (shapes.random(size, seed=1).requires_grad_() for size in sizes)
        plan = convkit.explain(lambda: convkit.conv2d(x, weight).sum().backward())
        assert {op.algorithm for op in plan.ops if op.algorithm} == {"direct"}
    finally:
        convkit.set_float32_algorithm("auto")
    assert chosen(*sizes)[0] == "winograd"


@pytest.mark.parametrize("name", ["winograd", "Direct", ""])
def test_set_float32_algorithm_names_what_it_takes(name):
    with pytest.raises(ValueError, match=f"algorithm must be 'auto' or 'direct', but got '{name}'"):
        convkit.set_float32_algorithm(name)
    assert convkit.get_float32_algorithm() == "auto"


def test_float32_algorithm_by_environment():
    code = "import convkit; print(convkit.get_float32_algorithm())"
    for value, expected in (("direct", "direct"), ("auto", "auto"), ("", "auto")):
        assert python(code, CONVKIT_FLOAT32_ALGORITHM=value).stdout.strip() == expected
    failed = python(code, CONVKIT_FLOAT32_ALGORITHM="fast")
    assert failed.stderr.strip().splitlines()[-1] == (
        "ImportError: convkit: CONVKIT_FLOAT32_ALGORITHM='fast' is neither 'auto' nor 'direct'"
    )
