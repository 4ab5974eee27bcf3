"""Measures one layer: right answers first, then warm and cold calls of all contenders in turns."""

from dataclasses import dataclass, replace

import torch

import convkit
from convkit._text import counted
from convkit.benchmark import calls
from convkit.benchmark.rows import OK, Row
from convkit.benchmark.suites import CONVOLUTIONS, Layer
from convkit.testing.timing import compare, torch_threads


@dataclass(frozen=True)
class Case:
    """What one measurement is of. ``contenders`` and ``formats``: those to measure, of calls.py's."""

    layer: Layer
    direction: str
    dtype: str
    threads: int
    data: str = "normal"
    formats: tuple = tuple(calls.FORMATS)

    def __str__(self):
        threads = counted(self.threads, "thread")
        return f"{self.layer.suite} {self.layer.name}, {self.direction}, {self.dtype}, {threads}"


def _state(contender, prepared):
    """What the contender's result is worth: (state, largest error, algorithm)."""
    algorithm = ""
    try:
        result = contender()
        error = prepared.error(result)
        if contender.who == "convkit":
            plan = convkit.explain(contender)
            algorithm = next((op.algorithm for op in plan.ops if op.algorithm), "")
    except RuntimeError as refusal:  # NotImplementedError too
        return str(refusal).splitlines()[0], None, algorithm
    bound = prepared.bound(result, algorithm or "direct")
    if not error <= bound and contender.who == "convkit":
        return f"wrong: an error of {error:.2g} is above {bound:.2g}", error, algorithm
    return OK, error, algorithm


def milliseconds(timing, prefix):
    times = {"": timing.median, "_low": timing.low, "_high": timing.high}
    return {f"{prefix}{suffix}": 1e3 * seconds for suffix, seconds in times.items()}


def measure(case, limits, cache_bytes, seconds):
    """The rows of one case, one per contender.

    Args:
        case: `Case`.
        limits: `machine.Limits` of its number of threads.
        cache_bytes: of the last-level cache; a cold call finds nothing of its tensors there.
        seconds: to spend on timing, half on warm and half on cold calls.
    """
    torch.manual_seed(0)
    layer = case.layer
    prepared = calls.prepare(layer, case.direction, getattr(torch, case.dtype), case.data)
    contenders = [c for c in prepared.contenders if c.format in case.formats]
    size = getattr(torch, case.dtype).itemsize
    passes = 3 if case.direction == "training" else 1
    operations = layer.operations * passes
    moved = layer.elements * size * passes
    common = Row(
        *(layer.suite, layer.name, layer.op, str(layer), layer.repeat, case.direction, case.data, case.dtype),
        *(case.threads, "", ""),
        gflop=operations / 1e9 if layer.op in CONVOLUTIONS else None,
        megabytes=moved / 1e6,
    )
    with torch.no_grad(), torch_threads(case.threads):
        states = {c: _state(c, prepared) for c in contenders}
        right = [c for c in contenders if states[c][0] == OK]
        warm = compare({c: c for c in right}, seconds=seconds / 2)
        cold = compare({c: c.rotated(2 * cache_bytes) for c in right}, seconds=seconds / 2)
    rows = []
    for contender in contenders:
        state, error, algorithm = states[contender]
        row = replace(
            common, contender=contender.who, format=contender.format, state=state, error=error, algorithm=algorithm
        )
        if state == OK:
            counted = operations if layer.op in CONVOLUTIONS else 0
            row = replace(
                row,
                **milliseconds(warm[contender], "warm"),
                **milliseconds(cold[contender], "cold"),
                faults=warm[contender].faults,
                share=limits.shortest_time(counted, moved) / warm[contender].median,
                cold_share=limits.shortest_time(counted, moved, cold=True) / cold[contender].median,
            )
        rows.append(row)
    return rows
