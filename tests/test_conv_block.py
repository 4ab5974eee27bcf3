"""conv2d with ReLU and max-pooling in one op: bit for bit what the separate calls give, gradients too."""

import functools
import re

import pytest
import torch

import convkit
from convkit.testing import shapes, tolerances
from tests._devices import DEVICES, on

NAN = float("nan")
FORMATS = pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
# Kernel, or (kernel, stride, padding): plain, overlapping, padded, with gaps, unequal.
POOLS = [2, 3, (3, 2, 0), (3, 2, 1), (2, 3, 0), ((2, 3), (3, 2), (1, 1)), ((3, 1), 1, (1, 0)), (1, 1, 0), (1, 2, 0)]
CASES = [
    shapes.Conv2dCase("even", 2, 3, (8, 8), 16, padding=(1, 1)),
    shapes.Conv2dCase("odd", 2, 3, (9, 11), 17, padding=(1, 1)),
    shapes.Conv2dCase("strided_groups", 3, 6, (11, 13), 10, (3, 2), (2, 1), (1, 1), groups=2),
    shapes.Conv2dCase("large", 2, 18, (33, 35), 40, padding=(1, 1)),
]


def compose(input, weight, bias, arguments, max_pool, activation="relu"):
    output = convkit.conv2d(input, weight, bias, **arguments)
    if activation:
        output = convkit.relu(output)
    return convkit.max_pool2d(output, *(max_pool if isinstance(max_pool, tuple) else (max_pool,)))


def fuse(input, weight, bias, arguments, max_pool, activation="relu"):
    return convkit.conv2d(input, weight, bias, **arguments, activation=activation, max_pool=max_pool)


def same_bits(one, other):
    """Equal values, NaN and the sign of zero included."""
    if one.shape != other.shape or not torch.equal(one.isnan(), other.isnan()):
        return False
    one, other = one.nan_to_num(1), other.nan_to_num(1)
    return torch.equal(one, other) and torch.equal(one.signbit(), other.signbit())


def assert_same(tensors, arguments, max_pool, activation="relu", grad_output=None, device="cpu"):
    composed = on(device, lambda *args: compose(*args, arguments, max_pool, activation))
    fused = on(device, lambda *args: fuse(*args, arguments, max_pool, activation))

    plain = composed(*tensors)
    assert same_bits(fused(*tensors), plain), "without gradients"
    if grad_output is None:
        grad_output = shapes.random(plain.shape, plain.dtype, seed=9)
    results = [tolerances.in_own_dtype(f, tensors, grad_output) for f in (fused, composed)]
    assert results[0][0].stride() == results[1][0].stride()
    for what, one, other in zip(("output", "input", "weight", "bias"), *results, strict=False):
        assert same_bits(one, other), f"{what}, or its gradient"


def tensors_of(case, dtype=torch.float32, layout="contiguous", bias=True):
    arrange = shapes.LAYOUTS[layout]
    tensors = [arrange(shapes.random(s, dtype, seed=i)) for i, s in enumerate((case.input_size, case.weight_size))]
    return [*tensors, shapes.random((case.out_channels,), dtype, seed=2) if bias else None]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("max_pool", POOLS, ids=str)
@FORMATS
@DEVICES
def test_same_bits_as_composed(case, max_pool, layout, device):
    for algorithm in ("auto", "direct", "generic") if device == "cpu" else ("auto", "generic"):
        arguments = {**case.arguments, "algorithm": algorithm}
        for dtype in (torch.float32, torch.bfloat16):
            assert_same(tensors_of(case, dtype, layout), arguments, max_pool, device=device)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("activation", [None, "relu"])
@FORMATS
@DEVICES
def test_other_dtypes_and_no_activation(dtype, activation, layout, device):
    arguments = CASES[1].arguments
    for max_pool in (2, (3, 2, 1)):
        assert_same(tensors_of(CASES[1], dtype, layout, bias=False), arguments, max_pool, activation, device=device)
        assert_same(tensors_of(CASES[1], layout=layout), arguments, max_pool, activation, device=device)


def image_through(values, layout="contiguous", channels=17):
    """Tensors of a 1x1 convolution whose every output channel is this image."""
    image = torch.tensor(values)[None, None]
    return [shapes.LAYOUTS[layout](image), torch.ones(channels, 1, 1, 1), None]


# 4 x 6 images: what happens to windows of the kinds that a rounding of the rules would treat alike.
SPECIAL = {
    "all_negative": [[-1.0 - i - j for j in range(6)] for i in range(4)],
    "all_zero": [[0.0] * 6] * 4,
    "negative_zero": [[-0.0, 0.0] * 3, [0.0, -0.0] * 3] * 2,
    "ties": [[1.0, 1.0, 2.0, 2.0, 3.0, -3.0]] * 4,
    "one_nan": [[NAN, 1.0, 2.0, -1.0, 5.0, 0.0], [1.0, 2.0, NAN, -1.0, 0.0, 0.0]] * 2,
    "two_nan": [[NAN, NAN, -2.0, NAN, 5.0, NAN], [1.0, NAN, NAN, -1.0, NAN, 0.0]] * 2,
    "all_nan": [[NAN] * 6] * 4,
    "infinite": [[float("inf"), -float("inf"), -1.0, -float("inf"), float("inf"), float("inf")]] * 4,
}


@pytest.mark.parametrize("values", SPECIAL.values(), ids=SPECIAL)
@pytest.mark.parametrize("max_pool", POOLS, ids=str)
@FORMATS
def test_special_windows(values, max_pool, layout):
    for activation in ("relu", None):
        assert_same(image_through(values, layout), {}, max_pool, activation)


@FORMATS
def test_a_dead_window_has_gradient_zero_even_for_nan(layout):
    values = [[-1.0, -2.0, 1.0, 2.0], [-3.0, -4.0, 3.0, 4.0]]
    tensors = image_through(values, layout)
    grad_output = torch.tensor([NAN, 1.0]).expand(1, 17, 1, 2)
    _, grad_input, grad_weight = tolerances.in_own_dtype(
        lambda *args: convkit.conv2d(*args, activation="relu", max_pool=2), tensors, grad_output
    )
    assert torch.equal(grad_input, torch.tensor([[[[0.0, 0, 0, 0], [0, 0, 0, 17]]]]))
    assert torch.equal(grad_weight, torch.full((17, 1, 1, 1), 4.0))
    assert_same(tensors, {}, 2, grad_output=grad_output)


@pytest.mark.parametrize("max_pool", [2, (3, 2, 1)], ids=str)
def test_changing_the_result_in_place_leaves_the_gradients(max_pool):
    tensors = [t.requires_grad_() for t in tensors_of(CASES[0])]
    output = fuse(*tensors, CASES[0].arguments, max_pool)
    expected = torch.autograd.grad(output.sum(), tensors, retain_graph=True)
    changed = output.mul_(0).add_(1)
    grad_output = torch.zeros_like(changed)
    for zero in torch.autograd.grad(changed, tensors, grad_output, retain_graph=True):
        assert not zero.any()
    output = fuse(*tensors, CASES[0].arguments, max_pool)
    output.add_(3)
    for one, other in zip(torch.autograd.grad(output.sum(), tensors), expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@FORMATS
def test_saves_input_weight_and_one_byte_per_pooled_value(dtype, layout):
    tensors = [t.requires_grad_() for t in tensors_of(CASES[3], dtype, layout)]
    saved = {}

    def pack(tensor):
        saved[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = fuse(*tensors, CASES[3].arguments, 2)
    assert sum(saved.values()) == tensors[0].nbytes + tensors[1].nbytes + output.numel()


@pytest.mark.parametrize("kernel", [(2, 127), (15, 17), (16, 16), (1, 300)], ids=str)
@pytest.mark.parametrize("padding", [0, 1])
def test_windows_about_and_above_one_byte(kernel, padding):
    if padding > min(kernel) // 2:
        padding = (0, 1)
    case = shapes.Conv2dCase("wide", 1, 2, (18, 302), 5, padding=(1, 1))
    assert_same(tensors_of(case), case.arguments, (kernel, (3, 7), padding))


def test_activation_alone_is_relu_of_the_output():
    def activated(case, *args):
        return convkit.conv2d(*args, **case.arguments, activation="relu")

    def composed(case, *args):
        return convkit.relu(convkit.conv2d(*args, **case.arguments))

    for case in CASES:
        tensors = tensors_of(case)
        fused = activated(case, *tensors)
        assert same_bits(fused, composed(case, *tensors))
        grad_output = shapes.random(fused.shape, seed=5)
        for one, other in zip(
            tolerances.in_own_dtype(functools.partial(activated, case), tensors, grad_output),
            tolerances.in_own_dtype(functools.partial(composed, case), tensors, grad_output),
            strict=True,
        ):
            assert same_bits(one, other)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_a_last_band_of_rows_that_no_window_reaches(layout):
    """About 800 pixels are a task: two rows of 400, and of five rows the last, which is half a window."""
    generator = torch.Generator().manual_seed(0)
    input = torch.randn(1, 1, 5, 400, generator=generator)
    weight = torch.randn(4, 1, 3, 3, generator=generator)
    if layout == "channels_last":
        input = input.repeat(1, 4, 1, 1).to(memory_format=torch.channels_last)
        weight = weight.repeat(1, 4, 1, 1)
    assert_same((input, weight, torch.randn(4, generator=generator)), {"padding": 1}, 2)


def test_unbatched():
    input, weight, bias = tensors_of(CASES[1])
    block = {"padding": 1, "activation": "relu", "max_pool": (3, 2, 1)}
    unbatched = convkit.conv2d(input[0], weight, bias, **block)
    assert same_bits(unbatched, convkit.conv2d(input[:1], weight, bias, **block)[0])


@pytest.mark.parametrize("max_pool", [(2, 2), (3, 2), (2,), (2, 2, 0, 1), ((2, 2, 2), 2, 0)], ids=str)
def test_an_ambiguous_or_malformed_pool_is_refused(max_pool):
    with pytest.raises(ValueError, match="max_pool"):
        convkit.conv2d(*tensors_of(CASES[0]), padding=1, max_pool=max_pool)


@pytest.mark.parametrize("max_pool", [0, -1, (2, 0, 0), (2, -1, 0), (2, 2, 2), (2, 2, -1), 99], ids=str)
def test_a_pool_that_cannot_be_raises_as_max_pool2d(max_pool):
    tensors = tensors_of(CASES[0])
    with pytest.raises(RuntimeError) as alone:
        compose(*tensors, {"padding": 1}, max_pool)
    with pytest.raises(RuntimeError) as fused:
        fuse(*tensors, {"padding": 1}, max_pool)
    assert str(fused.value).split(": ", 1)[-1] == str(alone.value).split(": ", 1)[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"activation": "gelu"}, "ConvBlock2d: activation must be None, 'relu' or 'relu6', but got 'gelu'"),
        ({"activation": torch.nn.ReLU}, "ConvBlock2d: activation must be None, 'relu' or 'relu6', but got <class"),
        ({"max_pool": (2, 2)}, "ConvBlock2d: max_pool must be a kernel size or .*ambiguous: (2, 2)"),
        ({"max_pool": "2"}, "ConvBlock2d(): argument 'max_pool kernel_size' must be an int or .*, but got '2'"),
        ({"max_pool": True}, "ConvBlock2d(): argument 'max_pool kernel_size' must be an int or .*, but got True"),
        ({"max_pool": 0}, "ConvBlock2d: max_pool: kernel size should be greater than zero, .*kernel_size=[0, 0]"),
        ({"max_pool": (3, 0, 1)}, "ConvBlock2d: max_pool: stride should be greater than zero, but got stride=[0, 0]"),
        ({"max_pool": (3, 2, -1)}, "ConvBlock2d: max_pool: pad must be non-negative, but got padding=[-1, -1]"),
        ({"max_pool": (3, 2, 2)}, "ConvBlock2d: max_pool: pad should be at most half of .*got pad=2, kernel_size=3"),
    ],
)
def test_a_block_refuses_when_it_is_made_what_conv2d_would_refuse(arguments, message):
    with pytest.raises((ValueError, TypeError, RuntimeError), match=re.escape(message).replace(r"\.\*", ".*")):
        convkit.nn.ConvBlock2d(3, 4, 3, **arguments)
    with pytest.raises((ValueError, TypeError, RuntimeError), match="conv2d"):
        convkit.conv2d(torch.randn(1, 3, 9, 9), torch.randn(4, 3, 3, 3), **arguments)
