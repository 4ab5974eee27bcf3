"""The networks by name, for samples of any size: what the command line builds."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from convkit.models.cnn import small_cnn
from convkit.models.mlp import linear_model, mlp, suggest_mlp
from convkit.models.vgg import vgg16, vgg19
from convkit.models.video import video_cnn
from convkit.models.xception import xception

# Mean and spread of ImageNet's pixels, which torchvision's weights expect.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGE_HIDDEN = (128, 64)  # of an MLP on images, where the rule of thumb would leave next to nothing


@dataclass(frozen=True)
class Entry:
    """A network.

    Attributes:
        build: (input_size, outputs, hidden) -> module; ``hidden`` is for an MLP only.
        inputs: "table", "image" or "video": what it takes; "any" flattens.
        about: one line.
        input_size: of the network as published, or as an example.
        outputs: the same for its outputs.
        mean, std: by channel, of the pixels in [0, 1] that published weights expect.
        crop, interpolation: share of the shorter side that they are shown of an image, and Pillow's filter to scale it.
        recipe: settings of ``convkit.train.Config`` that fit it better than those of the kind of data.
    """

    build: Callable
    inputs: str
    about: str
    input_size: tuple[int, ...]
    outputs: int
    recipe: dict = field(default_factory=dict)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    crop: float = 224 / 256
    interpolation: str = "bilinear"

    def preprocessing(self, size):
        """How published weights expect images of ``size`` x ``size`` pixels, as in ``convkit.data.Data``."""
        how = {"crop": self.crop, "interpolation": self.interpolation}
        return {"kind": "image", "size": [size, size], "mean": list(self.mean), "std": list(self.std), **how}


def _flat(make):
    """Dense layers on samples of any shape."""

    def build(input_size, outputs, hidden):
        features = 1
        for size in input_size:
            features *= size
        model = make(features, outputs, hidden)
        if len(input_size) > 1:
            model = nn.Sequential(nn.Flatten(), *model)
            model.input_size = tuple(input_size)
        return model

    return build


def _cnn(make):
    def build(input_size, outputs, _hidden):
        model = make(input_size[0], outputs)
        model.input_size = tuple(input_size)
        return model

    return build


def _small_cnn(input_size, outputs, _hidden):
    channels, height, width = input_size
    if height != width:
        raise ValueError(f"small-cnn: images must be square, but they are {height} x {width}")
    return small_cnn(channels, outputs, height)


# As the papers have it, but for the batch of 256 and, for Xception, the schedule; momentum is Config's 0.9.
_VGG = {"optimizer": "sgd", "lr": 0.01, "weight_decay": 5e-4, "schedule": "step", "epochs": 74}
_XCEPTION = {"optimizer": "sgd", "lr": 0.045, "weight_decay": 1e-5, "epochs": 90}

CATALOG = {
    "linear": Entry(_flat(lambda i, o, _: linear_model(i, o)), "any", "F(x) = w.x + b", (13,), 3),
    "mlp": Entry(
        _flat(lambda i, o, hidden: mlp(i, hidden, o)), "any", "multi-layer perceptron, widths by --hidden", (13,), 3
    ),
    "small-cnn": Entry(_small_cnn, "image", "two convolutions with pooling, one dense layer", (1, 28, 28), 10),
    "vgg16": Entry(_cnn(vgg16), "image", "13 convolutions, 3 dense layers", (3, 224, 224), 1000, _VGG, MEAN, STD),
    "vgg19": Entry(_cnn(vgg19), "image", "16 convolutions, 3 dense layers", (3, 224, 224), 1000, _VGG, MEAN, STD),
    "xception": Entry(
        _cnn(xception),
        "image",
        "depthwise-separable, residual",
        (3, 299, 299),
        1000,
        _XCEPTION,
        mean=(0.5, 0.5, 0.5),  # these four as timm's legacy_xception.tf_in1k has them
        std=(0.5, 0.5, 0.5),
        crop=0.8975,
        interpolation="bicubic",
    ),
    "video-cnn": Entry(
        lambda size, outputs, _: video_cnn(size[0], outputs, size[1:]),
        "video",
        "(2+1)D: over each frame, then over time",
        (1, 8, 16, 16),
        4,
    ),
}
KINDS = {1: "table", 3: "image", 4: "video"}  # dimensions of a sample -> what it is


def default_hidden(input_size, classes, samples):
    """Widths of an MLP where none are given: the lecture's rule of thumb for tables.

    Args:
        classes: their number; None for a regression.
    """
    if len(input_size) > 1:
        return list(IMAGE_HIDDEN)
    return list(suggest_mlp(input_size[0], classes, samples).hidden)


def build(name, input_size, outputs, hidden=()):
    """The network ``name`` of ``CATALOG`` for samples of ``input_size``, with its weights drawn anew.

    Raises:
        ValueError: no such network, or one that does not take such samples.
    """
    if name not in CATALOG:
        raise ValueError(f"there is no model {name!r}; there are {', '.join(CATALOG)}")
    entry, kind = CATALOG[name], KINDS.get(len(input_size))
    if entry.inputs not in ("any", kind):
        size = "x".join(map(str, input_size))
        raise ValueError(f"{name} is for samples of kind {entry.inputs}, but these are of size {size}: {kind}")
    return entry.build(tuple(input_size), outputs, list(hidden))
