"""Packed weights: prepack; and conv2d, which keeps none, sees every change of a weight."""

import copy
import pickle
import threading

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import convkit
from convkit.testing.shapes import random
from tests._tree import python

# input size, weight size, stride, padding, dilation, groups
CALLS = {
    "winograd": ((2, 128, 9, 8), (48, 128, 3, 3), 1, 1, 1, 1),
    "small map": ((1, 200, 4, 4), (40, 200, 3, 3), 1, 1, 1, 1),
    "pointwise": ((1, 331, 7, 7), (129, 331, 1, 1), 1, 0, 1, 1),
    "strided, dilated": ((1, 96, 15, 14), (80, 96, 3, 2), (2, 1), (1, 0), (1, 2), 1),
    "grouped": ((1, 96, 9, 9), (72, 32, 3, 3), 1, 1, 1, 3),
    "groups of few": ((1, 24, 9, 9), (24, 4, 3, 3), 1, 1, 1, 6),
    "depthwise": ((1, 64, 9, 9), (64, 1, 3, 3), 1, 1, 1, 64),
    "two channels": ((1, 2, 9, 9), (8, 2, 3, 3), 1, 1, 1, 1),
}
EPILOGUES = [{}, {"activation": "relu"}, {"activation": "relu", "max_pool": 2}, {"max_pool": (3, 2, 1)}]


def operands(name, memory_format=torch.contiguous_format):
    input_size, weight_size, *geometry = CALLS[name]
    input = random(input_size).contiguous(memory_format=memory_format)
    weight = random(weight_size, seed=1).contiguous(memory_format=memory_format)
    return input, weight, random(weight_size[:1], seed=2), geometry


@pytest.mark.parametrize("epilogue", EPILOGUES, ids=str)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_prepack_gives_the_same_bits(name, memory_format, epilogue):
    input, weight, bias, geometry = operands(name, memory_format)
    packed = convkit.prepack(weight, bias, *geometry, input_size=input.shape[2:])
    expected = convkit.conv2d(input, weight, bias, *geometry, **epilogue)
    output = convkit.conv2d(input, packed, None, *geometry, **epilogue)
    assert torch.equal(output, expected)
    assert output.stride() == expected.stride()
    for other in (copy.deepcopy(packed), pickle.loads(pickle.dumps(packed))):
        assert torch.equal(convkit.conv2d(input, other, None, *geometry, **epilogue), expected)
    if weight[0].numel() > 64:  # smaller windows are read where they lie
        weight.zero_()
        assert torch.equal(convkit.conv2d(input, packed, None, *geometry, **epilogue), expected)


def test_a_weight_elsewhere_than_on_the_cpu_is_not_packed_and_leaves_the_choice_to_its_calls():
    packed = convkit.prepack(torch.empty(32, 32, 3, 3, device="meta"))
    assert packed.packed is None
    assert packed.algorithm == "auto"


@pytest.mark.parametrize("epilogue", EPILOGUES, ids=str)
def test_on_cuda_a_packed_or_frozen_weight_is_the_weight(epilogue):
    with FakeTensorMode():
        input, weight = (torch.empty(size, device="cuda") for size in ((2, 32, 4, 4), (32, 32, 3, 3)))
        expected = convkit.conv2d(input, weight, padding=1, **epilogue)
        packed = convkit.prepack(weight, padding=1, input_size=4)
        assert packed.packed is None
        output = convkit.conv2d(input, packed, padding=1, **epilogue)
        assert (output.shape, output.device) == (expected.shape, expected.device)
        layer = convkit.nn.Conv2d(32, 32, 3, bias=False, device="meta").eval()
        layer.weight = torch.nn.Parameter(weight)
        layer.freeze()
        with torch.no_grad():
            assert layer(input).device == input.device


def test_a_weight_that_was_packed_on_the_cpu_does_not_serve_another_device():
    """Which the op says, of devices: packed, it would say that it has no such kernel."""
    input, weight, bias, geometry = operands("winograd")
    packed = convkit.prepack(weight, bias, *geometry)
    assert packed.bytes_for(input, weight, bias) is not None
    elsewhere = torch.empty(input.shape, device="meta")
    assert packed.bytes_for(elsewhere, weight, bias) is None
    with pytest.raises(RuntimeError, match="conv2d: input and weight must be on the same device"):
        convkit.conv2d(elsewhere, packed, None, *geometry)


@pytest.mark.parametrize("algorithm", ["winograd", "direct", "generic"])
def test_prepack_decides_the_algorithm(algorithm):
    input, weight, bias, geometry = operands("winograd")
    packed = convkit.prepack(weight, bias, *geometry, algorithm=algorithm)
    assert packed.algorithm == algorithm
    assert (packed.packed is None) == (algorithm == "generic")
    expected = convkit.conv2d(input, weight, bias, *geometry, algorithm=algorithm)
    assert torch.equal(convkit.conv2d(input, packed, None, *geometry), expected)
    assert torch.equal(convkit.conv2d(input, packed, bias, *geometry, algorithm=algorithm), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_prepack_of_other_dtypes(dtype):
    input, weight, bias, geometry = operands("winograd")
    packed = convkit.prepack(weight, bias, *geometry, dtype=dtype)
    assert packed.weight.dtype == dtype
    expected = convkit.conv2d(input.to(dtype), weight.to(dtype), bias.to(dtype), *geometry)
    assert torch.equal(convkit.conv2d(input.to(dtype), packed, None, *geometry), expected)


def test_a_gradient_flows_to_the_input_and_not_to_a_packed_weight():
    input, weight, bias, geometry = operands("winograd")
    packed = convkit.prepack(weight.requires_grad_(), bias, *geometry)
    input.requires_grad_()
    convkit.conv2d(input, packed, None, *geometry).sum().backward()
    expected = torch.autograd.grad(convkit.conv2d(input, weight, bias, *geometry).sum(), input)[0]
    assert torch.equal(input.grad, expected)
    assert weight.grad is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"stride": 2}, r"stride=\(2, 2\), but the packed weight was made for stride=\(1, 1\)"),
        ({"padding": 0}, r"padding=\(0, 0, 0, 0\), but .* padding=\(1, 1, 1, 1\)"),
        ({"dilation": 2}, r"dilation=\(2, 2\), but"),
        ({"groups": 2}, r"groups=2, but"),
        ({"algorithm": "generic"}, r"algorithm=generic, but .* algorithm=winograd"),
    ],
)
def test_a_call_that_differs_from_the_packing_is_refused(changed, message):
    input, weight, bias, _ = operands("winograd")
    packed = convkit.prepack(weight, bias, padding=1)
    with pytest.raises(ValueError, match=f"conv2d: {message}"):
        convkit.conv2d(input, packed, **{"padding": 1, **changed})


def test_prepack_refuses_what_conv2d_refuses():
    weight = random((8, 4, 3, 3))
    with pytest.raises(RuntimeError, match=r"prepack: weight must be 4-dimensional, but got weight of size \[3, 3\]"):
        convkit.prepack(torch.ones(3, 3))
    with pytest.raises(TypeError, match=r"prepack\(\): argument 'weight' must be Tensor, not list"):
        convkit.prepack([1])
    with pytest.raises(ValueError, match="algorithm must be one of"):
        convkit.prepack(weight, algorithm="fastest")
    with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
        convkit.prepack(weight, input_size=2)
    with pytest.raises(RuntimeError, match="stride"):
        convkit.prepack(weight, stride=0)


def test_the_op_refuses_bytes_that_were_made_for_something_else():
    input, weight, _, _ = operands("winograd")
    geometry = ([1, 1], [1, 1, 1, 1], [1, 1], 1)
    op = torch.ops.convkit.conv2d_packed
    good = convkit.prepack(weight, padding=1).packed
    other = convkit.prepack(random((48, 64, 3, 3)), padding=1).packed
    for bad in (
        other,
        good[:-1],
        good[:0],
        good.float(),
        convkit.prepack(weight, padding=1, algorithm="direct").packed,
    ):
        with pytest.raises(RuntimeError, match=r"conv2d_packed: packed_weight of size .* was not made for this weight"):
            op(input, weight, None, bad, *geometry, "none", [], "winograd")
    with pytest.raises(RuntimeError, match="conv2d_packed: it has no gradient"):
        op(input.requires_grad_(), weight, None, good, *geometry, "none", [], "winograd")


def test_a_frozen_module_that_was_saved_runs_on_any_isa(tmp_path):
    """What was packed for this one stays behind."""
    module = convkit.nn.Conv2d(128, 48, 3, padding=1).eval()
    module.freeze()
    input = random((1, 128, 4, 4))
    with torch.no_grad():
        expected = module(input)
        assert module._frozen[0].packed
        copied = copy.deepcopy(module)
        assert torch.equal(copied(input), expected)
    path = str(tmp_path / "module.pt")
    torch.save((module, input, expected), path)
    code = (
        f"import torch, convkit; module, input, expected = torch.load({path!r}, weights_only=False);"
        "torch.set_grad_enabled(False); torch.testing.assert_close(module(input), expected, rtol=1e-4, atol=1e-4);"
        "assert module._frozen[0].packed"
    )
    for isa in convkit._library._C.supported_isas():
        process = python(code, CONVKIT_ISA=isa)
        assert process.returncode == 0, process.stderr


CHANGES = {
    "in place": lambda weight: weight.mul_(-1),
    "data in place": lambda weight: weight.data.mul_(-1),
    "one element": lambda weight: weight.data[-1:, -1:, -1:, -1:].add_(1),
    "signs": lambda weight: weight.data[:, ::16].neg_(),
    "average": lambda weight: weight.data.lerp_(torch.ones_like(weight), 1e-3),
    "swap": lambda weight: setattr(weight, "data", weight.data * 2),
    "format": lambda weight: setattr(weight, "data", weight.data.contiguous(memory_format=torch.channels_last)),
    "numpy": lambda weight: weight.detach().numpy().fill(0.5),
    "two exchanged": lambda weight: weight.data.copy_(weight.data.flip(0)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_weight_is_seen(change):
    input, weight, bias, geometry = operands("winograd")
    weight = torch.nn.Parameter(weight)
    with torch.no_grad():
        for _ in range(3):
            convkit.conv2d(input, weight, bias, *geometry)
            CHANGES[change](weight)
            expected = convkit.conv2d(input, weight.clone(memory_format=torch.preserve_format), bias, *geometry)
            assert torch.equal(convkit.conv2d(input, weight, bias, *geometry), expected)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_fused_optimizer_steps_between_calls(optimizer):
    module = convkit.nn.Conv2d(128, 48, 3, padding=1)
    step = optimizer(module.parameters(), lr=0.1, fused=True)
    input = random((1, 128, 9, 9))
    for _ in range(4):
        with torch.no_grad():
            for _ in range(3):
                output = module(input)
            assert torch.equal(output, convkit.conv2d(input, module.weight.clone(), module.bias, padding=1))
        module(input).square().mean().backward()
        step.step()


@pytest.mark.parametrize("assign", [False, True])
def test_load_state_dict(assign):
    one, other = (convkit.nn.Conv2d(128, 48, 3, padding=1) for _ in range(2))
    input = random((1, 128, 9, 9))
    with torch.no_grad():
        expected = other(input)
        for _ in range(3):
            one(input)
        one.load_state_dict(other.state_dict(), assign=assign)
        for _ in range(3):
            assert torch.equal(one(input), expected)


def test_inference_tensors():
    input, weight, bias, geometry = operands("winograd")
    expected = convkit.conv2d(input, weight, bias, *geometry)
    with torch.inference_mode():
        weight = weight.clone()
        assert torch.equal(convkit.conv2d(input, weight, bias, *geometry), expected)
        output = convkit.conv2d(input, weight.neg_(), None, *geometry)
        assert torch.equal(output, convkit.conv2d(input, weight, None, *geometry))


def test_threads_that_share_a_packed_weight():
    input, weight, bias, geometry = operands("pointwise")
    weights = [convkit.prepack(weight * (i + 1), bias, *geometry) for i in range(4)]
    expected = [convkit.conv2d(input, weight * (i + 1), bias, *geometry) for i in range(4)]
    wrong = []

    def work(start):
        for i in range(start, start + 60):
            if not torch.equal(convkit.conv2d(input, weights[i % 4], bias, *geometry), expected[i % 4]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
