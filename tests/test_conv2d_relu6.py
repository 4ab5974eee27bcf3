"""conv2d with ReLU6: what relu6 makes of the convolution, bit for bit, in every algorithm; gradients; optimize."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import convkit
from convkit.testing import shapes

NAN = float("nan")
CASES = {
    "direct": shapes.Conv2dCase("direct", 2, 5, (9, 11), 18, (3, 2), (2, 1), (1, 1)),
    "pointwise": shapes.Conv2dCase("pointwise", 2, 24, (7, 9), 40, (1, 1)),
    "planes": shapes.Conv2dCase("planes", 2, 3, (12, 21), 7, padding=(1, 1)),
    "winograd": shapes.Conv2dCase("winograd", 2, 17, (9, 10), 33, padding=(1, 1)),
    "depthwise": shapes.Conv2dCase("depthwise", 2, 20, (9, 21), 20, padding=(1, 1), groups=20),
    "grouped": shapes.Conv2dCase("grouped", 2, 24, (9, 10), 24, padding=(1, 1), groups=6),
    "kn2row": shapes.Conv2dCase("kn2row", 2, 40, (9, 33), 3, padding=(1, 1)),
    "generic": shapes.Conv2dCase("generic", 2, 3, (5, 6), 4),
}
ALGORITHM = {"pointwise": "direct", "planes": "direct"}


def tensors_of(name, dtype, layout):
    """Values of which ReLU6 cuts off a part on either side."""
    case = CASES[name]
    sizes = (case.input_size, case.weight_size, (case.out_channels,))
    input, weight, bias = (shapes.random(size, dtype, seed=i) for i, size in enumerate(sizes))
    arrange = shapes.LAYOUTS[layout]
    return arrange(input * 8), arrange(weight), bias * 4 + 3


def both(name, tensors, **options):
    arguments = {**CASES[name].arguments, "algorithm": ALGORITHM.get(name, name)}
    convolved = convkit.conv2d(*tensors, **arguments)
    return convkit.conv2d(*tensors, **arguments, activation="relu6", **options), F.relu6(convolved)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_values(name, dtype, layout):
    tensors = tensors_of(name, dtype, layout)
    tensors[0][0, 0, 2, 3] = NAN
    actual, expected = both(name, tensors)
    assert actual.stride() == expected.stride()
    assert actual.isnan().any()
    assert (expected == 6).any()
    assert (expected == 0).any()
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", CASES)
def test_gradients(name):
    tensors = tensors_of(name, torch.float32, "channels_last")
    results = []
    for index in range(2):
        leaves = [t.detach().requires_grad_() for t in tensors]
        output = both(name, leaves)[index]
        results.append(torch.autograd.grad(output, leaves, shapes.random(output.shape, torch.float32, seed=7)))
    for one, other in zip(*results, strict=True):  # their sums differ in order: the gradients' strides do
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * other.abs().max().item())


def test_gradcheck():
    tensors = [t.requires_grad_() for t in tensors_of("generic", torch.float64, "contiguous")]

    def call(*operands):
        return convkit.conv2d(*operands, activation="relu6")

    assert torch.autograd.gradcheck(call, tensors, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(call, tensors)


def test_pooling_is_an_op_of_its_own():
    tensors = tensors_of("winograd", torch.float32, "contiguous")
    results = []
    for fused in (True, False):
        leaves = [t.detach().requires_grad_() for t in tensors]
        pooled, activated = both("winograd", leaves, max_pool=2)
        pooled = pooled if fused else convkit.max_pool2d(activated, 2)
        results.append([pooled, *torch.autograd.grad(pooled.square().sum(), leaves)])
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))
    with pytest.raises(RuntimeError, match="conv2d_max_pool2d: activation must be 'none' or 'relu', but got 'relu6'"):
        torch.ops.convkit.conv2d_max_pool2d(
            *tensors, [1, 1], [1] * 4, [1, 1], 1, "relu6", [2, 2], [2, 2], [0, 0], False, "auto"
        )


def test_packed_weights():
    input, weight, bias = tensors_of("winograd", torch.float32, "contiguous")
    packed = convkit.prepack(weight, bias, padding=1, input_size=(9, 10))
    assert torch.equal(
        convkit.conv2d(input, packed, padding=1, activation="relu6"),
        convkit.conv2d(input, weight, bias, padding=1, activation="relu6"),
    )


def inverted_residual():
    """As MobileNetV2's, with statistics as after training."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(8, 48, 1, bias=False), nn.BatchNorm2d(48), nn.ReLU6(inplace=True)),
        *(nn.Conv2d(48, 48, 3, 1, 1, groups=48, bias=False), nn.BatchNorm2d(48), nn.ReLU6(inplace=True)),
        *(nn.Conv2d(48, 8, 1, bias=False), nn.BatchNorm2d(8)),
    )
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_var.uniform_(0.01, 0.1)
            norm.running_mean.normal_()
    return model


@pytest.mark.parametrize("training", [False, True])
def test_optimize_fuses_it(training):
    model = inverted_residual().train(training)
    optimized, report = convkit.optimize(model)
    assert report.fused == [("0", "1", "2"), ("3", "4", "5"), ("6", "7")]
    assert not report.left
    x, grad_output = (shapes.random((2, 8, 14, 14), seed=seed) for seed in (1, 2))
    results = []
    for network in (optimized, model):
        output = network(x)
        gradients = torch.autograd.grad(output, network.parameters(), grad_output) if training else ()
        results.append([output, *gradients])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * other.abs().max().item())
