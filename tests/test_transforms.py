"""torch.func, torch.compile, torch.export and the counters and profilers that look at a model from outside."""

import functools

import pytest
import torch
import torch.nn.functional as F
from _ops import CALLS
from torch import nn
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, vmap
from torch.utils.flop_counter import FlopCounterMode

import convkit

# What convkit computes itself, in no direction by aten.
ATENS = (
    "conv",
    "pool",
    "relu",
    "threshold",
    "linear",
    "addmm",
    "::mm",
    "bmm",
    "matmul",
    "einsum",
    "mkldnn",
    "unfold",
)
EVERY_CALL = pytest.mark.parametrize("name", CALLS)


def close(actual, expected):
    """Equal up to another order of the same float64 sums."""
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


@EVERY_CALL
def test_func_grad_is_autograds(name):
    function, tensors = CALLS[name]
    leaves = [t.clone().requires_grad_() for t in tensors]
    expected = torch.autograd.grad(function(*leaves).square().sum(), leaves)
    every = tuple(range(len(tensors)))
    actual = grad(lambda *args: function(*args).square().sum(), argnums=every)(*tensors)
    for one, other in zip(actual, expected, strict=True):
        close(one, other)


@EVERY_CALL
def test_jacobians_of_both_modes_agree(name):
    function, tensors = CALLS[name]
    for i in range(len(tensors)):
        close(jacfwd(function, argnums=i)(*tensors), jacrev(function, argnums=i)(*tensors))


@EVERY_CALL
def test_hessian(name):
    function, tensors = CALLS[name]
    small = [t[:1] if i == 0 and t.dim() == 4 else t for i, t in enumerate(tensors)]

    def loss(*args):
        return function(*args).pow(3).sum()

    last = len(small) - 1
    actual = hessian(loss, argnums=last)(*small)
    close(actual, torch.autograd.functional.hessian(lambda t: loss(*small[:last], t), small[last]))


@EVERY_CALL
@pytest.mark.parametrize("out_dim", [0, 1])
def test_vmap_over_any_argument_is_a_loop(name, out_dim):
    function, tensors = CALLS[name]
    more = [torch.stack([t, 2 * t, t - 1], dim=min(1, t.dim())) for t in tensors]
    dims = [min(1, t.dim()) for t in tensors]
    for mapped in [range(len(tensors)), *[[i] for i in range(len(tensors))]]:
        args = [more[i] if i in mapped else t for i, t in enumerate(tensors)]
        in_dims = tuple(dims[i] if i in mapped else None for i in range(len(tensors)))
        actual = vmap(function, in_dims=in_dims, out_dims=out_dim)(*args)
        pairs = list(zip(args, in_dims, strict=True))
        each = [function(*[a if dim is None else a.select(dim, k) for a, dim in pairs]) for k in range(3)]
        close(actual, torch.stack(each, dim=out_dim))


class SmallCnn(nn.Module):
    """Every op of convkit, or of torch with ``ops=torch.nn.functional``."""

    def __init__(self, ops=convkit):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, bias=False)
        self.head = nn.Linear(8, 5)
        self.ops = ops

    def forward(self, input):
        ops = self.ops
        hidden = ops.max_pool2d(ops.relu(ops.conv2d(input, self.first.weight, self.first.bias, padding=1)), 2)
        if ops is convkit:
            hidden = ops.conv2d(hidden, self.second.weight, activation="relu", max_pool=2)
        else:
            hidden = ops.max_pool2d(ops.relu(ops.conv2d(hidden, self.second.weight)), 2)
        return ops.linear(hidden.mean((2, 3)), self.head.weight, self.head.bias)


def pair_of_models():
    ours, torchs = SmallCnn().double(), SmallCnn(F).double()
    torchs.load_state_dict(ours.state_dict())
    return ours, torchs


def gradients(model, function, batch):
    model.zero_grad()
    loss = function(torch.randn(batch, 3, 14, 13, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    loss.square().mean().backward()
    return [loss.detach(), *[p.grad.clone() for p in model.parameters()]]


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_training_step_compiles_without_a_graph_break(backend):
    torch.compiler.reset()
    ours, torchs = pair_of_models()
    compiled = torch.compile(ours, fullgraph=True, dynamic=True, backend=backend)
    for batch in (2, 3, 5):
        for one, other in zip(gradients(ours, compiled, batch), gradients(torchs, torchs, batch), strict=True):
            close(one, other)


def test_relu_in_place_compiles():
    torch.compiler.reset()

    def function(input):
        return convkit.relu(input * 2, inplace=True) + 1

    input = torch.randn(4, 5)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(input), function(input))


def test_export_keeps_convkits_ops_and_a_dynamic_batch():
    ours, _ = pair_of_models()
    input = torch.randn(2, 3, 14, 13, dtype=torch.float64)
    program = torch.export.export(ours, (input,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},))
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    ours_alone = {name for name in called if any(word in name for word in ATENS)}
    assert ours_alone
    assert all(name.startswith("convkit.") for name in ours_alone)
    for batch in (1, 2, 7):
        more = torch.randn(batch, 3, 14, 13, dtype=torch.float64)
        close(program.module()(more), ours(more))


def test_functional_call_with_an_ensemble_of_weights():
    models = [pair_of_models()[0] for _ in range(3)]
    stacked = {k: torch.stack([m.state_dict()[k] for m in models]) for k in models[0].state_dict()}
    input = torch.randn(2, 3, 14, 13, dtype=torch.float64)
    actual = vmap(lambda weights: functional_call(models[0], weights, (input,)))(stacked)
    close(actual, torch.stack([model(input) for model in models]))


def test_gradients_per_sample():
    ours, _ = pair_of_models()
    parameters = {k: v.detach() for k, v in ours.named_parameters()}
    images = torch.randn(3, 3, 14, 13, dtype=torch.float64)

    def loss(weights, image):
        return functional_call(ours, weights, (image[None],)).square().sum()

    each = vmap(grad(loss), in_dims=(None, 0))(parameters, images)
    for k in range(3):
        alone = grad(loss)(parameters, images[k])
        for name in parameters:
            close(each[name][k], alone[name])


def flops(function, *sizes, backward=True):
    leaves = [torch.randn(size, requires_grad=True) for size in sizes]
    with FlopCounterMode(display=False) as counter:
        output = function(*leaves)
        if backward:
            output.sum().backward()
    return counter.get_total_flops()


def test_flop_counter_counts_as_for_torch():
    sizes = [(2, 4, 9, 9), (6, 4, 3, 3)]
    for arguments in ({}, {"stride": 2, "padding": 1}, {"dilation": 2}):
        ours, torchs = (functools.partial(conv2d, **arguments) for conv2d in (convkit.conv2d, F.conv2d))
        assert flops(ours, *sizes) == flops(torchs, *sizes) > 0
    assert flops(convkit.linear, (7, 5), (4, 5)) == flops(F.linear, (7, 5), (4, 5)) > 0


def test_flop_counter_counts_groups_once():
    """torch counts the weight gradient of a grouped convolution `groups` times; forward it agrees."""
    sizes = [(2, 4, 9, 9), (6, 2, 3, 3)]
    ours, torchs = (functools.partial(conv2d, groups=2) for conv2d in (convkit.conv2d, F.conv2d))
    forward = flops(torchs, *sizes, backward=False)
    assert flops(ours, *sizes, backward=False) == forward
    assert flops(ours, *sizes) == 3 * forward


@EVERY_CALL
def test_no_op_calls_atens_version_of_itself(name):
    function, tensors = CALLS[name]
    leaves = [t.clone().requires_grad_() for t in tensors]
    with torch.profiler.profile() as profile:
        output = function(*leaves)
        first = torch.autograd.grad(output.square().sum(), leaves, create_graph=True)
        torch.autograd.grad(sum(g.square().sum() for g in first), leaves, allow_unused=True)
        jacfwd(function)(*tensors)
        vmap(function)(*[torch.stack([t, t]) for t in tensors])
    names = {event.key for event in profile.key_averages()}
    assert any(name.startswith("convkit::") for name in names)
    aten = [n for n in names if n.startswith("aten::") and any(word in n for word in ATENS)]
    assert not aten
