"""What bench.gpu_check runs on the GPU: ``python -m bench.gpu_measure cudnn|convkit ROWS.csv SECONDS`` or ``small``.

Times are of CUDA graphs of some calls on rotating inputs that do not fit the L2 cache, the median of some replays.
"""

import csv
import statistics
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from itertools import product

import torch

import convkit
from bench.gpu_calls import Operands, convkit_call, reference, torch_call
from bench.gpu_layers import COLUMNS, FORMATS, PRECISIONS, Case, Layer, cases

CALLS_A_GRAPH, REPLAYS = 12, 5
# Largest relative error (norms) against float64, for some million products; followed by rounding.
TOLERANCES = {"ieee": 2e-5, "tf32": 2e-3, "bfloat16": 1e-2, "float16": 2e-3}
MATRIX = 8192  # rows and columns of the products that give the rate of cuBLAS
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


CONTENDERS = {"cudnn": torch_call, "convkit": convkit_call}


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
        if case.call == "backward_weight":  # the only one that sums over the images
            one = operands.first_image(operands.dtype)
            output = CONTENDERS[who](case, one)(one.inputs[0])
        error = ((output[: len(expected)].double() - expected).norm() / expected.norm()).item()
        row["error"] = f"{error:.2e}"
        if not error <= TOLERANCES[case.precision]:
            return row | {"state": "wrong result"}
        if who == "cudnn" and case.precision == "ieee":
            row["algorithm"] = kernel_names(call, operands.inputs[0])
        microseconds = median_microseconds(call, operands.inputs)
    row |= {"microseconds": f"{microseconds:.2f}", "state": "ok"}
    if case.bytes:
        return row | {"gb_per_s": f"{1e-3 * case.bytes / microseconds:.1f}"}
    return row | {"tflops": f"{1e-6 * case.layer.operations / microseconds:.2f}"}


def measure_matmul(precision):
    """A row of the CSV: the product of two square matrices by cuBLAS."""
    torch.backends.cuda.matmul.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    dtype = getattr(torch, precision, torch.float32)
    a, b = (torch.rand(MATRIX, MATRIX, device="cuda").sub(0.5).to(dtype) for _ in range(2))
    microseconds = median_microseconds(lambda input: input @ b, [a])
    row = {"layer": "matmul", "who": "cublas", "precision": precision, "call": "matmul", "state": "ok"}
    return row | {"microseconds": f"{microseconds:.2f}", "tflops": f"{2e-6 * MATRIX**3 / microseconds:.2f}"}


def run_small():
    """One small shape per kernel, forward and backward, of every precision; nothing is measured."""
    for precision, format in product(PRECISIONS, FORMATS):
        for layer in SMALL:
            block = Case(layer, precision, format, "conv+bias+relu")
            operands = Operands(block)
            input = operands.inputs[0].requires_grad_()
            operands.weight.requires_grad_()
            with float32_precision("tf32" if precision == "tf32" else "ieee"):
                convkit_call(block, operands)(input).sum().backward()
                convkit_call(replace(block, call="conv+bias+relu+pool"), operands)(input).sum().backward()
        for window in [2, 3]:
            convkit.max_pool2d(input, window, 2).sum().backward()
    torch.cuda.synchronize()


def main(who, rows=None, seconds="inf"):
    end = time.monotonic() + float(seconds)
    if who == "small":
        return run_small()
    torch.backends.cudnn.benchmark = True
    with open(rows, "a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if who == "cudnn":
            writer.writerows(map(measure_matmul, PRECISIONS))
        for case in cases(who):
            if time.monotonic() > end:
                break
            writer.writerow(measure(who, case))
            file.flush()  # what is there when the time limit comes stays


if __name__ == "__main__":
    main(*sys.argv[1:])
