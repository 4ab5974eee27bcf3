"""CUDA's ops and kernels, run on the CPU by tests/cuda_host, against float64 and against the CPU's ops."""

import functools

import pytest
import torch
import torch.nn.functional as F

import convkit
from convkit.testing import shapes, tolerances
from tests.cuda_host import build
from tests.test_conv2d import grad_output_of, tensors_of
from tests.test_max_pool2d import FLOATING, INTEGERS, POOLINGS, same_bits, special
from tests.test_max_pool2d import LAYOUTS as POOL_LAYOUTS

pytestmark = pytest.mark.skipif(build.missing() is not None, reason=f"CUDA kernels on the CPU: {build.missing()}")
CASES = pytest.mark.parametrize("case", shapes.CASES, ids=str)
FORMATS = pytest.mark.parametrize("layout", ["contiguous", "channels_last"])


@pytest.fixture(autouse=True)
def strict():
    """The ops of the shim, with threads in any order and results that are not numbers until they are stored."""
    build.load()
    build.set_order("shuffled")
    torch.use_deterministic_algorithms(True)  # fills new tensors with NaN
    yield torch.ops.convkit_cuda_host
    torch.use_deterministic_algorithms(False)
    build.set_order("forward")


def arguments_of(case):
    padding = [side for side in case.padding for _ in range(2)]
    return list(case.stride), padding, list(case.dilation), case.groups


def is_channels_last(layout):
    return layout == "channels_last"


def results_of(ops, case, tensors, grad_output, layout, algorithm="auto"):
    """[output, grad_input, grad_weight, grad_bias] by CUDA's ops."""
    input, weight, bias = tensors
    arguments, last = arguments_of(case), is_channels_last(layout)
    results = [
        ops.conv2d(*tensors, *arguments, "none", algorithm),
        ops.conv2d_backward_input(grad_output, weight, list(input.shape), last, *arguments, algorithm),
        ops.conv2d_backward_weight(grad_output, input, list(weight.shape), last, *arguments, algorithm),
    ]
    return results + ([] if bias is None else [ops.conv2d_backward_bias(grad_output)])


@CASES
@pytest.mark.parametrize("dtype", FLOATING, ids=str)
def test_conv2d_and_its_gradients(strict, case, dtype):
    layouts = ["contiguous", "channels_last", "sliced"]
    if case in shapes.VGG_CASES:  # they take longest
        layouts = [layouts[FLOATING.index(dtype) % 2]]
    for i, layout in enumerate(layouts):
        tensors = tensors_of(case, dtype, layout, bias=i != 1)
        grad_output = grad_output_of(case, tensors, layout)
        contract = tolerances.Contract(functools.partial(F.conv2d, **case.arguments), tensors, grad_output)
        results = results_of(strict, case, tensors, grad_output, layout)
        contract.hold_results(results, "generic")
        assert results[0].stride() == convkit.conv2d(*tensors, **case.arguments).stride()


def depthwise_cases():
    """Every window and stride; channels that fill vectors and blocks, and that do not; padding up to the window."""
    sizes = [(2, 16, (9, 10)), (1, 9, (8, 13)), (1, 136, (7, 7)), (2, 3, (130, 17))]
    for kernel in (3, 5, 7):
        for stride in (1, 2):
            for i, (batch, channels, size) in enumerate(sizes):
                pads = (kernel // 2, (kernel - 1, 0, kernel // 2, kernel)[(i + stride) % 4])
                name = f"{kernel}x{kernel}_stride_{stride}_channels_{channels}"
                yield shapes.Conv2dCase(
                    name, batch, channels, size, channels, (kernel,) * 2, (stride,) * 2, pads, groups=channels
                )


@pytest.mark.parametrize("case", list(depthwise_cases()), ids=str)
@FORMATS
def test_depthwise(strict, case, layout):
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        tensors = tensors_of(case, dtype, layout)
        grad_output = grad_output_of(case, tensors, layout)
        contract = tolerances.Contract(functools.partial(F.conv2d, **case.arguments), tensors, grad_output)
        contract.hold_results(results_of(strict, case, tensors, grad_output, layout, "depthwise"), "depthwise")


@pytest.mark.parametrize("kind", ["same_sign", "offset"])
def test_sums_that_do_not_cancel(strict, kind):
    case = shapes.Conv2dCase("deep", 2, 96, (5, 6), 8, padding=(1, 1))
    for dtype in FLOATING:
        tensors = tensors_of(case, dtype, kind=kind)
        grad_output = grad_output_of(case, tensors, "contiguous")
        contract = tolerances.Contract(functools.partial(F.conv2d, **case.arguments), tensors, grad_output)
        contract.hold_results(results_of(strict, case, tensors, grad_output, "contiguous"), "generic")


@FORMATS
def test_the_gradient_of_a_bias_in_parts(strict, layout):
    for size in ((1, 5, 97, 131), (2, 33, 90, 50), (1, 1, 1, 9001)):  # some that the parts do not divide
        for dtype in FLOATING:
            grad = shapes.LAYOUTS[layout](shapes.random(size, dtype))
            (exact, magnitude), *_ = tolerances.reference(lambda g: g.sum((0, 2, 3)), [grad])
            tolerances.assert_close(strict.conv2d_backward_bias(grad), exact, magnitude, "generic")


@pytest.mark.parametrize("order", ["forward", "reverse", "shuffled"])
def test_the_order_of_threads_changes_no_bit(strict, order):
    case = shapes.Conv2dCase("several_blocks", 2, 8, (9, 11), 12, padding=(1, 1))
    tensors = tensors_of(case)
    grad_output = grad_output_of(case, tensors, "contiguous")
    expected = results_of(strict, case, tensors, grad_output, "contiguous")
    build.set_order(order)
    for one, other in zip(results_of(strict, case, tensors, grad_output, "contiguous"), expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
def test_linear(strict, dtype):
    for rows, inputs, outputs in ((1, 7, 5), (3, 64, 33), (70, 300, 10), (0, 3, 4), (2, 0, 3)):
        tensors = [
            shapes.random(s, dtype, seed=i) for i, s in enumerate([(rows, inputs), (outputs, inputs), (outputs,)])
        ]
        tensors[1] = tensors[1].t().contiguous().t() if rows == 3 else tensors[1]
        contract = tolerances.Contract(F.linear, tensors)
        contract.hold_results([strict.linear(*tensors, "none")], "generic")
        assert same_bits(strict.linear(*tensors, "relu"), strict.linear(*tensors, "none").relu())


@pytest.mark.parametrize("dtype", [*FLOATING, *INTEGERS], ids=str)
def test_relu(strict, dtype):
    for size in ((5, 7), (3, 1001), (0,), (2, 3, 4, 5)):
        x = special(size, dtype)
        assert same_bits(strict.relu(x), convkit.relu(x))
        grad = special(size, dtype, seed=1)
        assert same_bits(strict.relu_backward(grad, x), torch.ops.convkit.relu_backward(grad, x))


def pooling_arguments(pooling):
    kernel, stride, padding, dilation, ceil_mode = pooling
    pairs = [[v, v] if isinstance(v, int) else list(v) for v in (kernel, stride or kernel, padding, dilation)]
    return pairs, ceil_mode


def assert_as_cpu(ops, x, pooling):
    """Values, taps, indices, gradients and their transpose, bit for bit those of the CPU."""
    pairs, ceil_mode = pooling_arguments(pooling)
    cpu = torch.ops.convkit
    (value, taps), (cpu_value, cpu_taps) = (o.max_pool2d_with_taps(x, *pairs, ceil_mode) for o in (ops, cpu))
    assert same_bits(value, cpu_value)
    assert same_bits(ops.max_pool2d(x, *pairs, ceil_mode), cpu_value)
    assert (value.stride(), taps.stride()) == (cpu_value.stride(), cpu_taps.stride())
    assert torch.equal(taps, cpu_taps)
    assert torch.equal(*(o.max_pool2d_indices(taps, x.shape, *pairs) for o in (ops, cpu)))
    if x.dtype.is_floating_point:
        grad = shapes.random(value.shape, x.dtype, seed=3)
        last = value.is_contiguous(memory_format=torch.channels_last)
        assert same_bits(*(o.max_pool2d_backward(grad, taps, x.shape, last, *pairs) for o in (ops, cpu)))
        assert same_bits(*(o.max_pool2d_gather(x, taps, *pairs) for o in (ops, cpu)))


def without_infinities(x):
    """Whose windows of nothing else have an index of their own on CUDA."""
    return x.masked_fill(x == float("-inf"), -7) if x.dtype.is_floating_point else x


@pytest.mark.parametrize("pooling", [*POOLINGS, (16, 1, 0, 1, False), (16, 3, 8, 1, True)], ids=str)
@pytest.mark.parametrize("dtype", [*FLOATING, *INTEGERS], ids=str)
def test_max_pool2d(strict, dtype, pooling):
    for seed, (name, arrange) in enumerate(POOL_LAYOUTS.items()):
        if dtype in (torch.float32, torch.uint8) or name in ("contiguous", "channels_last"):
            x = without_infinities(special((2, 17, 17, 18), dtype, seed))
            assert_as_cpu(strict, arrange(x), pooling)


@pytest.mark.parametrize("dtype", [*FLOATING, *INTEGERS], ids=str)
def test_max_pool2d_by_vectors(strict, dtype):
    """Whole packs of channels, 2x2 windows that tile the rows, and strips of rows."""
    sizes = [((2, 32, 6, 6), "channels_last"), ((2, 3, 4, 32), "contiguous"), ((2, 3, 7, 20), "contiguous")]
    for seed, (size, layout) in enumerate(sizes):
        for pooling in ((2, 2, 0, 1, False), (3, 2, 1, 1, False), (3, 1, 1, 1, True), (2, 1, 1, 1, False)):
            assert_as_cpu(strict, POOL_LAYOUTS[layout](without_infinities(special(size, dtype, seed))), pooling)


@FORMATS
@pytest.mark.parametrize("pooling", [(2, 2, 0, 1, False), (3, 2, 1, 1, False), (17, 2, 8, 1, False)], ids=str)
def test_the_index_of_a_window_of_minus_infinity(strict, layout, pooling):
    """The first of its positions, as torch's; in channels_last 0, and no gradient unless it is that position."""
    pairs, ceil_mode = pooling_arguments(pooling)
    for channels in (3, 4):
        x = POOL_LAYOUTS[layout](torch.full((1, channels, 18, 20), float("-inf")))
        _, taps = strict.max_pool2d_with_taps(x, *pairs, ceil_mode)
        indices = strict.max_pool2d_indices(taps, x.shape, *pairs)
        first = F.max_pool2d(x.contiguous(), pooling[0], *pooling[1:], return_indices=True)[1]
        assert torch.equal(indices, torch.zeros_like(first) if is_channels_last(layout) else first)
        grad = strict.max_pool2d_backward(torch.ones(taps.shape), taps, x.shape, is_channels_last(layout), *pairs)
        winners = first == 0 if is_channels_last(layout) else first >= 0
        assert grad.sum().item() == winners.sum().item()


POOLS = [([2, 2], [2, 2], [0, 0]), ([3, 3], [2, 2], [1, 1]), ([2, 3], [3, 3], [1, 1]), ([1, 1], [2, 2], [0, 0])]


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("activation", ["none", "relu"])
@FORMATS
def test_the_block_is_its_parts(strict, dtype, activation, layout):
    for case in (c for c in shapes.CASES if c.name in ("primes", "groups_2", "even_kernel")):
        tensors = tensors_of(case, dtype, layout)
        tensors[0][0, 0, :3, :3] = float("nan")
        arguments = arguments_of(case)
        for kernel, stride, padding in POOLS:
            value, taps = strict.conv2d_max_pool2d(
                *tensors, *arguments, activation, kernel, stride, padding, True, "auto"
            )
            image = strict.conv2d(*tensors, *arguments, activation, "auto")
            composed, composed_taps = strict.max_pool2d_with_taps(image, kernel, stride, padding, [1, 1], False)
            if activation == "relu":
                composed_taps = composed_taps.masked_fill(composed <= 0, 255)
            assert same_bits(value, composed)
            assert value.stride() == composed.stride()
            assert torch.equal(taps, composed_taps)
            alone, none = strict.conv2d_max_pool2d(
                *tensors, *arguments, activation, kernel, stride, padding, False, "auto"
            )
            assert same_bits(alone, value)
            assert none.numel() == 0


def test_what_cannot_be_is_refused_before_anything_runs(strict):
    x, w = torch.ones(1, 2, 5, 5), torch.ones(3, 2, 3, 3)
    geometry = ([1, 1], [0] * 4, [1, 1], 1, "none")
    with pytest.raises(RuntimeError, match="algorithm='winograd' cannot be used: it has no CUDA kernel"):
        strict.conv2d(x, w, None, *geometry, "winograd")
    with pytest.raises(RuntimeError, match="should be the same"):
        strict.conv2d(x, w.double(), None, *geometry, "auto")
    with pytest.raises(RuntimeError, match="Given groups=1"):
        strict.conv2d(x, w[:, :1], None, *geometry, "auto")
    with pytest.raises(RuntimeError, match="expected grad_output of size"):
        strict.conv2d_backward_input(torch.ones(1, 3, 2, 2), w, [1, 2, 5, 5], False, *geometry[:-1], "auto")
