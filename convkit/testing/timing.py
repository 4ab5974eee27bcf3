"""The one way in which convkit is timed: right answers first, then interleaved rounds, medians and quantiles.

Rounds are interleaved (ours, theirs, ours, theirs ...) so that a busy neighbour or a changing clock hits both sides.
Results are dropped as they come, as a model drops them: where the allocator returns big blocks to the system at once,
a call pays for fresh pages, and that cost is part of the time on both sides. ``MALLOC_MMAP_THRESHOLD_=1073741824
MALLOC_TRIM_THRESHOLD_=4294967296`` in the environment (glibc) takes it out.
"""

import contextlib
import resource
import statistics
import time
from dataclasses import dataclass

import torch

SHORTEST_SAMPLE = 200e-6  # seconds: shorter calls are repeated within a sample, so that the clock's own cost vanishes


@dataclass(frozen=True)
class Timing:
    """Seconds of one call: median, 20 % and 80 % quantile, number of samples; and how wrong its result was.

    ``faults`` is how many pages of memory one call touched for the first time (the median over the samples).
    """

    median: float
    low: float
    high: float
    samples: int
    max_error: float | None  # the largest |result - reference|; None without a reference
    faults: float = 0.0


@contextlib.contextmanager
def torch_threads(threads):
    """Within, torch and convkit run on ``threads`` threads (None: as many as before)."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def max_error(result, reference):
    """The largest |result - reference| over a tensor or a sequence of tensors; infinite where one alone is NaN."""
    if not isinstance(result, torch.Tensor):
        return max(max_error(a, b) for a, b in zip(result, reference, strict=True))
    if result.shape != reference.shape:
        raise ValueError(f"the result has shape {tuple(result.shape)}, the reference {tuple(reference.shape)}")
    result, reference = result.detach().double(), reference.detach().double()
    error = (result - reference).abs()
    error[(result == reference) | (result.isnan() & reference.isnan())] = 0
    return error.nan_to_num(nan=float("inf"), posinf=float("inf")).max().item() if error.numel() else 0.0


def _synchronize():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _sample(call, repeats):
    """Seconds and page faults of one call, the mean of ``repeats``."""
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    _synchronize()
    seconds = time.perf_counter() - start
    return seconds / repeats, (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults) / repeats


def _quantile(values, fraction):
    values = sorted(values)
    return values[round(fraction * (len(values) - 1))]


def compare(calls, *, reference=None, threads=None, seconds=1.0, min_rounds=5, max_rounds=500):
    """Time several ways to compute the same thing.

    Args:
        calls: name -> function without arguments that returns a tensor or a sequence of tensors.
        reference: the right answer in float64, or a function that returns it; None skips the check.
        threads: torch's number of threads while this runs.
        seconds: time to spend on all calls together, after the warm-up; ``min_rounds`` may overrun it. A call that
            takes longer than this all by itself is sampled once.
        min_rounds, max_rounds: bounds on the number of rounds; a round samples every call once.

    Returns:
        name -> `Timing`.
    """
    reference = reference() if callable(reference) else reference
    with torch_threads(threads):
        errors, samples, repeats = {}, {}, {}
        for name, call in calls.items():
            # The first call is also the warm-up: threads started, primitives built, weights packed.
            start = time.perf_counter()
            result = call()
            first = time.perf_counter() - start
            errors[name] = None if reference is None else max_error(result, reference)
            del result
            samples[name] = []
            if first > seconds > 0:
                samples[name].append((first, 0.0))  # it has had its time
            else:
                repeats[name] = max(1, round(SHORTEST_SAMPLE / max(_sample(call, 1)[0], 1e-7)))
        names = list(repeats)
        deadline = time.perf_counter() + seconds
        for done in range(max_rounds):
            if not names or (done >= min_rounds and time.perf_counter() > deadline):
                break
            for name in names:
                samples[name].append(_sample(calls[name], repeats[name]))
            names.append(names.pop(0))  # no call always runs in the wake of the same other one
    timings = {}
    for name, pairs in samples.items():
        times, faults = zip(*pairs, strict=True)
        spread = (statistics.median(times), _quantile(times, 0.2), _quantile(times, 0.8))
        timings[name] = Timing(*spread, len(times), errors[name], statistics.median(faults))
    return timings
