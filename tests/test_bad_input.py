"""Calls that cannot be: each raises what torch raises, says why, writes nothing, and no process is lost."""

import pytest
from _isolated import outcomes

PREPARE = """
x, w, b = torch.ones(2, 4, 6, 7), torch.ones(8, 4, 3, 3), torch.ones(8)
m, v = torch.ones(5, 6), torch.ones(3, 6)
before = [t.clone() for t in (x, w, b, m, v)]
g, geometry = torch.ones(2, 8, 4, 5), ([1, 1], [0, 0, 0, 0], [1, 1], 1)
raw = torch.ops.convkit
"""
CHECK = """
except Exception as error:
    for now, was in zip((x, w, b, m, v), before):
        assert torch.equal(now, was), "the call wrote into its tensors"
    raise
"""
CONVKIT, TORCH = "import convkit as K\n", "import torch.nn.functional as K\n"

# The call -> what its message must say, beside the name of the op.
CONV2D = {
    "K.conv2d(x[0, 0], w)": ["input", "[6, 7]"],
    "K.conv2d(x[None], w)": ["input", "[1, 2, 4, 6, 7]"],
    "K.conv2d(torch.ones(()), w)": ["input"],
    "K.conv2d(x, w[0])": ["weight", "[4, 3, 3]"],
    "K.conv2d(x, w[None])": ["weight", "[1, 8, 4, 3, 3]"],
    "K.conv2d(x[:, :3], w)": ["input", "[2, 3, 6, 7]", "4 channels", "3 channels"],
    "K.conv2d(x, w[:, :0])": ["weight", "[8, 0, 3, 3]"],
    "K.conv2d(x, w[:0])": ["weight", "[0, 4, 3, 3]"],
    "K.conv2d(x, w[:, :, :0])": ["weight", "[8, 4, 0, 3]"],
    "K.conv2d(x[:, :, :0], w)": ["0 x 7"],
    "K.conv2d(x, w.double())": ["input", "Float", "weight", "Double"],
    "K.conv2d(x.bfloat16(), w)": ["input", "BFloat16", "weight", "Float"],
    "K.conv2d(x, w, b.double())": ["bias", "Double"],
    "K.conv2d(x, w, b[:7])": ["bias", "[7]", "8"],
    "K.conv2d(x, w, b[:1])": ["bias", "[1]", "8"],
    "K.conv2d(x, w, b[None])": ["bias", "[1, 8]"],
    "K.conv2d(x, w, torch.ones(()))": ["bias", "[]"],
    "K.conv2d(x, w.to('meta'))": ["weight", "device"],
    "K.conv2d(x.to('meta'), w)": ["weight", "device"],
    "K.conv2d(x, w, b.to('meta'))": ["bias", "device"],
    "K.conv2d(None, w)": ["input", "NoneType"],
    "K.conv2d(x, None)": ["weight", "NoneType"],
    "K.conv2d(x, w, 1)": ["bias", "int"],
    "K.conv2d(x.numpy(), w)": ["input", "ndarray"],
    "K.conv2d(x, w, stride='2')": ["stride", "'2'"],
    "K.conv2d(x, w, stride=1.5)": ["stride", "1.5"],
    "K.conv2d(x, w, stride=True)": ["stride", "True"],
    "K.conv2d(x, w, padding=(0, False))": ["padding", "False"],
    "K.conv2d(x, w, stride=None)": ["stride", "None"],
    "K.conv2d(x, w, padding=None)": ["padding", "None"],
    "K.conv2d(x, w, dilation=(1, 1, 1))": ["dilation", "[1, 1, 1]"],
    "K.conv2d(x, w, stride=())": ["stride"],
    "K.conv2d(x, w, padding='full')": ["padding", "'full'"],
    "K.conv2d(x, w, padding='same', stride=2)": ["padding='same'", "stride"],
    "K.conv2d(x, w, groups=3)": ["groups=3", "[8, 4, 3, 3]"],
    "K.conv2d(x, w, groups=16)": ["groups=16", "[8, 4, 3, 3]"],
    "K.conv2d(x, w, groups=1.0)": ["groups", "1.0"],
    "K.conv2d(x, torch.ones(8, 4, 7, 3))": ["6 x 7", "7 x 3"],
    "K.conv2d(x, torch.ones(8, 4, 3, 10), padding=1)": ["8 x 9", "3 x 10"],
    "K.conv2d(x, w, dilation=4)": ["6 x 7", "9 x 9"],
    **{f"K.conv2d(x, w, {name}={value})": [name, str(value)]
       for name in ("stride", "dilation", "groups") for value in (0, -1, -(2**31), -(2**62))},
    **{f"K.conv2d(x, w, padding={value})": ["padding", str(value)] for value in (-1, -(2**31), -(2**63))},
    "K.conv2d(x, w, padding=(0, -1))": ["padding", "-1"],
    **{f"K.conv2d(x, w, dilation={value})": [] for value in (2**31 - 1, 2**31, 2**62, 2**63)},
    **{f"K.conv2d(x, w, padding={value})": [] for value in (2**31 - 1, 2**31, 2**62, 2**63)},
    **{f"K.conv2d(x, w, groups={value})": ["groups", str(value)] for value in (2**31 - 1, 2**31, 2**62)},
    **{f"K.conv2d(x, w, {name}=2**63)": [name, str(2**63)] for name in ("stride", "groups")},
}  # fmt: skip
LINEAR = {
    "K.linear(m, v[:, :5])": ["[5, 6]", "[3, 5]"],
    "K.linear(m[0, 0], v)": ["input", "[]"],
    "K.linear(m, v[None])": ["weight", "[1, 3, 6]"],
    "K.linear(m, v[0, 0])": ["weight", "[]"],
    "K.linear(m, v.double())": ["input", "Float", "weight", "Double"],
    "K.linear(m, v, b[:3].double())": ["bias", "Double"],
    "K.linear(m, v, b[:2])": ["bias", "[2]"],
    "K.linear(m, v, b)": ["bias", "[8]"],
    "K.linear(m, v.to('meta'))": ["weight", "device"],
    "K.linear(None, v)": ["input", "NoneType"],
    "K.linear(m, None)": ["weight", "NoneType"],
    "K.linear(m, v, 0.5)": ["bias", "float"],
}
RELU = {
    "K.relu(None)": ["input", "NoneType"],
    "K.relu(1.0)": ["input", "float"],
    "K.relu(x > 0)": ["Boolean", "bool"],
    "K.relu(x.to(torch.complex64))": ["complex"],
    "K.relu(x[:1].expand(5, 4, 6, 7), inplace=True)": ["single memory location"],
    "K.relu(x.clone().requires_grad_(), inplace=True)": ["leaf"],
}
# Of convkit alone, so torch is not asked.
OWN = {
    "K.conv2d(x, w, activation='tanh')": ["activation", "'tanh'"],
    "K.conv2d(x, w, activation=1)": ["activation", "1"],
    "K.conv2d(x, w, max_pool=True)": ["max_pool", "True"],
    "K.conv2d(x, w, algorithm='fastest')": ["algorithm", "'fastest'"],
    "K.conv2d(x, w, algorithm=None)": ["algorithm", "None"],
    "K.linear(m, v, activation='tanh')": ["activation", "'tanh'"],
    "raw.conv2d(x, w, None, [0, 1], [0] * 4, [1, 1], 1, 'none', 'auto')": ["stride", "[0, 1]"],
    "raw.conv2d(x, w, None, [1], [0] * 4, [1, 1], 1, 'none', 'auto')": ["stride", "[1]"],
    "raw.conv2d(x, w, None, [1, 1], [0, 0], [1, 1], 1, 'none', 'auto')": ["padding", "[0, 0]"],
    "raw.conv2d(x, w, None, [1, 1], [2**62] * 4, [1, 1], 1, 'none', 'auto')": ["padding"],
    "raw.conv2d(x, w, None, [1, 1], [0] * 4, [1, 1], 1, 'tanh', 'auto')": ["activation", "'tanh'"],
    "raw.conv2d_backward_input(x, w, [2, 4, 6, 7], False, *geometry, 'auto')": ["grad_output", "[2, 4, 6, 7]"],
    "raw.conv2d_backward_input(x[0], w, [2, 4, 6, 7], False, *geometry, 'auto')": ["grad_output", "[4, 6, 7]"],
    "raw.conv2d_backward_input(g, w, [2, 4, 6], False, *geometry, 'auto')": ["[2, 4, 6]"],
    "raw.conv2d_backward_input(g, w, [2, -4, 6, 7], False, *geometry, 'auto')": ["-4"],
    "raw.conv2d_backward_input(g, w, [-2, 4, 6, 7], False, *geometry, 'auto')": ["-2"],
    "raw.conv2d_backward_input(g, w, [2**62, 4, 6, 7], False, *geometry, 'auto')": [],
    "raw.conv2d_backward_input(g, w.double(), [2, 4, 6, 7], False, *geometry, 'auto')": ["Double"],
    "raw.conv2d_backward_weight(x, x, [8, 4, 3, 3], False, *geometry, 'auto')": ["grad_output", "[2, 4, 6, 7]"],
    "raw.conv2d_backward_weight(g, x, [8, 4, 3], False, *geometry, 'auto')": ["[8, 4, 3]"],
    "raw.conv2d_backward_weight(g, x, [8, 4, 0, 3], False, *geometry, 'auto')": ["[8, 4, 0, 3]"],
    "raw.conv2d_backward_weight(g, x, [8, 4, -3, 3], False, *geometry, 'auto')": ["-3"],
    "raw.conv2d_backward_weight(g, x, [2**62, 4, 3, 3], False, *geometry, 'auto')": [],
    "raw.conv2d_backward_weight(g, x[:1], [8, 4, 3, 3], False, *geometry, 'auto')": ["[2, 8, 4, 5]"],
    "raw.conv2d_backward_bias(b)": ["grad_output", "[8]"],
    "raw.linear(x, v, None, 'none')": ["[2, 4, 6, 7]"],
    "raw.linear(m, v, None, 'tanh')": ["activation", "'tanh'"],
    "raw.relu_backward(x, w)": ["[2, 4, 6, 7]", "[8, 4, 3, 3]"],
}  # fmt: skip
# Huge, but what they ask for is small: a step beyond the image; a window of mostly padding.
LEGAL = {
    **{f"K.conv2d(x, w, stride={value})": "(2, 8, 1, 1)" for value in (2**31 - 1, 2**31, 2**62, 2**63 - 1)},
    "K.conv2d(x, w, padding=2**40, dilation=2**40)": "(2, 8, 6, 7)",
}

BOTH = {**CONV2D, **LINEAR, **RELU}
ALL = {**BOTH, **OWN}


def code_of(prologue, call):
    return f"{prologue}{PREPARE}try:\n    result = tuple({call}.shape){CHECK}"


@pytest.fixture(scope="module")
def ours():
    return outcomes({call: code_of(CONVKIT, call) for call in [*ALL, *LEGAL]})


@pytest.fixture(scope="module")
def torchs():
    return outcomes({call: code_of(TORCH, call) for call in BOTH})


@pytest.mark.parametrize("call", ALL)
def test_is_refused_with_op_argument_and_value(ours, call):
    kind, message = ours[call]
    assert kind not in ("lost", "returned"), f"{call} {kind}: {message}"
    assert kind in ("RuntimeError", "TypeError", "ValueError", "NotImplementedError"), f"{kind}: {message}"
    op = call.split("(")[0].split(".")[1]
    for part in [op, *ALL[call]]:
        assert part in message, f"{kind}: {message}"


@pytest.mark.parametrize("call", BOTH)
def test_raises_torchs_exception(ours, torchs, call):
    """Where torch itself raises: for some of these it returns garbage."""
    kind, message = torchs[call]
    if kind not in ("lost", "returned"):
        assert ours[call][0] == kind, f"torch: {message}\nconvkit: {ours[call][1]}"


@pytest.mark.parametrize("call", LEGAL)
def test_a_huge_argument_may_be_legal(ours, call):
    assert ours[call] == ("returned", LEGAL[call])
