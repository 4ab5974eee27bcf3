"""Gradients of every op on every route that torch has to them, in float64, against finite differences."""

import pytest
import torch
from _ops import CALLS
from torch.autograd import forward_ad, gradcheck, gradgradcheck

import convkit
from tests._devices import DEVICES

EVERY_CALL = pytest.mark.parametrize("name", CALLS)


def leaves_of(name):
    function, tensors = CALLS[name]
    return function, [t.clone().requires_grad_() for t in tensors]


@EVERY_CALL
@DEVICES
def test_gradient(name, device):
    function, tensors = CALLS[name]
    tensors = [t.to(device, copy=True).requires_grad_() for t in tensors]
    assert gradcheck(function, tensors, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True)


@EVERY_CALL
def test_gradient_of_gradient(name):
    function, tensors = leaves_of(name)
    assert gradgradcheck(function, tensors, check_batched_grad=True, check_fwd_over_rev=True, check_rev_over_rev=True)


@EVERY_CALL
def test_gradient_of_each_tensor_alone(name):
    """What does not need a gradient changes no other."""
    function, tensors = CALLS[name]
    _, all_leaves = leaves_of(name)
    output = function(*all_leaves)
    expected = torch.autograd.grad(output.sum(), all_leaves)
    for i, gradient in enumerate(expected):
        alone = [t.clone().requires_grad_(i == j) for j, t in enumerate(tensors)]
        assert torch.equal(torch.autograd.grad(function(*alone).sum(), alone[i])[0], gradient)


@EVERY_CALL
def test_no_graph_without_need(name):
    function, tensors = leaves_of(name)
    with torch.no_grad():
        assert not function(*tensors).requires_grad
    with torch.inference_mode():
        plain = function(*CALLS[name][1])
        assert plain.is_inference()
    assert not function(*[t.detach() for t in tensors]).requires_grad


@EVERY_CALL
def test_backward_twice_gives_the_same_bits(name):
    function, tensors = leaves_of(name)
    output = function(*tensors).sum()
    first = torch.autograd.grad(output, tensors, retain_graph=True)
    for one, other in zip(first, torch.autograd.grad(output, tensors), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(output, tensors)


def convolution(input, weight):
    return convkit.conv2d(input, weight, padding=1)


@pytest.mark.parametrize("change", [lambda t: convkit.relu(t, inplace=True), lambda t: t.add_(1)], ids=["relu", "add"])
@pytest.mark.parametrize("which", [0, 1], ids=["input", "weight"])
def test_a_saved_tensor_that_was_changed_in_place_is_noticed(change, which):
    for function, sizes in ((convolution, [(1, 2, 5, 5), (3, 2, 3, 3)]), (convkit.linear, [(3, 5), (4, 5)])):
        leaves = [torch.randn(size, requires_grad=True) for size in sizes]
        tensors = [leaf * 1 for leaf in leaves]
        output = function(*tensors)
        change(tensors[which])
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            output.sum().backward()


def test_relu_in_place_on_the_result_of_a_convolution():
    """A convolution does not save its output: relu may overwrite it."""
    leaves = [torch.randn(size, requires_grad=True) for size in [(2, 3, 6, 6), (4, 3, 3, 3)]]
    expected = torch.autograd.grad(convkit.relu(convolution(*leaves)).sum(), leaves)
    actual = torch.autograd.grad(convkit.relu(convolution(*leaves), inplace=True).sum(), leaves)
    for one, other in zip(actual, expected, strict=True):
        assert torch.equal(one, other)


RAW = {
    "relu": lambda x: torch.ops.convkit.relu(x),
    "conv2d": lambda x: torch.ops.convkit.conv2d(
        x, torch.ones(1, 1, 1, 1), None, [1, 1], [0, 0, 0, 0], [1, 1], 1, "none", "auto"
    ),
    "linear": lambda x: torch.ops.convkit.linear(x[0, 0], torch.ones(2, 4), None, "none"),
    "max_pool2d": lambda x: torch.ops.convkit.max_pool2d(x, [2, 2], [2, 2], [0, 0], [1, 1], False),
}


@pytest.mark.parametrize("call", RAW.values(), ids=RAW)
def test_a_raw_op_under_forward_mode_raises_instead_of_dropping_the_tangent(call):
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4))
        with pytest.raises(NotImplementedError, match="forward-mode"):
            call(dual)


@pytest.mark.parametrize("call", RAW.values(), ids=RAW)
def test_a_raw_op_has_a_gradient(call):
    input = torch.ones(1, 1, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(call(input).sum(), input)
    assert gradient.sum() > 0


@DEVICES
def test_autocast_lowers_conv2d_and_linear_and_keeps_the_others(device):
    def randn(*size):
        return torch.randn(size, device=device)

    input, weight = randn(2, 3, 8, 8), randn(4, 3, 3, 3)
    with torch.autocast(device, dtype=torch.bfloat16):
        output = convkit.conv2d(input, weight, randn(4))
        assert output.dtype == torch.bfloat16
        assert convkit.linear(randn(3, 5), randn(2, 5)).dtype == torch.bfloat16
        assert convkit.conv2d(input, weight, activation="relu", max_pool=2).dtype == torch.bfloat16
        assert convkit.conv2d(input.double(), weight.double()).dtype == torch.float64
        for dtype in (torch.float32, torch.bfloat16):
            assert convkit.relu(input.to(dtype)).dtype == dtype
            assert convkit.max_pool2d(input.to(dtype), 2).dtype == dtype
    assert convkit.conv2d(input, weight).dtype == torch.float32


@DEVICES
def test_autocast_gives_gradients_in_the_dtype_of_the_leaves(device):
    sizes = [(2, 3, 8, 8), (4, 3, 3, 3), (4,)]
    leaves = [torch.randn(size, device=device, requires_grad=True) for size in sizes]
    with torch.autocast(device, dtype=torch.bfloat16):
        output = convkit.conv2d(*leaves)
    low = [leaf.detach().bfloat16().requires_grad_() for leaf in leaves]
    expected = torch.autograd.grad(convkit.conv2d(*low).sum(), low)
    for actual, other in zip(torch.autograd.grad(output.sum(), leaves), expected, strict=True):
        assert actual.dtype == torch.float32
        assert torch.equal(actual, other.float())


def test_autocast_casts_activations_and_weights_of_different_dtypes():
    """Behind the first layer, activations are bfloat16 and weights float32."""
    model = torch.nn.Sequential(
        convkit.nn.Conv2d(3, 8, 3, padding=1),
        convkit.nn.ConvBlock2d(8, 16, 3, padding=1, max_pool=2),
        torch.nn.Flatten(),
        convkit.nn.Linear(256, 8),
        convkit.nn.Linear(8, 2),
    )
    images = torch.randn(2, 3, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(images)
        with torch.no_grad():
            assert torch.equal(model(images), output)
        with pytest.raises(RuntimeError, match="should be the same"):
            convkit.conv2d(images.double(), model[0].weight)
    assert output.dtype == torch.bfloat16
    output.float().sum().backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in model.parameters())
    with pytest.raises(RuntimeError, match=r"linear: input type \(BFloat16\) and weight type \(Float\)"):
        convkit.linear(torch.randn(2, 8).bfloat16(), torch.randn(2, 8))
