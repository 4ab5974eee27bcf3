"""torch's own samples and error inputs (OpInfo) for the functions that convkit stands in for."""

import functools

import pytest
import torch

import convkit
from convkit.testing import tolerances

pytest.importorskip("expecttest", reason="torch's own test helpers import it")
from torch.testing._internal.common_methods_invocations import op_db

FUNCTIONS = {
    "nn.functional.conv2d": convkit.conv2d,
    "nn.functional.linear": convkit.linear,
    "nn.functional.max_pool2d": convkit.max_pool2d,
    "nn.functional.relu": convkit.relu,
}
OPS = {op.name: op for op in op_db if op.name in FUNCTIONS}
SUMS = ("nn.functional.conv2d", "nn.functional.linear")
FLOATING = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]


@pytest.fixture(autouse=True)
def one_thread():
    """The samples are tiny and many: on a busy machine most of the time would go into waiting for threads."""
    torch.set_num_threads(1)


def cases(dtypes_of_sums, dtypes_of_others):
    """Pairs (name, dtype) among the dtypes that torch's own function takes on the CPU."""
    for name, op in OPS.items():
        for dtype in dtypes_of_sums if name in SUMS else dtypes_of_others:
            if dtype in op.dtypes:
                yield pytest.param(name, dtype, id=f"{name.rsplit('.', 1)[1]}-{str(dtype).removeprefix('torch.')}")


def samples_of(name, dtype, requires_grad=False):
    """The samples, each also with tensors that are not contiguous."""
    for sample in OPS[name].sample_inputs("cpu", dtype, requires_grad=requires_grad):
        yield sample
        yield sample.noncontiguous()


def split(sample):
    """The tensors of a sample, and a way to call a function with other ones in their places."""
    values = [sample.input, *sample.args]
    keys = [*range(len(values)), *sample.kwargs]
    values += sample.kwargs.values()
    tensors = {key: value for key, value in zip(keys, values, strict=True) if isinstance(value, torch.Tensor)}

    def call(function, *replaced):
        now = {**dict(zip(keys, values, strict=True)), **dict(zip(tensors, replaced, strict=True))}
        positional = [now.pop(i) for i in range(1 + len(sample.args))]
        return function(*positional, **now)

    return list(tensors.values()), call


def first(result):
    """Values without indices."""
    return result[0] if isinstance(result, tuple) else result


def assert_exactly(actual, expected):
    pairs = [r if isinstance(r, tuple) else (r,) for r in (actual, expected)]
    for one, other in zip(*pairs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True, check_stride=True)


@pytest.mark.parametrize(("name", "dtype"), cases(FLOATING, FLOATING + INTEGERS))
def test_forward(name, dtype):
    count = 0
    for sample in samples_of(name, dtype):
        tensors, call = split(sample)
        ours = functools.partial(call, FUNCTIONS[name])
        torchs = functools.partial(call, OPS[name].op)
        if name in SUMS:
            tolerances.Contract(torchs, tensors).hold_results([ours(*tensors)])
        else:
            assert_exactly(ours(*tensors), torchs(*tensors))
        count += 1
    assert count > 0


@pytest.mark.parametrize(("name", "dtype"), cases(FLOATING, FLOATING))
def test_gradients(name, dtype):
    for sample in samples_of(name, dtype, requires_grad=True):
        tensors, call = split(sample)
        ours = functools.partial(call, lambda *args, **kwargs: first(FUNCTIONS[name](*args, **kwargs)))
        torchs = functools.partial(call, lambda *args, **kwargs: first(OPS[name].op(*args, **kwargs)))
        grad_output = torch.randn_like(torchs(*tensors).detach())
        if name in SUMS:
            tolerances.Contract(torchs, tensors, grad_output).hold(ours)
            continue
        actual, expected = (tolerances.in_own_dtype(f, tensors, grad_output)[1] for f in (ours, torchs))
        # Overlapping windows add up in an order of their own.
        exact, magnitude = tolerances.reference(torchs, tensors, grad_output)[1]
        if torch.equal(actual, expected):
            continue
        assert name == "nn.functional.max_pool2d"
        tolerances.assert_close(actual, exact, magnitude)


@pytest.mark.parametrize("name", [name for name, op in OPS.items() if op.error_inputs_func])
def test_error_inputs(name):
    for error in OPS[name].error_inputs("cpu"):
        sample = error.sample_input
        with pytest.raises(error.error_type, match=error.error_regex or None):
            FUNCTIONS[name](sample.input, *sample.args, **sample.kwargs)


@pytest.mark.parametrize(("name", "dtype"), cases([*INTEGERS, torch.complex64, torch.complex128], []))
def test_a_dtype_without_kernel_is_refused(name, dtype):
    """Never computed by aten instead."""
    for sample in OPS[name].sample_inputs("cpu", dtype):
        with pytest.raises(NotImplementedError):
            FUNCTIONS[name](sample.input, *sample.args, **sample.kwargs)


def test_every_function_has_samples():
    assert set(OPS) == set(FUNCTIONS)
