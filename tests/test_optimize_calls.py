"""convkit.optimize where a forward calls functions, or one module several times."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import convkit
from tests.test_optimize import assert_same, results, tensors


class BasicBlock(nn.Module):
    """torchvision's, with its one ReLU at two places."""

    def __init__(self, inplanes=8, planes=8, stride=1):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False), nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False), nn.BatchNorm2d(planes)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride), nn.BatchNorm2d(planes))

    def forward(self, x):
        identity = x
        out = self.conv1(x)
        out = self.bn1(out)
        out = self.relu(out)
        out = self.conv2(out)
        out = self.bn2(out)
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.layer1 = nn.Sequential(BasicBlock(), BasicBlock(8, 16, 2))
        self.fc = nn.Linear(16, 5)

    def _features(self, x):
        return self.layer1(F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1))

    def forward(self, x):
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(self._features(x), 1), 1))


class Functional(nn.Module):
    """VGG's order in every way to write it."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 4, 1)
        self.conv4, self.relu, self.fc = nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Linear(4 * 4, 3)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x), inplace=True), kernel_size=2)
        x = torch.relu(self.conv2(x))
        x = torch.max_pool2d(self.conv3(x).relu_(), 2)
        x = F.max_pool2d(self.relu(self.conv4(x)), 2, stride=1, ceil_mode=True)
        x = F.dropout(x, 0.5, self.training and False)
        return F.relu(self.fc(torch.flatten(x, 1)))


class Seen(nn.Module):
    """Somebody else uses each value between convolution and ReLU, one of which is changed in place."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2, self.conv3 = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)

    def forward(self, x):
        first = self.conv1(x)
        second = self.conv2(F.relu(first) + first)
        F.relu_(second)
        third = self.conv3(second)
        view = third.flatten(1)
        return third.relu_() + 1, view


MODELS = [BasicBlock, ResNet, Functional, Seen]


def input_of(make):
    torch.manual_seed(1)
    return torch.randn(2, 8 if make is BasicBlock else 3, 16, 16)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("make", MODELS)
def test_the_same_numbers(make, training):
    torch.manual_seed(0)
    model, x = make().train(training), input_of(make)
    optimized, _ = convkit.optimize(model)
    theirs = copy.deepcopy(model)
    for mode in (training, not training, training):
        optimized.train(mode), theirs.train(mode)
        assert_same(results(optimized, x), results(theirs, x))
        with torch.no_grad():
            assert_same(tensors(optimized(x)), tensors(theirs(x)))
    for one, other in zip(optimized.buffers(), theirs.buffers(), strict=True):
        assert_same([one.float()], [other.float()])


@pytest.mark.parametrize("make", MODELS)
def test_state_type_copies_and_pickles(make):
    model, x = make().eval(), input_of(make)
    optimized, _ = convkit.optimize(model)
    assert isinstance(optimized, make)
    assert type(model) is make
    assert list(optimized.state_dict()) == list(model.state_dict())
    assert all(a is b for a, b in zip(optimized.parameters(), model.parameters(), strict=True))
    expected = results(optimized, x)
    for twin in (copy.deepcopy(optimized), pickle.loads(pickle.dumps(optimized))):
        assert isinstance(twin, make)
        assert all(torch.equal(a, b) for a, b in zip(results(twin, x), expected, strict=True))
    assert convkit.optimize(optimized)[1].fused == []


def test_reports():
    assert convkit.optimize(BasicBlock())[1].fused == [("conv1", "bn1", "relu"), ("conv2", "bn2")]
    report = convkit.optimize(ResNet())[1]
    assert set(report.fused) == {
        ("conv1", "bn1", "relu()", "max_pool2d()"),
        ("layer1.0.conv1", "layer1.0.bn1", "layer1.0.relu"),
        ("layer1.0.conv2", "layer1.0.bn2"),
        ("layer1.1.conv1", "layer1.1.bn1", "layer1.1.relu"),
        ("layer1.1.conv2", "layer1.1.bn2"),
        ("layer1.1.downsample.0", "layer1.1.downsample.1"),
    }
    assert report.left == {}
    report = convkit.optimize(Functional())[1]
    assert report.fused == [
        ("conv1", "relu()", "max_pool2d()"),
        ("conv2", "relu_1()"),
        ("conv3", "relu_()", "max_pool2d_1()"),
        ("conv4", "relu"),
    ]
    assert report.swapped["max_pool2d_2()"] is convkit.max_pool2d
    assert report.swapped["relu_3()"] is convkit.relu


def test_what_somebody_else_sees_is_not_fused():
    report = convkit.optimize(Seen())[1]
    assert report.fused == []
    assert {"relu()", "relu_()", "relu__1()"} <= set(report.swapped)


def ops_of(model, x):
    return [plan.op for plan in convkit.explain(model, x).ops]


def test_one_op_a_run():
    optimized, _ = convkit.optimize(ResNet().eval())
    with torch.no_grad():
        ops = ops_of(optimized, input_of(ResNet))
    block = ["conv2d", "conv2d", "relu_"]
    assert [op.replace("_packed", "") for op in ops] == [
        *("conv2d_max_pool2d", *block, "conv2d", "conv2d", "conv2d", "relu_", "linear")
    ]


class Optional(Functional):
    def forward(self, x, scale=None):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        return x if scale is None else x * scale


class Counting(Functional):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return F.relu(self.conv1(x))


class Asking(Functional):
    def forward(self, x):
        return F.relu(self.conv1(x)) if isinstance(x, torch.Tensor) else x


class Making(Functional):
    def forward(self, x):
        return F.relu(self.conv1(x)) + torch.ones(1)


class Random(Functional):
    def forward(self, x):
        return F.relu(self.conv1(x)) * (torch.rand(1).item() >= 0)


class Branching(Functional):
    def forward(self, x):
        return F.relu(self.conv1(x)) if x.sum() > 0 else self.conv1(x)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Optional, "its forward has optional arguments"),
        (Counting, "forward changes objects"),
        (Asking, "forward asks isinstance"),
        (Making, "it makes a tensor of its own"),
        (Random, "forward asks "),
        (Branching, "symbolically traced variables cannot be used as inputs to control flow"),
    ],
)
def test_what_a_trace_cannot_follow_keeps_its_calls(make, reason):
    model, x = make().eval(), input_of(make)
    optimized, report = convkit.optimize(model)
    assert reason in report.left[""]
    assert report.fused == []
    assert type(optimized.conv1) is convkit.nn.Conv2d
    counted = getattr(optimized, "calls", 0)
    assert_same([optimized(x)], [model(x)])
    if make is Counting:
        assert optimized.calls == counted + 1


class Switched(Functional):
    active = True

    def __init__(self):
        super().__init__()
        self.active = True

    def forward(self, x):
        x = self.conv1(x)
        return F.relu(x) if self.active else x


def test_a_setting_that_changes_brings_the_forward_back():
    model, x = Switched().eval(), input_of(Switched)
    optimized, report = convkit.optimize(model)
    assert report.fused == [("conv1", "relu()")]
    assert_same([optimized(x)], [model(x)])
    optimized.active = model.active = False
    assert (optimized(x) < 0).any()
    assert_same([optimized(x)], [model(x)])


def test_hooks_that_come_later_are_called():
    model, x = Functional().eval(), input_of(Functional)
    optimized, _ = convkit.optimize(model)
    seen = []
    optimized.conv1.register_forward_hook(lambda module, inputs, output: seen.append(output))
    assert_same([optimized(x)], [model(x)])
    assert_same(seen, [model.conv1(x)])


def test_relu6_without_a_convolution_is_left():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AvgPool2d(2), nn.ReLU6(inplace=True)).eval()
    optimized, report = convkit.optimize(model)
    assert report.left == {"2": "convkit has ReLU6 only behind a convolution of its own"}
    assert report.fused == []
    x = input_of(Functional)
    assert_same([optimized(x)], [model(x)])


class MobileNet(nn.Module):
    """ReLU6 in every way to write it; the last two are no part of a convolution."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1, self.conv2 = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, groups=8)
        self.conv3, self.conv4, self.act = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 1), nn.ReLU6(inplace=True)

    def forward(self, x):
        x = F.relu6(self.bn1(self.conv1(9 * x)), inplace=True)
        x = F.max_pool2d(F.hardtanh(self.conv2(9 * x), 0.0, max_val=6.0), 2)
        x = self.act(self.conv4(self.act(self.conv3(9 * x))))
        return F.relu6(9 * x - 1) + F.hardtanh(self.conv3(x[:, :1].expand(-1, 8, -1, -1))).mean()


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_relu6_called_as_a_function_or_twice(training):
    torch.manual_seed(0)
    model, x = MobileNet().train(training), input_of(MobileNet)
    optimized, report = convkit.optimize(model)
    assert report.fused == [
        ("conv1", "bn1", "relu6()"), ("conv2", "hardtanh()", "max_pool2d()"), ("conv3", "act"), ("conv4", "act")
    ]  # fmt: skip
    assert report.left == {"relu6_1()": "convkit has ReLU6 only behind a convolution of its own"}
    assert_same(results(optimized, x), results(copy.deepcopy(model), x))
    seen = []
    optimized.conv2.register_forward_hook(lambda module, inputs, output: seen.append(output.max().item()))
    assert_same(results(optimized, x), results(copy.deepcopy(model), x))  # the convolution for itself
    assert max(seen) > 6


class Clamped(nn.Module):
    """ReLU6 as Hardtanh and as clamp, in every way to write it; the last two have other limits."""

    def __init__(self):
        super().__init__()
        convs = [nn.Conv2d(channels, 8, 1, bias=i != 3) for i, channels in enumerate([3] + [8] * 5)]
        self.convs, self.act, self.hard = nn.ModuleList(convs), nn.Hardtanh(0, 6, inplace=True), nn.Hardtanh(-1, 6)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x):
        x = self.act(self.convs[0](9 * x))
        x = torch.clamp(self.norm(self.convs[1](x)), 0, 6)
        x = F.max_pool2d(self.convs[2](9 * x).clamp_(min=0.0, max=6.0), 2)
        x = self.convs[3](0 * x).clip(0, 6) + x  # at a limit, where the gradients of ReLU6 and clamp differ
        return self.hard(self.convs[4](x)) + torch.clamp(self.convs[5](x), 0)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_hardtanh_and_clamp_with_the_limits_of_relu6(training):
    torch.manual_seed(0)
    model, x = Clamped().train(training), input_of(Clamped)
    optimized, report = convkit.optimize(model)
    assert sorted(report.fused) == [
        ("convs.0", "act"), ("convs.1", "norm", "clamp()"), ("convs.2", "clamp_()", "max_pool2d()"),
        ("convs.3", "clip()"),
    ]  # fmt: skip
    assert report.left == {}
    assert_same(results(optimized, x), results(copy.deepcopy(model), x))
    with torch.no_grad():
        assert_same([optimized(x)], [copy.deepcopy(model)(x)])
        with torch.profiler.profile() as profile:
            optimized(x)
    # Those of the last two, and the one behind a BatchNorm that trains.
    assert [event.name for event in profile.events()].count("aten::clamp") == 2 + training


def test_a_hardtanh_with_other_limits_is_not_looked_at():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Hardtanh(), nn.Conv2d(8, 8, 1), nn.Hardtanh(0, 6)).eval()
    optimized, report = convkit.optimize(model)
    assert (report.fused, report.left) == ([("2", "3")], {})
    x = 9 * input_of(Functional)
    assert_same([optimized(x)], [model(x)])


def test_compiles_without_graph_breaks():
    optimized, _ = convkit.optimize(Functional().eval())
    x = input_of(Functional)
    code = []

    def backend(graph, inputs):
        code.append(graph.code)
        return graph

    assert_same([torch.compile(optimized, backend=backend, fullgraph=True)(x)], [optimized(x)])
    assert "convkit.conv2d_max_pool2d" in code[0]
    assert "torch.relu" not in code[0]


class OwnMode(nn.Module):
    """Computes a part of itself without gradients."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)

    def forward(self, x):
        with torch.no_grad():
            x = F.relu(self.stem(x))
        return F.relu(self.head(x))


class OtherState(nn.Module):
    """Decides by what is not a plain attribute of its own."""

    def __init__(self, attribute):
        super().__init__()
        self.conv, self.flags, self.attribute = nn.Conv2d(3, 4, 3), [True], attribute

    shared = True

    def forward(self, x):
        y = F.relu(self.conv(x))
        decided = {"list": lambda: self.flags[0], "class": lambda: self.shared}
        return y if decided[self.attribute]() else y - 100


class AsksChild(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        y = F.relu(self.conv(x))
        return y if self.conv.training else y - 100


def test_a_mode_of_its_own_is_kept():
    model = OwnMode()
    optimized, report = convkit.optimize(model)
    assert "mode of its own" in report.left[""]
    optimized(torch.randn(1, 3, 9, 9)).sum().backward()
    assert model.stem.weight.grad is None
    assert model.head.weight.grad is not None


@pytest.mark.parametrize(
    "model", [AsksChild(), OtherState("list"), OtherState("class")], ids=["child", "list", "class"]
)
def test_what_else_a_forward_asks_is_asked_again(model, monkeypatch):
    optimized, report = convkit.optimize(model.train())
    assert " asks self." in report.left[""]
    x = torch.randn(1, 3, 9, 9)
    assert_same([optimized(x)], [model(x)])
    monkeypatch.setattr(OtherState, "shared", False)
    for one in (optimized, model):
        one.conv.eval()
        if isinstance(model, OtherState):
            one.flags[0] = False
    assert_same([optimized(x)], [model(x)])


def test_children_that_change_later_are_heeded():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.second, self.relu = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.ReLU()

        def forward(self, x):
            return self.relu(self.second(self.relu(self.conv(x))))

    model, x, seen = Twice().eval(), torch.randn(1, 3, 9, 9), []
    optimized, report = convkit.optimize(model)
    assert len(report.fused) == 2
    optimized.relu.register_forward_hook(lambda *_: seen.append(True))
    assert_same([optimized(x)], [model(x)])
    assert len(seen) == 2
    optimized, _ = convkit.optimize(model)
    optimized.relu = model.relu = nn.SiLU()
    assert_same([optimized(x)], [model(x)])


def test_a_window_of_one_number():
    class Pooled(Functional):
        def forward(self, x):
            return F.max_pool2d(F.relu(self.conv1(x)), [2])

    model, x = Pooled().eval(), input_of(Functional)
    assert_same([convkit.optimize(model)[0](x)], [model(x)])
