"""The lecture's networks: sizes, names of parameters, and the same results as on torch.nn with the same weights."""

import sys
import sysconfig
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.export import Dim
from torch.nn import functional

import convkit
from convkit.models import linear_model, mlp, small_cnn, suggest_mlp, summary, vgg16, vgg19, video_cnn, xception
from convkit.models._summary import Layer
from convkit.models.vgg import VGG
from convkit.models.video import Conv2Plus1d
from convkit.onnx import export, to_aten
from convkit.testing.tolerances import relative_error

FORMATS = [torch.contiguous_format, torch.channels_last]
TORCHVISION_VGG16 = [f"features.{i}.{kind}" for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28) for kind in "wb"]
TORCHVISION_VGG16 += [f"classifier.{i}.{kind}" for i in (0, 3, 6) for kind in "wb"]


def tiny_vgg(*, layers=convkit.nn):
    return VGG([(4, 1), (8, 2)], in_channels=3, num_classes=5, dropout=0.0, layers=layers)


# name -> (build, a batch)
NETWORKS = {
    "linear_model": (lambda **kw: linear_model(5, 3, **kw), (4, 5)),
    "mlp": (lambda **kw: mlp(5, [8, 4], 3, **kw), (4, 5)),
    "mlp, tanh": (lambda **kw: mlp(5, [8, 4], 3, activation="tanh", **kw), (4, 5)),
    "mlp, sigmoid": (lambda **kw: mlp(5, [8], 3, activation="sigmoid", head="softmax", **kw), (4, 5)),
    "small_cnn": (lambda **kw: small_cnn(3, 5, 10, **kw), (4, 3, 10, 10)),
    "vgg": (tiny_vgg, (4, 3, 32, 32)),
    "xception": (lambda **kw: xception(3, 5, **kw), (4, 3, 71, 71)),
    "video_cnn": (lambda **kw: video_cnn(1, 4, **kw), (4, 1, 8, 16, 16)),
}


def pair(name):
    """The network on convkit's layers and on torch's, with the same weights; and a batch."""
    build, size = NETWORKS[name]
    ours, theirs = build(), build(layers=nn)
    assert type(ours) is type(theirs)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs, torch.randn(size)


def converted(format, *values):
    """4-D tensors and models in a memory format; clips and rows have none of their own."""
    is_image = values[-1].dim() == 4
    return [value.to(memory_format=format) if is_image or isinstance(value, nn.Module) else value for value in values]


@pytest.mark.parametrize("format", FORMATS, ids=["nchw", "channels_last"])
@pytest.mark.parametrize("name", NETWORKS)
def test_evaluation_equals_torchs(name, format):
    ours, theirs, batch = converted(format, *pair(name))
    with torch.no_grad():
        expected = theirs.eval()(batch)
        assert relative_error(ours.eval()(batch), expected.double()) < 1e-5
        fused, _ = convkit.optimize(ours)
        assert relative_error(fused(batch), expected.double()) < 1e-5
    assert 1e-3 < expected.std() < 1e3  # neither faded nor overflowing before it is compared


@pytest.mark.parametrize("format", FORMATS, ids=["nchw", "channels_last"])
@pytest.mark.parametrize("name", NETWORKS)
def test_training_equals_torchs(name, format):
    ours, theirs, batch = converted(format, *pair(name))
    labels = torch.arange(len(batch)) % 3
    losses = [functional.cross_entropy(model.train()(batch), labels) for model in (ours, theirs)]
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-5)
    for loss in losses:
        loss.backward()
    gradients = [torch.cat([p.grad.flatten() for p in model.parameters()]) for model in (ours, theirs)]
    # Xception: 40 BatchNorms in a row, over as few as 36 values, enlarge a difference; torch's is 3e-3 from float64.
    assert relative_error(gradients[0], gradients[1].double()) < (1e-2 if name == "xception" else 1e-4)
    for a, b in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_vgg16_equals_torchs_and_loads_a_file_with_its_keys(tmp_path):
    theirs = vgg16(layers=nn).eval()
    torch.save(theirs.state_dict(), tmp_path / "vgg16.pth")
    with torch.device("meta"):
        ours = vgg16().eval()
    published = torch.load(tmp_path / "vgg16.pth", weights_only=True, mmap=True)
    assert [key.replace("weight", "w").replace("bias", "b") for key in published] == TORCHVISION_VGG16
    ours.load_state_dict(published, assign=True)
    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = theirs(image)
        assert relative_error(ours(image), expected.double()) < 1e-5
        small = image[..., :64, :48]
        assert relative_error(ours(small), theirs(small).double()) < 1e-5  # the mean of 2x1 pixels, 7x7 times
    assert ours.classifier[0].weight.shape == (4096, 25088)


def test_published_sizes():
    with torch.device("meta"):
        sizes = {build.__name__: summary(build()) for build in (vgg16, vgg19, xception)}
    assert {name: (s.parameters, s.buffers) for name, s in sizes.items()} == {
        "vgg16": (138_357_544, 0),
        "vgg19": (143_667_240, 0),
        "xception": (22_855_952, 54_528),
    }
    assert sizes["xception"].parameters + sizes["xception"].buffers == 22_910_480
    # 15.47 and 19.63 thousand million multiply-adds, as torchvision's table has them.
    assert [round(sizes[name].flops / 2e9, 2) for name in ("vgg16", "vgg19")] == [15.47, 19.63]
    assert [sizes[name].bytes >> 20 for name in ("vgg16", "vgg19")] == [527, 548]  # the lecture: 528, 549, rounded
    with torch.device("meta"):
        features = vgg19().features
    convolutions = [i for i, module in enumerate(features) if isinstance(module, nn.Conv2d)]
    assert convolutions == [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34]


def test_xception_has_timms_keys():
    with torch.device("meta"):
        keys = list(xception().state_dict())
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = []
    for i in (1, 2):
        expected += [f"conv{i}.weight", *(f"bn{i}.{part}" for part in norm)]
    for block in range(1, 13):
        if block in (1, 2, 3, 12):
            expected += [f"block{block}.skip.weight", *(f"block{block}.skipbn.{part}" for part in norm)]
        first = 0 if block == 1 else 1
        for i in range(2 if block in (1, 2, 3, 12) else 3):
            place = f"block{block}.rep.{first + 3 * i}"
            expected += [f"{place}.conv1.weight", f"{place}.pointwise.weight"]
            expected += [f"block{block}.rep.{first + 3 * i + 1}.{part}" for part in norm]
    for i in (3, 4):
        expected += [f"conv{i}.conv1.weight", f"conv{i}.pointwise.weight", *(f"bn{i}.{part}" for part in norm)]
    assert keys == [*expected, "fc.weight", "fc.bias"]


def test_summary_tells_shapes_parameters_and_flops_and_leaves_the_model_alone():
    model = xception(num_classes=7)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.block1.eval()
    found = summary(model)
    assert found.layers[-1] == Layer("fc", "Linear", (1, 7), 7 * 2049, 2 * 7 * 2048)
    assert next(layer for layer in found.layers if layer.name == "conv1").flops == 2 * 32 * 27 * 149 * 149
    assert sum(layer.parameters for layer in found.layers) == found.parameters
    assert sum(layer.flops for layer in found.layers) == found.flops
    assert f"{found.parameters:,}" in str(found)
    assert model.training
    assert not model.block1.rep[1].training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert summary(model, (3, 71, 71)).flops < found.flops
    assert summary(small_cnn(layers=nn)) == summary(small_cnn())
    fused, _ = convkit.optimize(small_cnn().eval())
    assert summary(fused).flops == summary(small_cnn()).flops
    with pytest.raises(ValueError, match="summary: Linear has no input_size"):
        summary(nn.Linear(2, 2))
    assert summary(nn.Linear(2, 3), (2,)).flops == 12


def test_mlp():
    model = mlp(13, [8, 4], 3)
    assert summary(model).parameters == 163
    assert sum(layer.parameters for layer in summary(model).layers[:3]) == 148  # without the output layer
    x = torch.randn(6, 5)
    assert torch.allclose(mlp(5, [4], 3, head="softmax")(x).sum(1), torch.ones(6))
    assert mlp(5, (4, 4), 2, activation="sigmoid", head="sigmoid")(9 * x).sub(0.5).abs().max() <= 0.5
    assert linear_model(5, 1)(x).shape == (6, 1)
    linear = linear_model(5, 2)
    assert torch.equal(linear(x), convkit.linear(x, linear[0].weight, linear[0].bias))
    with pytest.raises(ValueError, match="mlp: in_features must be a positive integer, but got 0"):
        mlp(0, [], 1)
    with pytest.raises(ValueError, match=r"mlp: a width in hidden must be a positive integer, but got 2\.5"):
        mlp(1, (2.5,), 1)
    with pytest.raises(ValueError, match="activation must be one of relu, sigmoid, tanh, identity, but got 'gelu'"):
        mlp(1, [], 1, activation="gelu")
    with pytest.raises(ValueError, match="head must be None, 'softmax' or 'sigmoid', but got 'relu'"):
        mlp(1, [], 1, head="relu")


def test_rule_of_thumb():
    wine = suggest_mlp(13, 3, 178)
    assert wine.widths == (13, 8, 4, 3)
    assert wine.hidden == [8, 4]
    assert wine.parameters == 163 == summary(mlp(13, wine.hidden, 3)).parameters
    assert "8 for about half of 13, 4 for half of that" in str(wine)
    assert suggest_mlp(30, 2, 569).widths == (30, 16, 8, 2)
    assert suggest_mlp(10, None, 442).widths == (10, 4, 2, 1)
    assert suggest_mlp(64, 10, 1797).hidden == [32, 16]
    few = suggest_mlp(64, 10, 310)
    assert few.hidden == [8, 4]
    assert few.parameters <= 2 * 310
    assert "halved to 8 and 4" in str(few)
    assert "try 10 there too" in str(few)
    assert "take fewer features" in str(suggest_mlp(1000, 2, 50))
    with pytest.raises(ValueError, match="suggest_mlp: classes must be an integer of at least 2, but got 1"):
        suggest_mlp(3, 1, 10)


def test_conv2plus1d_is_two_convolutions_of_clips():
    block, clips = Conv2Plus1d(3, 5, convkit.nn), torch.randn(2, 3, 6, 7, 8)
    spatial, temporal = block.spatial, block.temporal
    frames = functional.conv3d(clips, spatial.weight[:, :, None], spatial.bias, padding=(0, 1, 1)).relu()
    expected = functional.conv3d(frames, temporal.weight[..., None], temporal.bias, padding=(1, 0, 0))
    torch.testing.assert_close(block(clips), expected, rtol=1e-4, atol=1e-5)
    dense = clips.to(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(block(dense), expected, rtol=1e-4, atol=1e-5)


def test_small_cnn():
    assert summary(small_cnn()).parameters == 20_490
    assert small_cnn(3, 7, 9)(torch.randn(2, 3, 9, 9)).shape == (2, 7)
    with pytest.raises(ValueError, match="small_cnn: image_size must be at least 4, but got 3"):
        small_cnn(image_size=3)


def test_video_cnn_sees_the_order_of_frames():
    model, clip = video_cnn().eval(), torch.randn(1, 1, 8, 16, 16)
    assert not torch.allclose(model(clip), model(clip.flip(2)), atol=1e-4)
    assert model(clip[:, :, :5, :9]).shape == (1, 4)
    with pytest.raises(ValueError, match="video_cnn: with 2 blocks frames must have at least 4 x 4 pixels"):
        video_cnn(input_size=(8, 16, 3))


@pytest.mark.parametrize("name", NETWORKS)
def test_compiles_without_a_graph_break(name):
    ours, _, batch = pair(name)
    for training in (False, True) if name != "xception" else (True,):  # which takes as long as all others together
        ours.train(training)
        torch.manual_seed(1)
        expected = ours(batch)
        torch.manual_seed(1)
        found = torch.compile(ours, fullgraph=True, backend="aot_eager")(batch)
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_inductor_computes_what_eager_does(training):
    """With code that it generates and compiles around convkit's ops, gradients included."""
    from torch._inductor import cpp_builder
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        cpp_builder.get_cpp_compiler()
    except InvalidCxxCompiler:
        pytest.skip("inductor finds no C++ compiler")
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        pytest.skip("inductor needs Python.h, which is not installed")
    ours, _, batch = pair("small_cnn")
    ours.train(training)
    compiled = torch.compile(ours, fullgraph=True, backend="inductor")
    with torch.set_grad_enabled(training):
        expected, found = ours(batch), compiled(batch)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    if training:
        labels, parameters = torch.arange(len(batch)) % 3, list(ours.parameters())
        gradients = [
            torch.autograd.grad(functional.cross_entropy(outputs, labels), parameters) for outputs in (expected, found)
        ]
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_exports_and_decomposes_to_aten(name):
    ours, _, batch = pair(name)
    ours.eval()
    with torch.no_grad():
        expected = ours(batch)
        program = torch.export.export(ours, (batch,), dynamic_shapes=({0: Dim("batch", min=2, max=64)},))
        assert "convkit." in str(program.graph)
        torch.testing.assert_close(program.module()(batch[:2]), expected[:2], rtol=1e-4, atol=1e-5)
        decomposed = to_aten(program)
        assert "convkit." not in str(decomposed.graph)
        torch.testing.assert_close(decomposed.module()(batch), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [small_cnn, vgg16, vgg19, xception, video_cnn])
def test_channels_and_classes_must_be_positive(make):
    for name, wrong in (("in_channels", "3"), ("num_classes", 0)):
        with pytest.raises(ValueError, match=f"{make.__name__}: {name} must be a positive integer, but got {wrong!r}"):
            make(**{name: wrong})


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_onnx_names_the_extra_that_it_needs(package, tmp_path, monkeypatch):
    if package == "onnxscript":
        pytest.importorskip("onnx")
    monkeypatch.setitem(sys.modules, package, None)
    ours, _, batch = pair("mlp")
    with pytest.raises(ModuleNotFoundError, match=rf"{package} is not installed: pip install 'convkit\[onnx\]'"):
        export(ours, (batch,), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["mlp", "small_cnn", "vgg", "xception", "video_cnn"])
def test_onnx(name, tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    import onnxruntime

    ours, _, batch = pair(name)
    export(ours, (batch,), tmp_path / "model.onnx", dynamic_shapes=({0: Dim("batch", min=2, max=64)},))
    assert ours.training
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = ours.eval()(batch)
    for count in (2, 4):
        [found] = session.run(None, {session.get_inputs()[0].name: batch[:count].numpy()})
        assert relative_error(torch.from_numpy(found), expected[:count].double()) < 1e-5
