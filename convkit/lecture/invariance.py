"""How networks that learned upright, centred digits read translated, rotated and scaled ones."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import affine_grid, grid_sample

import convkit.nn
from convkit.data import Options, load
from convkit.models import mlp, small_cnn
from convkit.train import Config, fit

HIDDEN = [128, 64]
TRANSLATIONS = (0, 1, 2, 3, 4, 5)  # pixels, to each of four sides
ANGLES = (0, 10, 20, 30, 40)  # degrees, to each side
SCALES = (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3)
SHOWN_DIGIT = 4
NETWORKS = ("mlp", "cnn", "cnn_pooled")


def mlp_of_pixels(size):
    return nn.Sequential(nn.Flatten(), *mlp(size * size, HIDDEN, 10))


def cnn_without_pooling(size, layers=convkit.nn):
    """:func:`convkit.models.small_cnn` without its two max-poolings."""
    pooled = small_cnn(image_size=size, layers=layers)
    kept = [module for module in pooled[:-1] if not isinstance(module, nn.MaxPool2d)]
    return nn.Sequential(*kept, layers.Linear(32 * size * size, 10))


BUILD = {"mlp": mlp_of_pixels, "cnn": cnn_without_pooling, "cnn_pooled": lambda size: small_cnn(image_size=size)}


def transform(images, *, translate=(0.0, 0.0), angle=0.0, scale=1.0):
    """Images (N, C, H, W) translated right and down by ``translate`` pixels, rotated by ``angle`` degrees
    counter-clockwise, scaled by ``scale``; black comes in from outside."""
    height, width = images.shape[2:]
    radians = torch.deg2rad(torch.tensor(angle))
    cosine, sine = (radians.cos() / scale).item(), (radians.sin() / scale).item()
    right, down = 2 * translate[0] / width, 2 * translate[1] / height
    # Where each pixel of the result comes from: the inverse of the wanted map, in units of half an image.
    inverse = [[cosine, -sine, -cosine * right + sine * down], [sine, cosine, -sine * right - cosine * down]]
    grid = affine_grid(torch.tensor([inverse]).expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return grid_sample(images, grid, align_corners=False)


def variants():
    """experiment -> amount -> the transformations that have it."""
    sides = ((1, 0), (-1, 0), (0, 1), (0, -1))
    return {
        "translation": {
            n: [{"translate": (n * x, n * y)} for x, y in (sides if n else sides[:1])] for n in TRANSLATIONS
        },
        "rotation": {a: [{"angle": float(a)}, {"angle": -float(a)}] if a else [{}] for a in ANGLES},
        "scale": {f: [{"scale": f}] for f in SCALES},
    }


@dataclass(frozen=True)
class Result:
    """``curves[experiment][network]`` are accuracies in [0, 1] at ``amounts[experiment]``."""

    curves: dict
    amounts: dict  # experiment -> list
    parameters: dict  # network -> number
    images: list  # for each experiment, one digit at each amount, (H, W)
    samples: int
    tests: int

    def lost(self, name, pixels=3):
        """How much accuracy a translation by so many pixels costs a network."""
        values = self.curves["translation"][name]
        return values[0] - values[self.amounts["translation"].index(pixels)]


@torch.no_grad()
def accuracy(model, images, labels):
    return (model(images).argmax(1) == labels).float().mean().item()


def run(epochs, limit=None):
    """Train the three networks on MNIST's digits as they are, and read transformed ones; returns :class:`Result`.

    Args:
        epochs: of training.
        limit: learn so many digits at most, and read so many.
    """
    data = load("mnist5k", Options(valid=0))
    (images, labels), (test_images, test_labels) = data.train.tensors, data.test.tensors
    order, chosen = (
        torch.randperm(len(part), generator=torch.Generator().manual_seed(0))[:limit] for part in (labels, test_labels)
    )
    test_images, test_labels = test_images[chosen], test_labels[chosen]
    config = Config(epochs=epochs, lr=2e-3, device="cpu", progress=False)
    models = {}
    for name in NETWORKS:
        torch.manual_seed(0)
        models[name] = BUILD[name](images.shape[-1])
        fit(models[name], (images[order], labels[order]), config=config)
        models[name].eval()
    curves = {}
    for experiment, amounts in variants().items():
        curves[experiment] = {name: [] for name in NETWORKS}
        for options in amounts.values():
            transformed = [transform(test_images, **option) for option in options]
            for name, model in models.items():
                found = [accuracy(model, batch, test_labels) for batch in transformed]
                curves[experiment][name].append(sum(found) / len(found))
    example = test_images[test_labels == SHOWN_DIGIT][:1]
    shown = [
        [transform(example, **options[0])[0, 0] for options in amounts.values()] for amounts in variants().values()
    ]
    parameters = {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()}
    amounts = {experiment: list(found) for experiment, found in variants().items()}
    return Result(curves, amounts, parameters, shown, len(order), len(test_images))
