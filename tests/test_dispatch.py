"""Every op of csrc/library.cpp is complete: a kernel per device, a gradient, a fake; and says so where it is not."""

import re

import pytest
import torch
from torch._C import DispatchKey, DispatchKeySet

import convkit
from tests._tree import CUDA_ARCHS, OPS, ROOT


def registrations(op, key):
    """Where kernels of this key were registered, the active one first."""
    dump = torch._C._dispatch_dump(f"convkit::{op}")
    return re.findall(rf"^{key}(?:\[alias\])?(?: \(inactive\))?: registered at (\S+):\d+ ", dump, re.MULTILINE)


def call_on_cuda_key(op):
    """Calls the op's CUDA kernel with CPU tensors and any other arguments, and returns the message of its error."""
    overload = getattr(torch.ops.convkit, op).default
    values = {"Tensor": torch.ones(1, 1, 2, 2), "bool": False, "int": 1, "str": "", "List[int]": [1, 1], "float": 0.0}
    values |= {"Optional[Tensor]": None, "List[SymInt]": [1, 1]}
    arguments = [values[str(argument.type)] for argument in overload._schema.arguments]
    with pytest.raises(RuntimeError) as error:
        overload.redispatch(DispatchKeySet(DispatchKey.CUDA), *arguments)
    return str(error.value)


def test_the_schemas_are_those_of_the_source():
    assert {f"convkit::{op}" for op in OPS} == {
        name for name in torch._C._dispatch_get_all_op_names() if name.startswith("convkit::")
    }


@pytest.mark.parametrize("key", ["CPU", "CUDA", "Autograd", "Meta"])
@pytest.mark.parametrize("op", OPS)
def test_every_op_has_one_kernel_for(op, key):
    assert len(registrations(op, key)) == 1


def test_ops_are_listed_once_as_with_or_without_a_cuda_kernel():
    text = (ROOT / "csrc" / "cuda" / "absent.cpp").read_text()
    assert sorted(re.findall(r"\bOP\((\w+)\)", text)) == sorted(OPS)


@pytest.mark.parametrize("op", OPS)
def test_the_cuda_kernel_says_what_is_missing(op):
    # Without a GPU the CUDA kernels can still be asked to work on a CPU tensor, and must refuse.
    message = call_on_cuda_key(op)
    absent = registrations(op, "CUDA") == ["csrc/cuda/absent.cpp"]
    if not CUDA_ARCHS:
        assert absent
        assert re.fullmatch(
            rf"convkit\.{op}: convkit was built without its CUDA kernels \(.*\); install it .*", message
        )
    elif absent:
        assert message == f"convkit.{op} has no CUDA kernel; move the tensors to the CPU"
    else:
        assert message.startswith(f"{op}: expected CUDA tensors, but got one on cpu")


@pytest.mark.skipif(not CUDA_ARCHS, reason="this convkit was built without CUDA kernels")
def test_the_plan_of_a_cuda_call_has_a_reason_for_every_algorithm_but_one():
    shape = [2, 16, 9, 9, 16, 9, 9, 3, 3, 1, 1, 1, 1, 1, 1, 16]
    plan = convkit._library._C.cuda_conv2d_plan("forward", shape, "float32", "auto")
    assert plan["algorithm"] == "depthwise"
    assert plan["passed_over"]["winograd"] == "it has no CUDA kernel"
    assert plan["passed_over"]["generic"] == "an earlier choice serves"
    assert all(plan["passed_over"].values())
    plan = convkit._library._C.cuda_conv2d_plan("backward_weight", shape, "float64", "auto")
    assert plan["algorithm"] == "generic"
