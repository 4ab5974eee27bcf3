"""The suites as data: the files of suites/ as lists of layers, with the work that each layer is."""

import math
from dataclasses import dataclass, replace
from importlib import resources

FUSED = "conv2d+relu+max_pool2d"
CONVOLUTIONS = ("conv2d", FUSED)


@dataclass(frozen=True)
class Pool:
    """The window of a max-pooling; each is (height, width)."""

    kernel: tuple
    stride: tuple
    padding: tuple

    def output_size(self, size):
        return tuple((n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, *self._windows(), strict=True))

    def _windows(self):
        return self.kernel, self.stride, self.padding


@dataclass(frozen=True)
class Layer:
    """One line of a suite. ``size``, ``kernel``, ``stride``, ``padding`` are (height, width).

    ``out_channels``, ``kernel``, ``stride``, ``padding`` and ``groups`` are of a convolution, ``pool`` of a pooling.
    """

    suite: str
    name: str
    op: str
    batch: int
    in_channels: int
    size: tuple
    repeat: int
    out_channels: int = 0
    kernel: tuple = (1, 1)
    stride: tuple = (1, 1)
    padding: tuple = (0, 0)
    groups: int = 1
    pool: Pool | None = None

    @property
    def input_size(self):
        return (self.batch, self.in_channels, *self.size)

    @property
    def weight_size(self):
        return (self.out_channels, self.in_channels // self.groups, *self.kernel)

    @property
    def convolved_size(self):
        """Height and width before any pooling."""
        return Pool(self.kernel, self.stride, self.padding).output_size(self.size)

    @property
    def output_size(self):
        size = self.pool.output_size(self.convolved_size) if self.pool else self.convolved_size
        return (self.batch, self.out_channels or self.in_channels, *size)

    @property
    def operations(self):
        """Multiplications and additions of the direct method; for pooling, comparisons; for ReLU, elements."""
        if self.op in CONVOLUTIONS:
            return 2 * self.batch * math.prod(self.convolved_size) * math.prod(self.weight_size)
        return math.prod(self.output_size) * (math.prod(self.pool.kernel) if self.pool else 1)

    @property
    def elements(self):
        """Elements that the op must read or write once: input, weight and output."""
        weight = math.prod(self.weight_size) if self.op in CONVOLUTIONS else 0
        return math.prod(self.input_size) + weight + math.prod(self.output_size)

    def with_batch(self, batch):
        return replace(self, batch=batch)

    def __str__(self):
        sizes = f"{self.batch}x{self.in_channels}x{self.size[0]}x{self.size[1]}"
        if self.op in CONVOLUTIONS:
            sizes += f", {self.out_channels}x{_short(self.kernel)}"
            sizes += "".join(
                f" {letter}{_short(pair)}"
                for letter, pair, usual in (("s", self.stride, (1, 1)), ("p", self.padding, (0, 0)))
                if pair != usual
            )
            sizes += f" g{self.groups}" if self.groups > 1 else ""
        if self.pool:
            sizes += f", pool {_short(self.pool.kernel)} s{_short(self.pool.stride)} p{_short(self.pool.padding)}"
        return sizes


def _short(pair):
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"


def _pair(text):
    numbers = [int(n) for n in text.split("x")]
    return (numbers * 2)[:2] if len(numbers) == 1 else numbers


def _layers(suite, line):
    """The layers of one line: as many as it has batches."""
    fields, _, name = line.partition("#")
    op, batches, image, *rest = fields.split()
    in_channels, *size = (int(n) for n in image.split("x"))
    *rest, repeat = rest
    convolution, pool = {}, None
    if op in CONVOLUTIONS:
        out_channels, kernel, stride, padding, groups, *rest = rest
        convolution = {
            "out_channels": int(out_channels),
            "kernel": tuple(_pair(kernel)),
            "stride": tuple(_pair(stride)),
            "padding": tuple(_pair(padding)),
            "groups": int(groups),
        }
    if rest:
        pool = Pool(*(tuple(_pair(field)) for field in rest))
    batches = [int(n) for n in batches.split(",")]
    for batch in batches:
        full_name = name.strip() + (f", batch {batch}" if len(batches) > 1 else "")
        yield Layer(suite, full_name, op, batch, in_channels, tuple(size), int(repeat[1:]), **convolution, pool=pool)


def _directory():
    return resources.files("convkit.benchmark") / "suites"


def names():
    """The names of all suites, in alphabetical order."""
    return sorted(file.name.removesuffix(".txt") for file in _directory().iterdir() if file.name.endswith(".txt"))


def read(suite):
    """The layers of one suite, in the order of its file; ValueError for a name that is none."""
    if suite not in names():
        raise ValueError(f"there is no suite {suite!r}; there are {', '.join(names())}")
    lines = (_directory() / f"{suite}.txt").read_text(encoding="utf-8").splitlines()
    return [layer for line in lines if line.partition("#")[0].strip() for layer in _layers(suite, line)]
