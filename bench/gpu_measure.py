"""What bench.gpu_check runs on the GPU: ``python -m bench.gpu_measure cudnn|convkit ROWS.csv`` or ``small``.

Times are of CUDA graphs of some calls on rotating inputs that do not fit the L2 cache, the median of some replays.
"""

import csv
import statistics
import sys
from contextlib import contextmanager

import torch
from torch.nn import functional

import convkit
from bench.gpu_layers import COLUMNS, Case, Layer, cases

CALLS_A_GRAPH, REPLAYS, MAX_SETS = 12, 5, 6
# Largest relative error (norms) against float64, for 4,608 products; of a convolution followed by rounding.
TOLERANCES = {"ieee": 2e-6, "tf32": 2e-3, "bfloat16": 1e-2, "float16": 2e-3}
SMALL = [  # one shape per kernel, for compute-sanitizer
    Layer("small", 2, 8, 9, 72, 3),
    Layer("small_strided", 1, 16, 10, 24, 3, 2),
    Layer("small_first", 1, 3, 13, 8, 7, 2),
    Layer("small_large_tile", 4, 8, 64, 130, 1),
    Layer("small_grouped", 1, 8, 7, 8, 3, groups=8),
]


@contextmanager
def float32_precision(name):
    """torch's own switch for float32 convolutions, which convkit follows."""
    before = torch.backends.cudnn.conv.fp32_precision
    torch.backends.cudnn.conv.fp32_precision = name
    try:
        yield
    finally:
        torch.backends.cudnn.conv.fp32_precision = before


class Operands:
    """Inputs, weight and bias of a case, and enough copies of the input that they do not fit the L2 cache."""

    def __init__(self, case):
        layer = case.layer
        self.dtype = getattr(torch, case.precision, torch.float32)
        self.memory_format = torch.channels_last if case.format == "channels_last" else torch.contiguous_format
        cache = 2 * torch.cuda.get_device_properties(0).L2_cache_size
        sets = min(MAX_SETS, 1 + cache // (layer.bytes * self.dtype.itemsize))
        generator = torch.Generator("cuda").manual_seed(0)

        def uniform(*shape):
            values = torch.rand(shape, generator=generator, device="cuda") * 2 - 1
            return values.to(self.dtype)

        weight_shape = (layer.filters, layer.channels // layer.groups, layer.kernel, layer.kernel)
        self.weight = uniform(*weight_shape).to(memory_format=self.memory_format)
        self.bias = uniform(layer.filters)
        shape = (layer.batch, layer.channels, layer.size, layer.size)
        self.inputs = [uniform(*shape).to(memory_format=self.memory_format) for _ in range(sets)]
        self.geometry = {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups}


def cudnn_call(case, operands):
    bias = operands.bias if "bias" in case.call else None

    def call(input):
        output = functional.conv2d(input, operands.weight, bias, **operands.geometry)
        output = functional.relu(output) if "relu" in case.call else output
        return functional.max_pool2d(output, 2) if "pool" in case.call else output

    return call


def convkit_call(case, operands):
    options = dict(operands.geometry, algorithm=case.algorithm)
    options["activation"] = "relu" if "relu" in case.call else None
    options["max_pool"] = 2 if "pool" in case.call else None
    bias = operands.bias if "bias" in case.call else None
    return lambda input: convkit.conv2d(input, operands.weight, bias, **options)


CONTENDERS = {"cudnn": cudnn_call, "convkit": convkit_call}


def reference(case, operands):
    """The first image's result in float64, by torch."""
    double = cudnn_call(case, operands)
    saved = operands.weight, operands.bias
    operands.weight, operands.bias = operands.weight.double(), operands.bias.double()
    try:
        return double(operands.inputs[0][:1].double())
    finally:
        operands.weight, operands.bias = saved


def median_microseconds(call, inputs):
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for input in inputs[:3]:
            call(input)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for i in range(CALLS_A_GRAPH):
            call(inputs[i % len(inputs)])
    graph.replay()
    times = []
    for _ in range(REPLAYS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(1e3 * begin.elapsed_time(end) / CALLS_A_GRAPH)
    return statistics.median(times)


def kernel_names(call, input):
    """The kernels of a call, as the profiler names them."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        call(input)
        torch.cuda.synchronize()
    return " + ".join(event.name[:60] for event in profile.events() if event.device_type.name == "CUDA")


def measure(who, case):
    """A row of the CSV."""
    row = {"layer": case.layer.name, "sizes": str(case.layer), "who": who, "precision": case.precision}
    row |= {"format": case.format, "call": case.call, "algorithm": case.algorithm if who == "convkit" else ""}
    with torch.no_grad(), float32_precision("tf32" if case.precision == "tf32" else "ieee"):
        operands = Operands(case)
        call = CONTENDERS[who](case, operands)
        try:
            output = call(operands.inputs[0])
            expected = reference(case, operands)
        except RuntimeError as error:
            return row | {"state": str(error).splitlines()[0]}
        error = ((output[:1].double() - expected).norm() / expected.norm()).item()
        row["error"] = f"{error:.2e}"
        if not error <= TOLERANCES[case.precision]:
            return row | {"state": "wrong result"}
        if who == "cudnn" and case.precision == "ieee":
            row["algorithm"] = kernel_names(call, operands.inputs[0])
        microseconds = median_microseconds(call, operands.inputs)
    row |= {"microseconds": f"{microseconds:.2f}", "tflops": f"{1e-6 * case.layer.operations / microseconds:.2f}"}
    return row | {"state": "ok"}


def run_small():
    """One small shape per kernel, forward and backward, of every precision; nothing is measured."""
    for layer in SMALL:
        for precision in ["ieee", "tf32", "bfloat16", "float16"]:
            for format in ["NCHW", "channels_last"]:
                case = Case(layer, precision, format, "conv+bias+relu")
                operands = Operands(case)
                input = operands.inputs[0].requires_grad_()
                operands.weight.requires_grad_()
                with float32_precision("tf32" if precision == "tf32" else "ieee"):
                    convkit_call(case, operands)(input).sum().backward()
    torch.cuda.synchronize()


def main(who, rows=None):
    if who == "small":
        return run_small()
    torch.backends.cudnn.benchmark = True
    with open(rows, "a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        for case in cases(who):
            writer.writerow(measure(who, case))
            file.flush()  # what is there when the time limit comes stays


if __name__ == "__main__":
    main(*sys.argv[1:])
