"""The networks of the benchmark, and the inference engines beside which convkit is timed on them."""

import shutil
import sys

import pytest
import torch
from torch import nn

import convkit
from convkit.benchmark.networks import MOBILENET_V2_STAGES, NETWORKS, Residual, initialise
from convkit.benchmark.peers import PEERS, PeerUnavailable

NEEDS = {"onnxruntime": ["onnxruntime", "onnx", "onnxscript"], "openvino": ["openvino"], "ncnn": ["ncnn"]}
LARGEST_ERROR = 1e-4  # relative, in the L2 norm: Winograd convolutions and other orders of summation


def tiny_network():
    """What the big networks are made of, in small: strides, groups, depthwise, residuals, uneven sizes."""
    branch = [nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6()]
    branch += [nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False), nn.BatchNorm2d(16), nn.ReLU6()]
    branch += [nn.Conv2d(16, 8, 1, bias=False), nn.BatchNorm2d(8)]
    stem = [nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    shortcut = nn.Sequential(nn.Conv2d(8, 8, (3, 1), padding=(1, 0), groups=2), nn.BatchNorm2d(8))
    blocks = [Residual(nn.Sequential(*branch), nn.Identity(), nn.Identity())]
    blocks += [Residual(nn.Conv2d(8, 8, 3, padding=2, dilation=2), shortcut, nn.ReLU()), nn.MaxPool2d(2)]
    head = [nn.AdaptiveAvgPool2d((2, 3)), nn.Flatten(), nn.Linear(48, 9), nn.ReLU(), nn.Dropout(), nn.Linear(9, 5)]
    model = initialise(nn.Sequential(*stem, *blocks, *head))
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):  # statistics as after training, which a fusion must not lose
            for tensor in (norm.weight.data, norm.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (norm.bias.data, norm.running_mean):
                tensor.normal_()
    return model


def relative_error(result, expected):
    return ((result.double() - expected.double()).norm() / expected.double().norm()).item()


def skip_where_absent(peer):
    for name in NEEDS.get(peer, []):
        pytest.importorskip(name)
    if peer not in NEEDS and not shutil.which("g++"):
        pytest.skip("torch.compile needs a C++ compiler")


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "channels_last"])
@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_computes_what_torch_computes(peer, memory_format):
    skip_where_absent(peer)
    model = tiny_network().eval().to(memory_format=memory_format)
    input = torch.randn(2, 3, 45, 38).to(memory_format=memory_format)
    with torch.no_grad():
        expected = model(input)
    run = PEERS[peer](model, input, 1)
    del input  # a peer keeps what it needs
    first, second = run(), run()
    assert first.dtype == torch.float32
    assert first.shape == expected.shape
    assert relative_error(first, expected) <= LARGEST_ERROR
    assert torch.equal(first, second)
    assert first.data_ptr() != second.data_ptr()


class Flattening(nn.Module):
    """As VGG does it: by a function."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(1, 3, 5), nn.Linear(3 * 24 * 24, 4)

    def forward(self, input):
        return self.linear(torch.flatten(self.conv(input), 1))


@pytest.mark.parametrize("build", [NETWORKS["small_cnn"].build, Flattening], ids=["small_cnn", "flatten"])
@pytest.mark.parametrize("peer", NEEDS)
def test_a_peer_runs_a_small_network(peer, build):
    skip_where_absent(peer)
    model, input = build().eval(), torch.randn(1, 1, 28, 28)
    assert relative_error(PEERS[peer](model, input, 2)(), model(input).detach()) <= LARGEST_ERROR


@pytest.mark.parametrize(("peer", "package"), [(peer, package) for peer in NEEDS for package in NEEDS[peer]])
def test_an_absent_package_is_named(monkeypatch, peer, package):
    for other in NEEDS[peer]:
        if other != package:
            pytest.importorskip(other)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(PeerUnavailable, match=f"^{package} is not installed: pip install"):
        PEERS[peer](tiny_network().eval(), torch.randn(1, 3, 45, 38), 1)


def test_without_a_compiler_torch_compile_is_unavailable(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.compiler.reset()
    with pytest.raises(PeerUnavailable, match=r"^torch\.compile: no C\+\+ compiler$"):
        PEERS["torch.compile"](nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU()).eval(), torch.randn(1, 1, 9, 7), 1)


def test_ncnn_refuses_what_it_has_no_layer_for():
    pytest.importorskip("ncnn")
    for layer, words in [(nn.Softplus(), "Softplus"), (nn.MaxPool2d(2, ceil_mode=True), "ceil_mode")]:
        with pytest.raises(PeerUnavailable, match=f"^ncnn: no .*{words}"):
            PEERS["ncnn"](nn.Sequential(layer).eval(), torch.randn(1, 3, 9, 9), 1)


@pytest.mark.parametrize("peer", PEERS)
def test_a_network_in_training_is_refused(peer):
    with pytest.raises(ValueError, match=r"model\.eval\(\)"):
        PEERS[peer](tiny_network().train(), torch.randn(1, 3, 45, 38), 1)


@pytest.mark.parametrize("name", ["small_cnn", "mobilenet_v2"])
def test_a_network_of_convkit_computes_what_that_of_torch_computes(name):
    network = NETWORKS[name]
    model, ours = network.build().eval(), network.build(layers=convkit.nn).eval()
    ours.load_state_dict(model.state_dict())
    input = torch.randn(1, *network.input_size)
    with torch.no_grad():
        expected = model(input)
        assert relative_error(ours(input), expected) <= LARGEST_ERROR
    assert expected.isfinite().all()
    assert 0.01 < expected.std() < 100
    kinds = {type(module) for module in ours.modules()}
    assert any(issubclass(kind, convkit.nn.ConvBlock2d) for kind in kinds) == (name == "small_cnn")
    assert not kinds & {nn.Conv2d, nn.Linear, nn.MaxPool2d, nn.ReLU}


def test_sizes_are_those_of_the_papers():
    with torch.device("meta"):
        sizes = {name: sum(p.numel() for p in NETWORKS[name].build().parameters()) for name in NETWORKS}
    assert sizes == {
        "vgg16": 138_357_544,
        "vgg19": 143_667_240,
        "xception": 22_855_952,
        "resnet50": 25_557_032,
        "mobilenet_v2": 3_504_872,
        "small_cnn": 20_490,
    }
    assert sum(blocks for _, _, blocks, _ in MOBILENET_V2_STAGES) == 17
