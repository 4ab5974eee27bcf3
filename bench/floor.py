"""convkit beside torch on the layers of VGG16: ``python -m bench.floor``.

For every convolution of bench/shapes/vgg16.txt and every pooling of bench/shapes/pool.txt, one line: median
milliseconds of convkit and of torch in both memory layouts, and the ratio torch time / convkit time (above 1 convkit is
faster), all from the same interleaved run. Inputs of all contenders hold the same numbers; every result is compared
with float64 first, and the largest error is printed.
"""

import argparse
import math
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional

import convkit
from convkit import info
from convkit.testing.timing import compare

SHAPES = Path(__file__).parent / "shapes"
LAYOUTS = {"NHWC": torch.channels_last, "NCHW": torch.contiguous_format}


def read_shapes(path):
    """[(name, [int, ...]), ...] of a shape file: one layer per line, its name after the #."""
    shapes = []
    for line in path.read_text().splitlines():
        numbers, _, name = line.partition("#")
        if numbers.strip():
            shapes.append((name.strip(), [int(n) for n in numbers.split()]))
    return shapes


def conv_calls(shape, batch):
    """Calls of `compare` for one convolution, and its reference."""
    n, c, h, w, oc, kh, kw, stride, pad, groups = shape
    input = torch.randn(batch or n, c, h, w)
    weight = torch.randn(oc, c // groups, kh, kw) * (2 / (c // groups * kh * kw)) ** 0.5
    bias = torch.randn(oc)
    options = {"stride": stride, "padding": pad, "groups": groups}
    calls = {}
    for layout, memory_format in LAYOUTS.items():
        arguments = (input.to(memory_format=memory_format), weight.to(memory_format=memory_format), bias)
        calls[f"convkit {layout}"] = partial(convkit.conv2d, *arguments, **options)
        calls[f"torch {layout}"] = partial(functional.conv2d, *arguments, **options)
    return calls, functional.conv2d(input.double(), weight.double(), bias.double(), **options)


def pool_calls(shape, batch, rectified):
    """Calls of `compare` for one max-pooling, on random data or on the same after a ReLU, and its reference."""
    n, c, h, w, kernel, stride, pad = shape
    input = torch.randn(batch or n, c, h, w)
    input = input.relu() if rectified else input
    calls = {}
    for layout, memory_format in LAYOUTS.items():
        laid_out = input.to(memory_format=memory_format)
        calls[f"convkit {layout}"] = partial(convkit.max_pool2d, laid_out, kernel, stride, pad)
        calls[f"torch {layout}"] = partial(functional.max_pool2d, laid_out, kernel, stride, pad)
    return calls, functional.max_pool2d(input.double(), kernel, stride, pad)


def print_header(title, threads):
    columns = "".join(f"{f'{side} {layout}':>14}" for layout in LAYOUTS for side in ("convkit", "torch"))
    ratios = "".join(f"{f'ratio {layout}':>12}" for layout in LAYOUTS)
    print(
        f"\n{title}, {threads} thread{'s' if threads > 1 else ''}, median ms\n{'':24}{columns}{ratios}{'max error':>12}"
    )


def print_line(name, timings):
    """Print one layer; returns its ratio per layout."""
    ratios = [timings[f"torch {layout}"].median / timings[f"convkit {layout}"].median for layout in LAYOUTS]
    times = "".join(
        f"{1e3 * timings[f'{s} {layout}'].median:14.3f}" for layout in LAYOUTS for s in ("convkit", "torch")
    )
    error = max(timings[f"convkit {layout}"].max_error for layout in LAYOUTS)
    print(f"{name:<24}{times}{''.join(f'{r:12.2f}' for r in ratios)}{error:12.1e}", flush=True)
    return ratios


def print_table(title, threads, seconds, rows):
    """Time and print ``rows``: (name, function that gives the calls and their reference) pairs."""
    print_header(title, threads)
    ratios = []
    for name, make in rows:
        calls, reference = make()
        ratios.append(print_line(name, compare(calls, reference=reference, threads=threads, seconds=seconds)))
    means = [math.exp(sum(map(math.log, column)) / len(column)) for column in zip(*ratios, strict=True)]
    print(f"{'geometric mean':<80}" + "".join(f"{mean:12.2f}" for mean in means))


def main():
    parser = argparse.ArgumentParser("python -m bench.floor", description=__doc__.split("\n\n")[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=2.0, help="time to spend on a layer (%(default)s)")
    parser.add_argument("--batch", type=int, help="instead of the shape file's")
    parser.add_argument("--only", choices=("conv2d", "max_pool2d"))
    arguments = parser.parse_args()
    torch.manual_seed(0)
    print(info.as_text(info.collect()))
    conv_rows = [(name, partial(conv_calls, s, arguments.batch)) for name, s in read_shapes(SHAPES / "vgg16.txt")]
    pool_rows = [
        (f"{name}, {kind}", partial(pool_calls, shape, arguments.batch, kind == "ReLU'd"))
        for name, shape in read_shapes(SHAPES / "pool.txt")
        for kind in ("random", "ReLU'd")
    ]
    with torch.no_grad():
        for threads in arguments.threads:
            if arguments.only != "max_pool2d":
                print_table("conv2d of VGG16", threads, arguments.seconds, conv_rows)
            if arguments.only != "conv2d":
                print_table("max_pool2d", threads, arguments.seconds, pool_rows)


if __name__ == "__main__":
    main()
