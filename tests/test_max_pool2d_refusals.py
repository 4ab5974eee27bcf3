"""Raw pooling ops trust no argument, and hostile calls of max_pool2d neither crash nor hang."""

import pytest
import torch
from _isolated import outcomes
from test_max_pool2d import FLOATING, FORMATS, LAYOUTS

OPS = torch.ops.convkit
GEOMETRY = ([2, 2], [2, 2], [0, 0], [1, 1])


@FORMATS
@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("window", [(2, 2), (2, 127)], ids=str)  # 254 positions: the last that may be dead
def test_dead_taps_pass_nothing(window, dtype, layout):
    geometry, size = (window, window, [0, 0], [1, 1]), [1, 9, 3 * window[0], 4 * window[1]]
    taps = LAYOUTS[layout](torch.full((1, 9, 3, 4), 255, dtype=torch.uint8))
    taps[0, 4, 1, 2] = 1
    grad_output = LAYOUTS[layout](torch.full((1, 9, 3, 4), float("nan"), dtype=dtype))
    grad_output[0, 4, 1, 2] = 3
    expected = torch.zeros(size, dtype=dtype)
    expected[0, 4, window[0], 2 * window[1] + 1] = 3
    for channels_last in (False, True):
        assert torch.equal(OPS.max_pool2d_backward(grad_output, taps, size, channels_last, *geometry), expected)
    gathered = OPS.max_pool2d_gather(torch.ones(size, dtype=dtype), taps, *geometry)
    assert torch.equal(gathered, (taps == 1).to(dtype))


def taps_like(value, size=(1, 1, 3, 4), dtype=torch.uint8):
    return torch.full(size, value, dtype=dtype)


LARGE = ([16, 16], [16, 16], [0, 0], [1, 1])
EDGE = ([15, 17], [15, 17], [0, 0], [1, 1])
PADDED = ([2, 2], [2, 2], [1, 1], [1, 1])
# What is wrong -> taps, size of grad_output, size of the input, geometry
WRONG = {
    "outside the window": (taps_like(4), (1, 1, 3, 4), [1, 1, 6, 8], GEOMETRY),
    "just below dead": (taps_like(254), (1, 1, 3, 4), [1, 1, 6, 8], GEOMETRY),
    "in padding": (taps_like(0), (1, 1, 3, 4), [1, 1, 5, 7], PADDED),
    "one of many outside": (taps_like(3).index_fill(3, torch.tensor(2), 77), (1, 1, 3, 4), [1, 1, 6, 8], GEOMETRY),
    "no dead tap in a window of 255": (taps_like(255, (1, 1, 1, 1)), (1, 1, 1, 1), [1, 1, 15, 17], EDGE),
    "outside a large window": (taps_like(256, (1, 1, 1, 1), torch.int32), (1, 1, 1, 1), [1, 1, 16, 16], LARGE),
    "no dead tap in a large window": (taps_like(-1, (1, 1, 1, 1), torch.int32), (1, 1, 1, 1), [1, 1, 16, 16], LARGE),
    "least int32": (taps_like(-(2**31), (1, 1, 1, 1), torch.int32), (1, 1, 1, 1), [1, 1, 16, 16], LARGE),
    "int32 for a small window": (taps_like(0, dtype=torch.int32), (1, 1, 3, 4), [1, 1, 6, 8], GEOMETRY),
    "uint8 for a large window": (taps_like(0, (1, 1, 1, 1)), (1, 1, 1, 1), [1, 1, 16, 16], LARGE),
    "int8": (taps_like(0, dtype=torch.int8), (1, 1, 3, 4), [1, 1, 6, 8], GEOMETRY),
    "int64": (taps_like(0, dtype=torch.int64), (1, 1, 3, 4), [1, 1, 6, 8], GEOMETRY),
    "float32": (taps_like(0, dtype=torch.float32), (1, 1, 3, 4), [1, 1, 6, 8], GEOMETRY),
    "grad_output": (taps_like(0), (1, 1, 3, 3), [1, 1, 6, 8], GEOMETRY),
    "rank of grad_output": (taps_like(0), (1, 3, 4), [1, 1, 6, 8], GEOMETRY),
    "taps": (taps_like(0, (1, 1, 3, 5)), (1, 1, 3, 5), [1, 1, 6, 8], GEOMETRY),
    "batch": (taps_like(0, (2, 1, 3, 4)), (2, 1, 3, 4), [1, 1, 6, 8], GEOMETRY),
    "channels": (taps_like(0, (1, 2, 3, 4)), (1, 2, 3, 4), [1, 1, 6, 8], GEOMETRY),
    "rank of taps": (taps_like(0, (1, 3, 4)), (1, 3, 4), [1, 1, 6, 8], GEOMETRY),
    "outside the image": (taps_like(1, (1, 1, 3, 5)), (1, 1, 3, 5), [1, 1, 6, 9], GEOMETRY),
    "rank": (taps_like(0), (1, 1, 3, 4), [1, 6, 8], GEOMETRY),
    "geometry": (taps_like(0), (1, 1, 3, 4), [1, 1, 6, 8], ([2], [2, 2], [0, 0], [1, 1])),
    "stride 0": (taps_like(0), (1, 1, 3, 4), [1, 1, 6, 8], ([2, 2], [0, 2], [0, 0], [1, 1])),
}


@pytest.mark.parametrize(("taps", "grad_size", "input_size", "geometry"), WRONG.values(), ids=WRONG)
def test_raw_ops_trust_no_taps(taps, grad_size, input_size, geometry):
    with pytest.raises(RuntimeError, match="max_pool2d_backward: "):
        OPS.max_pool2d_backward(torch.ones(grad_size), taps, input_size, False, *geometry)
    if grad_size == taps.shape:
        with pytest.raises(RuntimeError, match="max_pool2d_gather: "):
            OPS.max_pool2d_gather(torch.ones(input_size), taps, *geometry)
        with pytest.raises(RuntimeError, match="max_pool2d_indices: "):
            OPS.max_pool2d_indices(taps, input_size, *geometry)


@pytest.mark.parametrize(
    "size", [[-1, 1, 6, 8], [1, -1, 6, 8], [1, 1, -6, 8], [1, 1, 6, 2**62], [2**62, 1, 6, 8]], ids=str
)
def test_raw_ops_trust_no_input_size(size):
    with pytest.raises(RuntimeError, match="max_pool2d_backward: "):
        OPS.max_pool2d_backward(torch.ones(1, 1, 3, 4), taps_like(0), size, False, *GEOMETRY)
    with pytest.raises(RuntimeError, match="max_pool2d_indices: "):
        OPS.max_pool2d_indices(taps_like(0), size, *GEOMETRY)


def test_raw_ops_refuse_integers():
    for dtype in (torch.int32, torch.bool, torch.complex64):
        with pytest.raises(RuntimeError, match="max_pool2d_backward"):
            OPS.max_pool2d_backward(torch.ones(1, 1, 3, 4).to(dtype), taps_like(0), [1, 1, 6, 8], False, *GEOMETRY)
        with pytest.raises(RuntimeError, match="max_pool2d_gather"):
            OPS.max_pool2d_gather(torch.ones(1, 1, 6, 8).to(dtype), taps_like(0), *GEOMETRY)


HUGE = [-(2**62), -1, 0, 2**31 - 1, 2**31, 2**62, 2**63 - 1]
ARGUMENTS = ("kernel_size", "stride", "padding", "dilation")


def calls_with(value):
    """With one argument of that value, in both dimensions or in one."""
    for name in ARGUMENTS:
        kernel = "" if name == "kernel_size" else "2, "
        for text in (f"{value}", f"({value}, 1)", f"(1, {value})"):
            yield name, f"max_pool2d(x, {kernel}{name}={text})"


HOSTILE = [
    *[call for value in HUGE for _name, call in calls_with(value)],
    *[f"max_pool2d(x, 2, {name}={value!r})" for name in ARGUMENTS[1:] for value in ((), (2,), (1, 1, 1), 1.0, "1")],
    *[f"max_pool2d(x, 2, {name}=2**63)" for name in ARGUMENTS[1:]],
    *[f"max_pool2d(x, 2, 2, 0, 1, {mode})" for mode in (True, None, "'no'", 1.0, 2**62)],
    "max_pool2d(x, 2, padding=2)",
    "max_pool2d(x, 3, 1, padding=2, dilation=2)",  # more than half of the kernel, not of the dilated one
    "max_pool2d(x, (1, 2), 1, padding=(0, 2), dilation=(1, 3))",
    "max_pool2d(x, 2, padding=1, dilation=2**62)",
    "max_pool2d(x, 2, 2**62, 1, 1, True)",
    "max_pool2d(x, 2**62, 2**62, 2**61, 1, True)",
    "max_pool2d(x, 2**31, 2**31, 2**30, 2**31, True)",
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


def test_a_window_too_large_to_record_its_winner_is_refused():
    """Its maximum alone is not; torch's gradient may take forever."""
    source = f"from convkit import max_pool2d\n{PREPARE}"
    calls = (
        "max_pool2d(x.requires_grad_(), 2**30, padding=2**29)",
        "max_pool2d(x, 2**30, padding=2**29, return_indices=True)[0]",
        "max_pool2d(x.requires_grad_(), (2**16, 2**15), padding=(2**15, 2**14))",
    )
    for kind, message in outcomes({call: f"{source}result = {call}.shape" for call in calls}, seconds=10).values():
        assert kind == "RuntimeError"
        assert "max_pool2d" in message
        assert "kernel_size" in message


@pytest.mark.parametrize(
    ("name", "value", "call"),
    [
        (name, value, call)
        for value in (-(2**62), -1, 0)
        for name, call in calls_with(value)
        if (name, value) != ("padding", 0)
    ],
)
def test_a_refusal_names_argument_and_value(hostile, name, value, call):
    kind, message = hostile[0][call]
    assert kind == "RuntimeError"
    assert name in message
    assert str(value) in message
