"""A CNN that takes noise out of pictures, trained on photographs that come with scikit-image."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

import convkit.nn
from convkit.train import Config, fit

TRAINING = ("astronaut", "coffee", "rocket", "chelsea", "brick", "grass", "page")
TESTS = ("camera", "coins")  # no part of them is trained on
NOISE = 0.1  # standard deviation, of values from 0 to 1
PATCH = 32
BATCH = 16


class Denoiser(nn.Module):
    """3x3 convolutions with ReLU between them that estimate the noise; it is subtracted from the image.

    Takes and returns (N, 1, H, W). Before training it estimates none.
    """

    def __init__(self, width=24, depth=4, layers=convkit.nn):
        super().__init__()
        self.input_size = (1, PATCH, PATCH)
        steps, channels = [], 1
        for _ in range(depth - 1):
            steps += [layers.Conv2d(channels, width, 3, padding=1), layers.ReLU(inplace=True)]
            channels = width
        last = layers.Conv2d(channels, 1, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.noise = nn.Sequential(*steps, last)

    def forward(self, input):
        return input - self.noise(input)


@dataclass(frozen=True)
class Picture:
    """A test picture, (H, W) each, and how far the noisy and the cleaned one are from it, in dB (higher is better)."""

    name: str
    clean: torch.Tensor
    noisy: torch.Tensor
    cleaned: torch.Tensor
    psnr_noisy: float
    psnr_cleaned: float
    psnr_blurred: float  # of the best Gaussian blur, which needs no training


def psnr(image, clean):
    """Peak signal-to-noise ratio in dB: 10 log10(1 / mean squared error), for values from 0 to 1."""
    return -10 * torch.log10((image.clamp(0, 1) - clean).square().mean()).item()


def photograph(name):
    """A picture of scikit-image in grey, (H, W) from 0 to 1."""
    from skimage import data
    from skimage.color import rgb2gray
    from skimage.util import img_as_float

    image = getattr(data, name)()
    return torch.from_numpy(img_as_float(rgb2gray(image) if image.ndim == 3 else image).astype(np.float32))


def noisy(image, seed):
    return image + NOISE * torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))


def patches(count, seed=0):
    """(noisy, clean) squares out of the training pictures, (count, 1, 32, 32) each, half of them mirrored."""
    generator = torch.Generator().manual_seed(seed)
    pictures = [photograph(name) for name in TRAINING]
    clean = torch.empty(count, 1, PATCH, PATCH)
    for index in range(count):
        picture = pictures[index % len(pictures)]
        row, column, mirrored = (
            torch.randint(high, (1,), generator=generator).item()
            for high in (picture.shape[0] - PATCH + 1, picture.shape[1] - PATCH + 1, 2)
        )
        patch = picture[row : row + PATCH, column : column + PATCH]
        clean[index, 0] = patch.flip(1) if mirrored else patch
    return noisy(clean, seed + 1), clean


def train(count, epochs):
    """A :class:`Denoiser` trained on ``count`` patches; the loss is the mean squared error."""
    torch.manual_seed(0)
    model = Denoiser()
    inputs, targets = patches(count)
    config = Config(epochs=epochs, batch_size=BATCH, lr=3e-3, loss="mse", weight_decay=0, device="cpu", progress=False)
    fit(nn.Sequential(model, nn.Flatten()), (inputs, targets.flatten(1)), config=config)
    return model.eval()


def best_blur(image, clean):
    """PSNR of the Gaussian blur that comes closest to the clean picture."""
    from skimage.filters import gaussian

    blurred = (torch.from_numpy(gaussian(image.numpy(), sigma)) for sigma in (0.5, 0.7, 0.9, 1.1, 1.4, 1.8))
    return max(psnr(picture, clean) for picture in blurred)


def run(count, epochs):
    """Train, and clean the test pictures; returns (model, list of :class:`Picture`)."""
    model = train(count, epochs)
    found = []
    for index, name in enumerate(TESTS):
        clean = photograph(name)
        image = noisy(clean, 1000 + index)
        with torch.no_grad():
            cleaned = model(image[None, None])[0, 0].clamp(0, 1)
        scores = psnr(image, clean), psnr(cleaned, clean), best_blur(image, clean)
        found.append(Picture(name, clean, image.clamp(0, 1), cleaned, *scores))
    return model, found
