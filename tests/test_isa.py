"""The numeric core on every instruction set that this machine has beside its best, which all other tests use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from convkit import _C

TESTS = Path(__file__).parent
CORE = (
    "(test_values_and_gradients and (torch.float32 or torch.bfloat16)) or test_a_value_that_is_not_finite"
    " or test_integers_are_exact or test_special_windows or (test_same_bits and large) or mobilenet or seven or resnext"
    " or few_ or knows_which_columns"
)
FILES = [
    str(TESTS / f"test_{name}.py")
    for name in (
        *("conv2d", "conv2d_backward_weight", "conv2d_depthwise", "conv2d_grouped", "conv2d_extremes"),
        *("linear", "conv_block"),
    )
]


def run(isa, *command):
    environment = {**os.environ, "CONVKIT_ISA": isa}
    process = [sys.executable, *command]
    return subprocess.run(process, cwd=TESTS.parent, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512", "avx512_bf16"])
def test_numeric_core(isa):
    if isa not in _C.supported_isas():
        pytest.skip(f"this machine does not run {isa}")
    if isa == _C.isa():
        pytest.skip(f"this whole run uses {isa}")
    used = run(isa, "-c", "from convkit import _C; print(_C.isa())")
    assert used.stdout.split() == [isa], used.stderr
    result = run(isa, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-k", CORE, *FILES)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-1000:]
    assert "passed" in result.stdout
