"""torch's switches for float32 convolutions on CUDA, read as torch reads them; on fake tensors, which need no GPU."""

import json
import sys

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import convkit
from tests._tree import HOME, run


class Calls(TorchDispatchMode):
    """Notes each convolution of convkit with the algorithm that it is called with."""

    def __init__(self):
        super().__init__()
        self.made = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        namespace, name = function.name().split("::")
        if namespace == "convkit" and name.startswith("conv2d") and "bias" not in name:
            self.made.append((name, next(a for a in args if isinstance(a, str) and a.startswith("auto"))))
        return function(*args, **kwargs or {})


# What a user sets, in a fresh process -> whether torch's convolutions may then round float32 to TF32.
SETTINGS = {
    "nothing": ("", True),  # torch's default for convolutions, though not for products of matrices
    "everything ieee": ("b.fp32_precision = 'ieee'", False),
    "everything tf32": ("b.fp32_precision = 'tf32'", True),
    "everything and back": ("b.fp32_precision = 'ieee'; b.fp32_precision = 'none'", True),
    "cudnn ieee": ("b.cudnn.fp32_precision = 'ieee'", False),
    "cudnn over everything": ("b.fp32_precision = 'ieee'; b.cudnn.fp32_precision = 'tf32'", True),
    "conv ieee": ("b.cudnn.conv.fp32_precision = 'ieee'", False),
    "conv tf32": ("b.cudnn.conv.fp32_precision = 'tf32'", True),
    "conv over cudnn": ("b.cudnn.fp32_precision = 'tf32'; b.cudnn.conv.fp32_precision = 'ieee'", False),
    "conv over everything": ("b.fp32_precision = 'ieee'; b.cudnn.conv.fp32_precision = 'tf32'", True),
    "rnn only": ("b.cudnn.rnn.fp32_precision = 'ieee'", True),
    "matmul only": ("b.cuda.matmul.fp32_precision = 'ieee'", True),
    "the old switch off": ("b.cudnn.allow_tf32 = False", False),
    "the old switch on": ("b.cudnn.allow_tf32 = False; b.cudnn.allow_tf32 = True", True),
    "the old switch of matmul": ("b.cuda.matmul.allow_tf32 = False", True),
    "matmul precision": ("torch.set_float32_matmul_precision('highest')", True),
}
# torch has no way to unset a switch: a process each, forked where nothing has been set.
READ = """
import json, os, sys
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from convkit.ops._float32_precision import follow_torch

with FakeTensorMode():
    float32, bfloat16 = (torch.empty(1, device="cuda", dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
for name, setting in json.loads(sys.argv[1]).items():
    if child := os.fork():
        assert os.waitpid(child, 0)[1] == 0, name
        continue
    exec(setting, {"torch": torch, "b": torch.backends})
    algorithms = [follow_torch("auto", float32), follow_torch("auto", bfloat16), follow_torch("direct", float32)]
    algorithms.append(follow_torch("auto", torch.empty(1)))
    print(json.dumps([name, algorithms]), flush=True)
    os._exit(0)
"""


@pytest.fixture(scope="module")
def algorithms():
    settings = json.dumps({name: setting for name, (setting, _) in SETTINGS.items()})
    return dict(map(json.loads, run(sys.executable, "-c", READ, settings, cwd=HOME).splitlines()))


@pytest.mark.parametrize("name", SETTINGS)
def test_auto_may_round_float32_where_torch_may(algorithms, name):
    _, may_round = SETTINGS[name]
    assert algorithms[name] == ["auto_tf32" if may_round else "auto", "auto", "direct", "auto"]


@pytest.mark.parametrize(("precision", "algorithm"), [("ieee", "auto"), ("tf32", "auto_tf32")])
def test_the_op_is_called_with_it(precision, algorithm):
    """Fused or not; gradients take that of their call, but torch has none of fake CUDA tensors."""
    before = torch.backends.cudnn.conv.fp32_precision
    torch.backends.cudnn.conv.fp32_precision = precision
    try:
        with FakeTensorMode(), Calls() as calls:
            x, w = (torch.empty(size, device="cuda") for size in ((2, 8, 6, 6), (8, 8, 3, 3)))
            convkit.conv2d(x, w)
            convkit.conv2d(x, w, activation="relu")
            convkit.conv2d(x, w, max_pool=2)
            convkit.conv2d(x.double(), w.double())
    finally:
        torch.backends.cudnn.conv.fp32_precision = before
    assert calls.made == [
        ("conv2d", algorithm),
        ("conv2d", algorithm),
        ("conv2d_max_pool2d", algorithm),
        ("conv2d", "auto"),
    ]
