"""max_pool2d is torch's bit for bit: values, indices, NaN, ties, signs of zero. Its gradient needs one byte a value."""

import functools

import pytest
import torch
import torch.nn.functional as F
from _isolated import outcomes
from hypothesis import given, settings
from hypothesis import strategies as st

import convkit
from convkit.testing import shapes

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
}


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
    """torch's values and indices; through int32 where torch refuses narrow integers."""
    wide = x if x.dtype.is_floating_point else x.to(torch.int32)
    values, indices = F.max_pool2d(wide, *pooling, return_indices=True)
    return values.to(x.dtype), indices


def assert_as_torch(x, *pooling):
    values, indices = torchs(x, *pooling)
    ours, our_indices = convkit.max_pool2d(x, *pooling, return_indices=True)
    assert same_bits(ours, values)
    assert torch.equal(our_indices, indices)
    assert (ours.stride(), our_indices.stride()) == (values.stride(), indices.stride())
    assert same_bits(convkit.max_pool2d(x, *pooling), values), "without indices"


@pytest.mark.parametrize("pooling", POOLINGS, ids=str)
@pytest.mark.parametrize("dtype", [*FLOATING, *INTEGERS], ids=str)
def test_values_and_indices(dtype, pooling):
    for seed, (layout, arrange) in enumerate(LAYOUTS.items()):
        assert_as_torch(arrange(special((2, 17, 13, 18), dtype, seed)), *pooling), layout


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("pooling", [(2, 2), (3, 2, 1), (2, 1), (3, 3)], ids=str)
def test_every_width_around_a_vector(pooling, layout):
    for width in (*range(3, 21), 31, 32, 33, 34, 63, 64, 65, 66, 67):
        assert_as_torch(LAYOUTS[layout](special((1, 3, 5, width), torch.float32, width)), *pooling)
        assert_as_torch(LAYOUTS[layout](special((1, width, 4, 5), torch.float32, width)), *pooling)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_windows_of_infinities_and_zeros(layout):
    for value in (float("-inf"), -0.0, 0.0, float("nan")):
        x = LAYOUTS[layout](torch.full((1, 9, 8, 9), value))
        for pooling in POOLINGS:
            assert_as_torch(x, *pooling)


def test_large_windows_unbatched_and_empty():
    x = special((2, 3, 40, 37), torch.float32)
    for pooling in ((16, 3, 8), ((40, 37),), ((17, 16), 2, (8, 8)), (40, 40, 20)):
        assert_as_torch(x[..., :37], *pooling)
    assert_as_torch(x[0], 3, 2, 1)
    assert_as_torch(x[:0], 3, 2, 1)
    assert_as_torch(x[:, :1, :1, :1], 1)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(data=st.data())
def test_any_shape(data):
    draw = functools.partial(data.draw, st.integers(1, 20))
    kernel = [data.draw(st.integers(1, 5)) for _ in range(2)]
    stride = [data.draw(st.integers(1, 4)) for _ in range(2)]
    padding = [data.draw(st.integers(0, k // 2)) for k in kernel]
    dilation = data.draw(st.integers(1, 2))
    size = (data.draw(st.integers(0, 2)), draw(), draw() + dilation * 4, draw() + dilation * 4)
    layout = data.draw(st.sampled_from([*LAYOUTS]))
    x = LAYOUTS[layout](special(size, torch.float32, draw()))
    assert_as_torch(x, kernel, stride, padding, dilation, data.draw(st.booleans()))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("pooling", POOLINGS, ids=str)
def test_gradient(pooling, dtype, layout):
    x = LAYOUTS[layout](shapes.random((2, 9, 13, 18), dtype, seed=1)).requires_grad_()
    output = convkit.max_pool2d(x, *pooling)
    grad_output = shapes.random(output.shape, dtype, seed=2)
    (grad,) = torch.autograd.grad(output, x, grad_output)
    exact_x = x.detach().double().requires_grad_()
    (exact,) = torch.autograd.grad(F.max_pool2d(exact_x, *pooling), exact_x, grad_output.double())
    # A sum of at most 9 gradients, rounded once where the dtype has 16 bits.
    assert (grad.double() - exact).abs().max() <= 8 * torch.finfo(dtype).eps * exact.abs().max()
    assert grad.stride() == x.stride()


def test_a_window_outside_the_image_passes_no_gradient():
    """Dilation can step over a small image; torch gives such a window's gradient to a pixel of another row."""
    x = torch.randn(1, 1, 3, 2, requires_grad=True)
    output = convkit.max_pool2d(x, (1, 2), 1, (0, 1), (1, 3))
    assert output.isneginf().any()
    (grad,) = torch.autograd.grad(output, x, torch.where(output.isneginf(), 1e9, 1.0))
    assert grad.max() < 10


def saved_bytes(call):
    sizes = []

    def pack(tensor):
        sizes.append(tensor.untyped_storage().nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        return call(), sum(sizes)


@pytest.mark.parametrize(("kernel", "bytes_each"), [(2, 1), ((15, 17), 1), ((16, 16), 4)])
def test_saves_one_byte_per_value(kernel, bytes_each):
    x = torch.randn(2, 3, 32, 34, requires_grad=True)
    output, saved = saved_bytes(lambda: convkit.max_pool2d(x, kernel))
    assert saved == bytes_each * output.numel()


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_same_bits_on_any_threads_and_batch(layout):
    x = LAYOUTS[layout](special((8, 20, 61, 62), torch.float32))

    def run(images):
        images = images.detach().requires_grad_()
        output = convkit.max_pool2d(images, 3, 2, 1)
        (grad,) = torch.autograd.grad(output, images, torch.ones_like(output) / 3)
        return output.detach(), grad

    before = torch.get_num_threads()
    whole = run(x)
    try:
        for threads in (1, 2, 3, 8):
            torch.set_num_threads(threads)
            for batch in (1, 2, 3, 8):
                for part, all_of_it in zip(run(x[:batch]), whole, strict=True):
                    assert same_bits(part, all_of_it[:batch])
    finally:
        torch.set_num_threads(before)


OPS = torch.ops.convkit
GEOMETRY = ([2, 2], [2, 2], [0, 0], [1, 1])


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_dead_taps_pass_nothing(layout):
    taps = LAYOUTS[layout](torch.full((1, 9, 3, 4), 255, dtype=torch.uint8))
    grad_output = LAYOUTS[layout](torch.full((1, 9, 3, 4), float("nan")))
    for channels_last in (False, True):
        grad = OPS.max_pool2d_backward(grad_output, taps, [1, 9, 6, 8], channels_last, *GEOMETRY)
        assert torch.equal(grad, torch.zeros(1, 9, 6, 8))
    assert torch.equal(OPS.max_pool2d_gather(torch.ones(1, 9, 6, 8), taps, *GEOMETRY), torch.zeros(1, 9, 3, 4))


@pytest.mark.parametrize(
    ("taps", "grad_size", "input_size"),
    [
        (torch.full((1, 1, 3, 4), 4, dtype=torch.uint8), (1, 1, 3, 4), [1, 1, 6, 8]),
        (torch.zeros(1, 1, 3, 4, dtype=torch.int32), (1, 1, 3, 4), [1, 1, 6, 8]),
        (torch.zeros(1, 1, 3, 4, dtype=torch.uint8), (1, 1, 3, 3), [1, 1, 6, 8]),
        (torch.zeros(1, 1, 3, 5, dtype=torch.uint8), (1, 1, 3, 5), [1, 1, 6, 8]),
        (torch.ones(1, 1, 3, 5, dtype=torch.uint8), (1, 1, 3, 5), [1, 1, 6, 9]),
        (torch.zeros(1, 1, 3, 4, dtype=torch.uint8), (1, 1, 3, 4), [1, 6, 8]),
    ],
    ids=["outside the window", "dtype", "grad_output", "taps", "outside the image", "rank"],
)
def test_raw_backward_trusts_nothing(taps, grad_size, input_size):
    with pytest.raises(RuntimeError, match="max_pool2d_backward: "):
        OPS.max_pool2d_backward(torch.ones(grad_size), taps, input_size, False, *GEOMETRY)
    if grad_size == taps.shape:
        with pytest.raises(RuntimeError, match="max_pool2d_gather: "):
            OPS.max_pool2d_gather(torch.ones(input_size), taps, *GEOMETRY)


HUGE = [0, -1, 2**31 - 1, 2**31, 2**62]
HOSTILE = [
    *[f"max_pool2d(x, {value})" for value in HUGE],
    *[f"max_pool2d(x, 2, stride={value})" for value in HUGE],
    *[f"max_pool2d(x, 2, padding={value})" for value in HUGE[1:]],
    *[f"max_pool2d(x, 2, dilation={value})" for value in HUGE],
    "max_pool2d(x, 2**30, padding=2**29)",
    "max_pool2d(x, (1, 2**30), padding=(0, 2**29))",
    "max_pool2d(x, 2**63)",
    "max_pool2d(x, (2, 2, 2))",
    "max_pool2d(x, 2.0)",
    "max_pool2d(x, None)",
    "max_pool2d(None, 2)",
    "max_pool2d(x[0, 0], 2)",
    "max_pool2d(x[:, :0], 2)",
    "max_pool2d(x.bool(), 2)",
    "max_pool2d(x.to(torch.complex64), 2)",
]
PREPARE = "import torch\nx = torch.arange(2 * 3 * 6 * 7.0).view(2, 3, 6, 7)\n"


@pytest.fixture(scope="module")
def hostile():
    results = []
    for source in ("from convkit import max_pool2d\n", "from torch.nn.functional import max_pool2d\n"):
        results.append(outcomes({call: f"{source}{PREPARE}result = {call}.shape" for call in HOSTILE}, seconds=10))
    return results


@pytest.mark.parametrize("call", HOSTILE)
def test_hostile_arguments(hostile, call):
    """An answer or an error that names the op, never a crash or a hang; torch's type of error where torch has one."""
    (kind, message), (torchs_kind, torchs_message) = (result[call] for result in hostile)
    assert kind != "lost", message
    if torchs_kind == "returned":
        assert (kind, message) == (torchs_kind, torchs_message)
    elif torchs_kind != "lost" and not (kind == "returned" and "overflow" in torchs_message):  # torch's int has 32 bits
        assert kind == torchs_kind, f"torch: {torchs_message}\nconvkit: {message}"
    if kind != "returned":
        assert "max_pool2d" in message
