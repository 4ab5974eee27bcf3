"""max_pool2d is torch's bit for bit: values, indices, NaN, ties, signs of zero. Its gradient needs one byte a value."""

import pytest
import torch
import torch.nn.functional as F
from _isolated import outcomes
from hypothesis import given, settings
from hypothesis import strategies as st

import convkit
from convkit.testing import shapes
from tests._devices import DEVICES

INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
FLOATING = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
# kernel_size, stride, padding, dilation, ceil_mode
POOLINGS = [
    (2, None, 0, 1, False),
    (3, 2, 1, 1, False),
    (3, 1, 1, 1, False),
    (2, 2, 0, 1, True),
    (3, 2, 1, 1, True),
    ((2, 3), (3, 1), (1, 0), 1, False),
    ((3, 2), (1, 3), 0, (1, 2), True),
    (2, 5, 1, 1, False),
    (3, 2, 1, 3, False),
]
LAYOUTS = {
    "contiguous": lambda x: x,
    "channels_last": lambda x: x.to(memory_format=torch.channels_last),
    "sliced": lambda x: x.repeat_interleave(2, 3)[..., ::2],
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "channels_sliced": lambda x: x.to(memory_format=torch.channels_last).repeat(1, 2, 1, 1)[:, : x.shape[1]],
    "flipped": lambda x: x.flip(0, 1, 2, 3).permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
    "expanded": lambda x: x[:, :, :1].expand_as(x),
}
FORMATS = pytest.mark.parametrize("layout", ["contiguous", "channels_last"])


def special(size, dtype, seed=0):
    """Many ties; for floating dtypes also NaN, both zeros, infinities and denormals."""
    generator = torch.Generator().manual_seed(seed)
    low = 0 if dtype == torch.uint8 else -3
    x = torch.randint(low, 4, size, generator=generator).to(dtype)
    if dtype.is_floating_point:
        where = torch.rand(size, generator=generator)
        tiny = torch.finfo(dtype).smallest_normal / 4
        for i, value in enumerate((float("nan"), -0.0, 0.0, float("-inf"), float("inf"), tiny, -tiny)):
            x[(where > 0.06 * i) & (where < 0.06 * (i + 1))] = value
    return x


def same_bits(one, other):
    """Equal, signs of zero included; of a NaN only that it is one."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not one.dtype.is_floating_point:
        return torch.equal(one, other)
    nan = one.isnan()
    one, other_filled = one.nan_to_num(7), other.nan_to_num(7)
    signs = torch.equal(one.signbit(), other_filled.signbit())
    return torch.equal(nan, other.isnan()) and torch.equal(one, other_filled) and signs


def torchs(x, *pooling):
    """torch's values and indices; of integers, which it pools on the CPU only, narrow ones through int32."""
    wide = x.to(torch.int32) if x.dtype in INTEGERS[:3] else x
    values, indices = F.max_pool2d(wide.cpu() if x.dtype in INTEGERS else wide, *pooling, return_indices=True)
    return values.to(x.device, x.dtype), indices.to(x.device)


def assert_as_torch(x, *pooling):
    values, indices = torchs(x, *pooling)
    ours, our_indices = convkit.max_pool2d(x, *pooling, return_indices=True)
    assert same_bits(ours, values)
    assert torch.equal(our_indices, indices)
    assert (ours.stride(), our_indices.stride()) == (values.stride(), indices.stride())
    assert same_bits(convkit.max_pool2d(x, *pooling), values), "without indices"


@pytest.mark.parametrize("pooling", POOLINGS, ids=str)
@pytest.mark.parametrize("dtype", [*FLOATING, *INTEGERS], ids=str)
@DEVICES
def test_values_and_indices(dtype, pooling, device):
    for seed, arrange in enumerate(LAYOUTS.values()):
        assert_as_torch(arrange(special((2, 17, 13, 18), dtype, seed).to(device)), *pooling)


@FORMATS
@pytest.mark.parametrize("pooling", [(2, 2), (3, 2, 1), (2, 1), (3, 3)], ids=str)
def test_every_width_around_a_vector(pooling, layout):
    for width in (*range(3, 21), 31, 32, 33, 34, 63, 64, 65, 66, 67):
        assert_as_torch(LAYOUTS[layout](special((1, 3, 5, width), torch.float32, width)), *pooling)
        assert_as_torch(LAYOUTS[layout](special((1, width, 4, 5), torch.float32, width)), *pooling)


@FORMATS
@pytest.mark.parametrize("stride", [1, 2, 3, (3, 1)], ids=str)
def test_every_output_width_around_a_vector(stride, layout):
    """And about 256, where taps are stored in blocks."""
    step = stride if isinstance(stride, int) else stride[1]
    for width in (1, 7, 8, 9, 15, 16, 17, 31, 33, 257, 520):
        for kernel, padding in ((2, 0), (3, 1), ((3, 5), (0, 2))):
            reach = kernel if isinstance(kernel, int) else kernel[1]
            pad = padding if isinstance(padding, int) else padding[1]
            columns = max(1, (width - 1) * step + reach - 2 * pad)
            for more in range(step):
                x = special((1, 2, 4, columns + more), torch.float32, width)
                assert convkit.max_pool2d(x, kernel, stride, padding).shape[3] == width
                assert_as_torch(LAYOUTS[layout](x), kernel, stride, padding)
    assert_as_torch(LAYOUTS[layout](special((1, 521, 4, 5), torch.float32)), 3, stride, 1)


@FORMATS
@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@DEVICES
def test_windows_of_infinities_and_zeros(dtype, layout, device):
    for value in (float("-inf"), -0.0, 0.0, float("nan")):
        x = LAYOUTS[layout](torch.full((1, 9, 8, 9), value, dtype=dtype, device=device))
        for pooling in POOLINGS:
            assert_as_torch(x, *pooling)


@FORMATS
@pytest.mark.parametrize("dtype", [*FLOATING, *INTEGERS], ids=str)
def test_extremes_of_a_dtype(dtype, layout):
    info = torch.finfo(dtype) if dtype.is_floating_point else torch.iinfo(dtype)
    near = (info.min, info.max, info.min / 2, 0) if dtype.is_floating_point else (info.min, info.min + 1, info.max, 0)
    which = torch.randint(4, (2, 9, 9, 18), generator=torch.Generator().manual_seed(0))
    for lowest_only in (False, True):
        x = torch.tensor(near, dtype=dtype)[which * 0 if lowest_only else which]
        for pooling in POOLINGS:
            assert_as_torch(LAYOUTS[layout](x), *pooling)


NAN, INF = float("nan"), float("inf")


@FORMATS
@pytest.mark.parametrize(
    ("window", "winner"),
    [
        ([1.0, 2.0, 2.0, 1.0], 1),
        ([0.0, -0.0, 0.0, -0.0], 0),
        ([-0.0, 0.0, -0.0, 0.0], 0),
        ([NAN, 1.0, INF, 2.0], 0),
        ([1.0, NAN, INF, NAN], 3),
        ([NAN, NAN, 1.0, INF], 1),
        ([-INF] * 4, 0),
        ([-INF, -INF, -INF, -3e38], 3),
        ([INF, INF, NAN, INF], 2),
        ([-1e-45, 1e-45, 0.0, 1e-45], 1),
    ],
    ids=str,
)
def test_who_wins_a_window(window, winner, layout):
    x = LAYOUTS[layout](torch.tensor(window).view(1, 1, 2, 2).repeat(1, 19, 1, 19))
    values, indices = convkit.max_pool2d(x, 2, return_indices=True)
    assert same_bits(values[0, :, 0], torch.full((19, 19), window[winner]))
    assert torch.equal(indices[0, 0, 0], winner // 2 * 38 + winner % 2 + 2 * torch.arange(19))
    leaf = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(convkit.max_pool2d(leaf, 2).sum(), leaf, retain_graph=False)
    assert torch.equal(grad[0, 3, :, 4:6].flatten().nonzero().flatten(), torch.tensor([winner]))


def test_large_windows_unbatched_and_empty():
    x = special((2, 3, 40, 37), torch.float32)
    for pooling in ((16, 3, 8), ((40, 37),), ((17, 16), 2, (8, 8)), (40, 40, 20)):
        assert_as_torch(x, *pooling)
    assert_as_torch(x[0], 3, 2, 1)
    assert_as_torch(x[:0], 3, 2, 1)
    assert_as_torch(x[:0].double(), 16)
    assert_as_torch(x[:, :1, :1, :1], 1)


@FORMATS
def test_the_whole_image_as_one_window(layout):
    for size in range(1, 21):
        for dtype in (torch.float32, torch.bfloat16):
            x = LAYOUTS[layout](special((2, 5, size, 21 - size), dtype, size))
            assert_as_torch(x, (size, 21 - size))
            assert_as_torch(x, (size, 1), 1, (size // 2, 0), 1, True)


def test_unbatched_has_torchs_strides():
    for arrange in (lambda x: x, lambda x: x.permute(2, 0, 1), lambda x: x.transpose(1, 2), lambda x: x[::2, :, 1:]):
        x = arrange(special((6, 7, 8), torch.float32))
        assert_as_torch(x, 3, 2, 1)
        assert gradient(convkit, x, 3, 2, 1).stride() == gradient(F, x, 3, 2, 1).stride()


@st.composite
def poolings(draw):
    """Size of an input and the arguments of a pooling of it: small images that a window may step over, and others."""
    kernel, stride, dilation, padding, size = [], [], [], [], [draw(st.integers(0, 2)), draw(st.integers(1, 20))]
    ceil_mode = draw(st.booleans())
    for _ in range(2):
        kernel.append(draw(st.integers(1, 5)))
        stride.append(draw(st.integers(1, 4)))
        dilation.append(draw(st.sampled_from((1, 1, 2, 3, 7))))
        span = (kernel[-1] - 1) * dilation[-1] + 1
        padding.append(draw(st.integers(0, kernel[-1] // 2)))
        size.append(max(1, span - 2 * padding[-1]) + draw(st.integers(0, 20)))
    return size, (kernel, stride, padding, dilation, ceil_mode)


def inside(size, pooling):
    """1 for every window that has a position inside the image, 0 for the others."""
    return (F.max_pool2d(torch.ones(size).double(), *pooling) > 0).double()


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    call=poolings(),
    layout=st.sampled_from([*LAYOUTS]),
    dtype=st.sampled_from([torch.float32, *FLOATING, torch.int32, torch.uint8]),
    seed=st.integers(0, 99),
)
def test_any_shape(call, layout, dtype, seed):
    size, pooling = call
    x = LAYOUTS[layout](special(size, dtype, seed))
    values, indices = torchs(x, *pooling)
    ours, our_indices = convkit.max_pool2d(x, *pooling, return_indices=True)
    assert same_bits(ours, values)
    assert ours.stride() == values.stride()
    whole = inside(size, pooling) > 0  # of a window outside the image the index means nothing
    assert torch.equal(our_indices[whole], indices[whole])
    assert same_bits(convkit.max_pool2d(x, *pooling), values), "without indices"


def gradient(module, x, *pooling, grad_output=None):
    leaf = x.detach().requires_grad_()
    output = module.max_pool2d(leaf, *pooling)
    (grad,) = torch.autograd.grad(output, leaf, torch.ones_like(output) if grad_output is None else grad_output)
    return grad


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    call=poolings(),
    layout=st.sampled_from([*LAYOUTS]),
    dtype=st.sampled_from([torch.float32, *FLOATING]),
    grad_layout=st.sampled_from(["contiguous", "channels_last", "transposed", "expanded"]),
    seed=st.integers(0, 99),
)
def test_any_gradient(call, layout, dtype, grad_layout, seed):
    """torch's, except that windows outside the image pass nothing: torch gives theirs to a pixel of another row."""
    size, pooling = call
    x, counted = LAYOUTS[layout](special(size, dtype, seed)), inside(size, pooling)
    # Whole numbers: their sums are exact in every dtype.
    grad_output = LAYOUTS[grad_layout](torch.arange(counted.numel()).view(counted.shape).remainder(11).to(dtype) - 5)
    grad = gradient(convkit, x, *pooling, grad_output=grad_output)
    expected = gradient(F, x.double(), *pooling, grad_output=grad_output.double() * counted)
    assert torch.equal(grad.double(), expected)
    assert grad.stride() == gradient(F, x, *pooling).stride()


# A row of padding and a step far beyond a vector: the last window of a row ends long before the row does.
LONG_STEPS = [
    f"x, pooling = torch.randn(2, 3, 8, {(width - 1) * step + step - 1 + kernel - 2 * padding}), "
    f"({kernel}, ({down}, {step}), {padding})"
    for width in (1, 8, 16)
    for kernel, padding in ((1, 0), (2, 1), (3, 1))
    for down, step in ((1, 50), (2, 9))
]
LONG_STEP_CODE = """
import convkit
torch.manual_seed(0)
{}
expected = torch.nn.functional.max_pool2d(x, *pooling, return_indices=True)
result = all(torch.equal(*pair) for pair in zip(convkit.max_pool2d(x, *pooling, return_indices=True), expected))
result = result and torch.equal(convkit.max_pool2d(x, *pooling), expected[0])
"""


def test_a_window_much_wider_than_the_image():
    """The gradient of windows whose padding is larger than the image."""
    x = torch.randn(1, 2, 9, 1)
    for pooling in [(11, 3, 5), (9, 2, 4)]:
        assert torch.equal(gradient(convkit, x, *pooling), gradient(F, x, *pooling))


def test_steps_much_longer_than_the_window():
    """In a process of their own: what writes beyond its workspace may end it."""
    actual = outcomes({call: LONG_STEP_CODE.format(call) for call in LONG_STEPS})
    assert {call: outcome for call, outcome in actual.items() if outcome != ("returned", "True")} == {}


@FORMATS
@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("pooling", POOLINGS, ids=str)
@DEVICES
def test_gradient(pooling, dtype, layout, device):
    x = LAYOUTS[layout](shapes.random((2, 9, 13, 18), dtype, seed=1).to(device)).requires_grad_()
    output = convkit.max_pool2d(x, *pooling)
    grad_output = shapes.random(output.shape, dtype, seed=2).to(device)
    (grad,) = torch.autograd.grad(output, x, grad_output)
    exact_x = x.detach().double().requires_grad_()
    (exact,) = torch.autograd.grad(F.max_pool2d(exact_x, *pooling), exact_x, grad_output.double())
    # A sum of at most 9 gradients, rounded once where the dtype has 16 bits.
    assert (grad.double() - exact).abs().max() <= 8 * torch.finfo(dtype).eps * exact.abs().max()
    assert grad.stride() == gradient(F, x, *pooling).stride()


def ulps_between(one, other):
    """How many numbers of their dtype, of 16 bits, lie from one to the other."""
    ranks = [t.view(torch.int16).int() for t in (one.contiguous(), other.contiguous())]
    one, other = (torch.where(rank < 0, -(rank & 0x7FFF), rank) for rank in ranks)
    return (one - other).abs().max()


@FORMATS
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("pooling", [(3, 1, 1), (5, 1, 2), ((2, 7), 1, (1, 3)), (3, 1, 1, 2)], ids=str)
def test_a_16_bit_gradient_is_rounded_once(pooling, dtype, layout):
    """Sums of up to 25 gradients: in 16 bits alone they would be off by many units of the last place."""
    x = LAYOUTS[layout](shapes.random((2, 9, 13, 18), dtype, seed=1))
    grad_output = shapes.random(convkit.max_pool2d(x, *pooling).shape, dtype, kind="same_sign", seed=2)
    grad = gradient(convkit, x, *pooling, grad_output=grad_output)
    exact = gradient(F, x.double(), *pooling, grad_output=grad_output.double())
    assert ulps_between(grad, exact.to(dtype)) <= 1


def test_a_window_outside_the_image_passes_no_gradient():
    """Dilation can step over a small image; torch gives such a window's gradient to a pixel of another row."""
    x = torch.randn(1, 1, 3, 2, requires_grad=True)
    output = convkit.max_pool2d(x, (1, 2), 1, (0, 1), (1, 3))
    assert output.isneginf().any()
    (grad,) = torch.autograd.grad(output, x, torch.where(output.isneginf(), 1e9, 1.0))
    assert grad.max() < 10


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 1, 1), (3, 3, 0), (2, 3, 1), (5, 2, 2)]
)
def test_gradient_adds_as_torch_does(kernel, stride, padding, layout):
    """Planes narrower and wider than a vector, first and last of the tensor or between others: torch's bits."""
    for channels, height, width in ((1, 5, 5), (3, 7, 6), (19, 14, 14), (17, 8, 33), (9, 21, 67)):
        x = LAYOUTS[layout](special((2, channels, height, width), torch.float32, width)).requires_grad_()
        output = convkit.max_pool2d(x, kernel, stride, padding)
        grad_output = torch.randn(output.shape)
        (ours,) = torch.autograd.grad(output, x, grad_output)
        (torchs_own,) = torch.autograd.grad(F.max_pool2d(x, kernel, stride, padding), x, grad_output)
        assert same_bits(ours, torchs_own)


def saved_bytes(call):
    sizes = []

    def pack(tensor):
        sizes.append(tensor.untyped_storage().nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        return call(), sum(sizes)


@FORMATS
@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize(("kernel", "bytes_each"), [(2, 1), ((15, 17), 1), ((16, 16), 4)])
def test_saves_one_byte_per_value(kernel, bytes_each, dtype, layout):
    x = LAYOUTS[layout](torch.randn(2, 3, 32, 34, dtype=dtype)).requires_grad_()
    output, saved = saved_bytes(lambda: convkit.max_pool2d(x, kernel))
    assert saved == bytes_each * output.numel()


@FORMATS
def test_same_bits_on_any_threads_and_batch(layout):
    x = LAYOUTS[layout](special((8, 20, 61, 62), torch.float32))

    def run(images):
        images = images.detach().requires_grad_()
        output = convkit.max_pool2d(images, 3, 2, 1)
        (grad,) = torch.autograd.grad(output, images, torch.ones_like(output) / 3)
        return output.detach(), grad

    whole = run(x)
    for threads in (1, 2, 3, 8):
        torch.set_num_threads(threads)
        for batch in (1, 2, 3, 8):
            for part, all_of_it in zip(run(x[:batch]), whole, strict=True):
                assert same_bits(part, all_of_it[:batch])


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("arguments", [(2,), (2, 1), (3, 2, 1)], ids=str)
def test_a_gradient_of_negative_zeros_is_a_sum(arguments, memory_format):
    input = shapes.random((1, 16, 7, 8)).contiguous(memory_format=memory_format)
    gradients = []
    for pool in (convkit.max_pool2d, F.max_pool2d):
        leaf = input.clone(memory_format=torch.preserve_format).requires_grad_()
        output = pool(leaf, *arguments)
        output.backward(torch.full_like(output, -0.0))
        gradients.append(leaf.grad)
    assert torch.equal(*(gradient.signbit() for gradient in gradients))
