"""convkit.optimize: the same numbers, gradients and state_dict; what is fused, and what is left alone."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import convkit
from convkit.testing.shapes import random


def plain():
    """Two runs, one with BatchNorm and an in-place ReLU, and a classifier."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 20, 3, stride=2), nn.ReLU(), nn.Conv2d(20, 8, 1, bias=False), nn.BatchNorm2d(8, affine=False)),
        *(nn.Flatten(), nn.Linear(8 * 9, 10)),
    )
    for norm in (model[1], model[7]):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    nn.init.normal_(model[1].weight)
    nn.init.normal_(model[1].bias)
    return model


class Residual(nn.Module):
    """A block as ResNet's: one ReLU at two places, a shortcut from the first convolution's result."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)

    def forward(self, x):
        first = self.conv1(x)
        y = self.relu(self.bn1(first))
        y = self.bn2(self.conv2(y))
        return self.relu(y + first)


class Branches(nn.Module):
    """Returns what lies between convolution and ReLU."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.pool = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2)

    def forward(self, x):
        y = self.conv(x)
        return y, self.pool(self.relu(y))


class Untraceable(nn.Module):
    """Its forward looks at values; the Sequential in it can be traced."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2))
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        y = self.features(x)
        return self.head(y) if y.sum() > 0 else y


class OnlyInTraining(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.relu, self.aux = nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        y = self.conv(x)
        return (self.relu(y), self.aux(y)) if self.training else self.relu(y)


MODELS = [plain, Residual, Branches, Untraceable, OnlyInTraining]


def tensors(output):
    return output if isinstance(output, tuple) else (output,)


def results(model, x):
    """Outputs, then the gradients of the input and of every parameter."""
    x = x.clone().requires_grad_()
    outputs = tensors(model(x))
    leaves = [x, *model.parameters()]
    gradients = torch.autograd.grad(sum(y.square().sum() for y in outputs), leaves, allow_unused=True)
    return [*outputs, *(torch.zeros_like(t) if g is None else g for t, g in zip(leaves, gradients, strict=True))]


def assert_same(ours, theirs):
    largest = max(t.abs().max().item() for t in theirs)  # some gradients are zero but for rounding
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5 * max(1, largest))


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("make", MODELS)
def test_the_same_numbers(make, training):
    model = make().train(training)
    optimized, _ = convkit.optimize(model)
    assert all(module.training == training for module in optimized.modules())
    x = torch.randn(2, 3, 16, 16)
    theirs = copy.deepcopy(model)  # running statistics are shared between the model and its optimized copy
    assert_same(results(optimized, x), results(theirs, x))
    with torch.no_grad():
        assert_same(tensors(optimized(x)), tensors(theirs(x)))
    for one, other in zip(optimized.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(one, other)
    optimized.train(not training), theirs.train(not training)
    assert_same(results(optimized, x), results(theirs, x))


@pytest.mark.parametrize("make", MODELS)
def test_state_is_shared_and_the_model_left_alone(make):
    model = make()
    classes = [type(module) for module in model.modules()]
    optimized, _ = convkit.optimize(model)
    assert [type(module) for module in model.modules()] == classes
    for named in ("named_parameters", "named_buffers"):
        pairs = zip(getattr(model, named)(), getattr(optimized, named)(), strict=True)
        assert all(name == other and tensor is same for (name, tensor), (other, same) in pairs)
    assert list(optimized.state_dict()) == list(model.state_dict())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    x = torch.randn(1, 3, 16, 16)
    assert_same(tensors(optimized.eval()(x)), tensors(model.eval()(x)))


def test_report():
    _, report = convkit.optimize(plain())
    assert report.fused == [("0", "1", "2", "3"), ("4", "5"), ("6", "7")]
    assert report.left == {}
    assert report.swapped["9"] is convkit.nn.Linear
    assert "fused: 0 + 1 + 2 + 3" in str(report)
    _, report = convkit.optimize(nn.Sequential(nn.Linear(2, 3)))
    assert str(report) == "1 module swapped, 0 runs fused, 0 left"


def test_what_somebody_else_sees_is_not_fused():
    assert convkit.optimize(Residual())[1].fused == [("conv2", "bn2")]
    assert convkit.optimize(Branches())[1].fused == []
    assert convkit.optimize(OnlyInTraining())[1].fused == []


def test_a_part_that_cannot_be_traced_is_named_and_the_rest_fused():
    optimized, report = convkit.optimize(Untraceable())
    assert report.fused == [("features.0", "features.1", "features.2")]
    assert report.left[""].startswith("torch.fx cannot trace it: ")
    assert type(optimized.head) is convkit.nn.Conv2d


class OwnConv2d(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) + 1


def with_hook():
    conv = nn.Conv2d(3, 4, 3)
    conv.register_forward_hook(lambda module, inputs, output: output + 1)
    return conv


def with_own_forward():
    conv = nn.Conv2d(3, 4, 3)
    conv.forward = lambda x: x[:, :, 1:-1, 1:-1].repeat(1, 2, 1, 1)[:, :4]
    return conv


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (with_hook, "it has hooks"),
        (with_own_forward, "its forward was replaced"),
        (lambda: OwnConv2d(3, 4, 3), "OwnConv2d is a subclass of torch.nn.Conv2d"),
        (lambda: nn.Conv2d(3, 4, 3, padding_mode="circular"), "padding_mode='circular'"),
        (lambda: parametrizations.weight_norm(nn.Conv2d(3, 4, 3)), "it is parametrized"),
    ],
)
def test_what_is_not_known_is_left_with_a_reason(make, reason):
    model = nn.Sequential(make(), nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU())
    optimized, report = convkit.optimize(model)
    assert report.left == {"0": reason}
    assert report.fused == [("2", "3")]
    x = torch.randn(2, 3, 8, 8)
    assert_same([optimized(x)], [model(x)])


def test_bfloat16_is_fused():
    model = plain().eval().bfloat16()
    optimized, report = convkit.optimize(model)
    assert not report.left
    assert report.fused == convkit.optimize(plain())[1].fused
    x = torch.randn(4, 3, 16, 16, dtype=torch.bfloat16)
    expected = model.double()(x.double())
    assert (optimized.bfloat16()(x).double() - expected).norm() < 0.02 * expected.norm()


def test_other_dtypes_are_left():
    _, report = convkit.optimize(nn.Sequential(nn.Conv2d(3, 4, 3).double(), nn.ReLU()))
    assert report.left == {"0": "its weight is torch.float64, for which convkit has no fast kernel yet"}
    assert list(report.swapped) == ["1"]


def test_shared_modules_are_left():
    relu = nn.ReLU()
    conv = nn.Conv2d(4, 4, 3, padding=1)
    model = nn.Sequential(conv, relu, conv, relu)
    optimized, report = convkit.optimize(model)
    assert set(report.left.values()) == {"it is shared: the model has it at 2 places"}
    x = torch.randn(1, 4, 8, 8)
    assert torch.equal(optimized(x), model(x))


def test_a_hook_of_the_container_sees_what_it_saw():
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3)), nn.ReLU())
    seen = []
    model[0].register_forward_hook(lambda module, inputs, output: seen.append(output.clone()))
    optimized, _ = convkit.optimize(model)
    x = torch.randn(1, 3, 8, 8)
    model(x), optimized(x)
    assert_same(seen[1:], seen[:1])


def test_batch_norm_that_is_frozen_alone():
    """Fine-tuning puts BatchNorm into evaluation mode and leaves the rest in training mode."""
    model = plain().train()
    model[1].eval()
    optimized, _ = convkit.optimize(model)
    x = torch.randn(2, 3, 16, 16)
    theirs = copy.deepcopy(model)
    assert_same(results(optimized, x), results(theirs, x))
    torch.testing.assert_close(optimized[1].running_mean, theirs[1].running_mean)


def test_an_inplace_relu_behind_a_folded_batch_norm_spares_the_convolution():
    class Shortcut(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn, self.relu = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)

        def forward(self, x):
            before = self.conv(x)
            return before, self.relu(self.bn(before))

    model = Shortcut().eval()
    x = torch.randn(1, 3, 8, 8)
    assert_same(convkit.optimize(model)[0](x), model(x))


def test_training_together():
    model = plain().train()
    optimized, _ = convkit.optimize(model)
    x, target = torch.randn(8, 3, 16, 16), torch.randint(10, (8,))
    optimizer = torch.optim.SGD(optimized.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(optimized(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert_same([optimized.eval()(x)], [model.eval()(x)])


def test_copies_of_the_result():
    optimized, _ = convkit.optimize(plain().eval())
    x = torch.randn(1, 3, 16, 16)
    for other in (copy.deepcopy(optimized), pickle.loads(pickle.dumps(optimized))):
        assert torch.equal(other(x), optimized(x))
        assert other[0]._batch_norm[0] is other[1]
        assert other[0].weight is not optimized[0].weight
    again, report = convkit.optimize(optimized)
    assert report.fused == []
    assert torch.equal(again(x), optimized(x))


def test_compiles_without_graph_breaks():
    optimized, _ = convkit.optimize(plain().eval())
    x = torch.randn(2, 3, 16, 16)
    compiled = torch.compile(optimized, backend="eager", fullgraph=True)
    assert_same([compiled(x)], [optimized(x)])


def test_what_is_no_module_is_named():
    with pytest.raises(TypeError, match=r"optimize: model must be a torch.nn.Module, but got function"):
        convkit.optimize(plain)
    with pytest.raises(TypeError, match="explain: call must be callable, but got 'relu'"):
        convkit.explain("relu")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize(("inside", "what"), [(False, "is"), (True, "has")])
def test_script_modules_are_refused(inside, what):
    scripted = torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))
    model = nn.Sequential(nn.ReLU(), scripted) if inside else scripted
    at = " at 1" if inside else ""
    message = f"optimize: model {what} a RecursiveScriptModule{at}, whose code is not Python's: optimize before"
    with pytest.raises(TypeError, match=message):
        convkit.optimize(model)


def test_an_exported_module_is_left_with_a_reason():
    x = torch.randn(1, 3, 8, 8)
    model = torch.export.export(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), (x,)).module()
    optimized, report = convkit.optimize(model)
    assert report.left == {"": "it calls aten's operators, as torch.export has it: optimize before that"}
    assert torch.equal(optimized(x), model(x))


def assert_near(one, other):
    """Equal but for rounding of sums in another order and, in float32, of Winograd's transforms."""
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def frozen_model():
    layers = [nn.Conv2d(8, 128, 3, padding=1), nn.BatchNorm2d(128), nn.ReLU(), nn.Conv2d(128, 64, 3), nn.ReLU()]
    model = nn.Sequential(*layers)
    with torch.no_grad():
        model(random((4, 8, 9, 9)))
    return model


def test_a_frozen_model_sees_changes_in_training_and_with_gradients():
    model, input = frozen_model().eval(), random((1, 8, 9, 9))
    optimized, _ = convkit.optimize(model)
    with torch.no_grad():
        assert_near(optimized(input), model(input))
        for parameter in model.parameters():
            parameter.mul_(2)
        changed = model(input)
        assert not torch.allclose(optimized(input), changed)  # the folded weight is that of before
    assert_near(optimized(input), changed)
    with torch.no_grad():
        optimized.train().eval()
        assert_near(optimized(input), changed)


def test_calls_of_a_frozen_model_that_follow_one_another():
    """Whatever the call before was, whose checked arguments are kept."""
    model = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU()).eval()
    optimized, _ = convkit.optimize(model)
    images = [random((n, 8, size, size)) for n, size in ((1, 9), (2, 9), (1, 3), (0, 9))]
    images += [random((8, 9, 9)), images[0].to(memory_format=torch.channels_last)]
    with torch.no_grad():
        for image in images * 2:
            assert_near(optimized(image), model(image))
            with pytest.raises(RuntimeError, match="to have 8 channels, but got 7 channels instead"):
                optimized(image[..., 1:, :, :])
            with pytest.raises(RuntimeError, match=r"input type \(Double\) and weight type \(Float\)"):
                optimized(image.double())
        assert_near(torch.func.vmap(optimized)(images[1][:, None]), model(images[1])[:, None])
        with torch.autocast("cpu", torch.bfloat16):
            assert optimized(images[0]).dtype == torch.bfloat16
        model[0].stride = optimized[0].stride = (2, 2)
        assert_near(optimized(images[0]), model(images[0]))
    leaf = images[0].clone().requires_grad_()
    optimized(leaf).sum().backward()
    assert leaf.grad is not None


def test_a_batch_norm_of_a_frozen_model_that_trains_alone():
    model, input = frozen_model().eval(), random((4, 8, 9, 9))
    with torch.no_grad():
        model[1].weight.uniform_(-2, 2), model[1].running_mean.normal_(), model[1].running_var.uniform_(0.1, 4)
        optimized, theirs = convkit.optimize(model)[0], copy.deepcopy(model)
        for training in (False, True, False):  # the last time with other statistics
            for each in (optimized, theirs):
                each[1].train(training)
            assert_near(optimized(input), theirs(input))


@pytest.mark.parametrize("assign", [False, True])
def test_loading_thaws(assign):
    model, other, input = frozen_model().eval(), frozen_model().eval(), random((1, 8, 9, 9))
    optimized, _ = convkit.optimize(model)
    with torch.no_grad():
        optimized(input)
        optimized.load_state_dict(other.state_dict(), assign=assign)
        assert_near(optimized(input), other(input))
        double, _ = convkit.optimize(model)
        double(input)
        assert_near(double.double()(input.double()), model.double()(input.double()))


def test_a_frozen_model_can_be_copied_and_pickled():
    model, input = frozen_model().eval(), random((1, 8, 9, 9))
    optimized, _ = convkit.optimize(model)
    with torch.no_grad():
        expected = optimized(input)
        for twin in (copy.deepcopy(optimized), pickle.loads(pickle.dumps(optimized))):
            assert torch.equal(twin(input), expected)
