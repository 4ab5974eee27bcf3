"""Folders of images in the layout of ILSVRC: a folder for each class, below ``train`` and ``val`` or by themselves."""

import hashlib
import random
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch.utils.data import Dataset
from tqdm import tqdm

from convkit.data.dataset import Data, split
from convkit.models.catalog import MEAN, STD

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
UNREADABLE = (
    OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError, struct.error, EOFError,
    KeyError, TypeError,
)  # fmt: skip
CROPPED = 224 / 256  # share of the shorter side that evaluation keeps
SCALES, RATIOS = (0.08, 1.0), (3 / 4, 4 / 3)


def open_image(path, channels, draft=None):
    """The decoded image in RGB or grey, 16 bits brought to 8; ``draft``: a JPEG may be decoded smaller, not below this
    size."""
    with Image.open(path) as image:
        if draft:
            image.draft(None, draft)
        image.load()
        image = ImageOps.exif_transpose(image)
        if image.mode == "I" or image.mode.startswith("I;16"):  # convert would cut off at 255
            image = Image.fromarray((np.asarray(image) // 256).clip(0, 255).astype(np.uint8))
        return image.convert("RGB" if channels == 3 else "L")


def random_crop(image, size, generator):
    """A part of 8 to 100 % of the area, 3:4 to 4:3 in shape, mirrored every other time (Szegedy et al. 2014)."""
    width, height = image.size
    for _ in range(10):
        area = width * height * generator.uniform(*SCALES)
        ratio = np.exp(generator.uniform(*np.log(RATIOS)))
        w, h = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if 0 < w <= width and 0 < h <= height:
            left, top = generator.randint(0, width - w), generator.randint(0, height - h)
            image = image.resize((size, size), Image.Resampling.BILINEAR, (left, top, left + w, top + h))
            break
    else:
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return ImageOps.mirror(image) if generator.random() < 0.5 else image


def prepare(image, preprocessing):
    """A decoded image as the network's input (C, H, W): resized, cut to its middle (``crop``), and normalised."""
    height, width = preprocessing["size"]
    method = Image.Resampling[preprocessing["interpolation"].upper()]
    if preprocessing["crop"]:
        image = ImageOps.fit(image, (width, height), method, bleed=(1 - preprocessing["crop"]) / 2)
    else:
        image = image.resize((width, height), method)
    return normalise(image, preprocessing)


def normalise(image, preprocessing):
    pixels = torch.from_numpy(np.array(image, np.float32)).div_(255)
    pixels = pixels.permute(2, 0, 1) if pixels.dim() == 3 else pixels[None]
    mean, std = (torch.tensor(preprocessing[name])[:, None, None] for name in ("mean", "std"))
    return (pixels - mean) / std


class ImageFolder(Dataset):
    """Images by path.

    Args:
        files: (path, class number) of each sample.
        preprocessing: ``size``, ``mean``, ``std``, ``crop`` and ``interpolation``, as in :class:`Data`.
        seed: random crops and flips are a function of it, the epoch and the sample; None leaves them out.
    """

    def __init__(self, files, preprocessing, seed=None):
        self.files, self.preprocessing, self.seed = list(files), preprocessing, seed
        self.epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return len(self.files)

    @cached_property
    def fingerprint(self):
        """Names, sizes and classes of the files, preprocessing and augmentation; the pixels are not read for it."""
        files = [f"{path} {Path(path).stat().st_size} {label}" for path, label in self.files]
        text = "\n".join([*files, f"{self.preprocessing} {self.seed}"])
        return f"{len(self)} images, {hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def __getitem__(self, index):
        path, label = self.files[index]
        try:
            image = open_image(path, len(self.preprocessing["mean"]))
        except UNREADABLE as error:
            raise RuntimeError(f"{path} cannot be read: {error}") from error
        if self.seed is None:
            return prepare(image, self.preprocessing), label
        generator = random.Random(f"{self.seed} {self.epoch} {index}")
        return normalise(random_crop(image, max(self.preprocessing["size"]), generator), self.preprocessing), label


def _complaint(path):
    """Why the file cannot be decoded; None if it can. A JPEG is decoded at an eighth of its size."""
    try:
        open_image(path, 3, draft=(32, 32))
    except UNREADABLE as error:
        return f"{path}: {error}".replace("\n", " ")
    return None


def _scan(directory, classes, check):
    """([(path, class number)], notes about the files that were left out)."""
    files = [
        (str(path), number)
        for number, name in enumerate(classes)
        for path in sorted((directory / name).rglob("*"))
        if path.suffix.lower() in SUFFIXES
    ]
    if not check:
        return files, []
    with ThreadPoolExecutor() as threads:
        bar = tqdm(
            threads.map(_complaint, (path for path, _ in files)),
            f"checking {directory}", len(files), leave=False, unit="image", disable=None,
        )  # fmt: skip
        complaints = list(bar)
    good = [file for file, complaint in zip(files, complaints, strict=True) if complaint is None]
    return good, [f"skipped: {complaint}" for complaint in complaints if complaint]


def class_names(directory):
    """The folders in it, sorted: their order is the number of the class."""
    return sorted(path.name for path in directory.iterdir() if path.is_dir() and not path.name.startswith("."))


def _check_classes(directory, files, classes):
    present = {number for _, number in files}
    missing = [name for number, name in enumerate(classes) if number not in present]
    if missing:
        raise ValueError(f"{directory}: class {missing[0]!r} has no readable image ({', '.join(sorted(SUFFIXES))})")


def from_folder(directory, options):
    """``train`` and ``val`` with a folder for each class: ``val`` is the test part, validation is split off ``train``.
    Or these folders alone, which are split."""
    directory, size = Path(directory), options.image_size or 224
    preprocessing = {"kind": "image", "size": [size, size], "mean": list(MEAN), "std": list(STD)}
    preprocessing |= {"crop": CROPPED, "interpolation": "bilinear"}
    whole = (directory / "train").is_dir() and (directory / "val").is_dir()
    top = directory / "train" if whole else directory
    classes = class_names(top)
    if len(classes) < 2:
        raise ValueError(f"{top}: there must be a folder for each of at least two classes, but there are {classes}")
    files, notes = _scan(top, classes, options.check)
    _check_classes(top, files, classes)

    labels = np.array([label for _, label in files])

    def part(files, seed=None):
        return ImageFolder(files, preprocessing, seed) if files else None

    if whole:
        unknown = set(class_names(directory / "val")) - set(classes)
        if unknown:
            raise ValueError(f"{directory / 'val'}: classes that train has not: {', '.join(sorted(unknown))}")
        held_out, more = _scan(directory / "val", classes, options.check)
        if not held_out:
            raise ValueError(f"{directory / 'val'}: there is no readable image")
        notes += more
    parts = [[files[i] for i in indices] for indices in split(labels, replace(options, test=0) if whole else options)]
    if whole:
        parts[2] = held_out
    train, valid, test = part(parts[0], options.seed if options.augment else None), part(parts[1]), part(parts[2])
    return Data(str(directory), train, valid, test, tuple(classes), (3, size, size), preprocessing, tuple(notes))
