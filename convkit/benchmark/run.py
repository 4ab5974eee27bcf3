"""Runs a plan: the machine's limits, the layers, the networks, the memory; returns rows."""

import time
from dataclasses import dataclass, replace

import torch
from tqdm import tqdm

from convkit.benchmark import machine, plan
from convkit.benchmark.calls import FORMATS
from convkit.benchmark.measure import measure
from convkit.benchmark.measure_networks import measure_network
from convkit.benchmark.networks import NETWORKS
from convkit.benchmark.rows import Row
from convkit.testing import memory

LONGEST = 1.2  # seconds of timing that a layer gets at most
TIMED_SHARE = 0.6  # of a layer's time; the rest is preparation and the check
NETWORK_SECONDS = 12.0
QUICK_NETWORK_SECONDS = 1.0


@dataclass(frozen=True)
class Result:
    """What a run found: rows, the limits of the machine per number of threads, seconds of a page's first touch."""

    rows: list
    limits: list
    page_fault_seconds: float
    seconds: float


class _Clock:
    """Deals the time of a run out to its cases: each gets an equal part of what is left."""

    def __init__(self, minutes, cases, reserved):
        self.start = time.perf_counter()
        self.deadline = self.start + 60 * minutes - reserved
        self.cases = cases

    def next(self):
        """Seconds of timing for the next case; None when the time is over."""
        left = self.deadline - time.perf_counter()
        share = left / max(1, self.cases)
        self.cases -= 1
        return min(LONGEST, TIMED_SHARE * share) if left > 0 else None


def run(options, minutes):
    """Measure what ``options`` (`plan.Options`) ask for in about ``minutes``, with a progress bar on stderr."""
    layers, networks, memories = plan.layer_cases(options), plan.network_cases(options), plan.memory_cases(options)
    network_seconds = QUICK_NETWORK_SECONDS if options.quick else NETWORK_SECONDS
    # A network is also built, converted for its peers and compared: as long again as it is timed.
    clock = _Clock(minutes, len(layers), reserved=2 * network_seconds * len(networks) + 10 * len(memories))
    about, cache = machine.describe(), machine.last_level_cache()
    limits = {threads: machine.measure_limits(threads) for threads in options.threads}
    rows = []
    with tqdm(total=len(layers) + len(networks) + len(memories), unit="case", leave=False) as bar:

        def add(new_rows):
            rows.extend(replace(row, **about) for row in new_rows)
            bar.update()

        for case in layers:
            bar.set_description(str(case)[:60])
            seconds = clock.next()
            add(measure(case, limits[case.threads], cache, seconds) if seconds else [_not_measured(case)])
        for case in networks:
            bar.set_description(str(case)[:60])
            add(measure_network(case, network_seconds))
        for network, batch in memories:
            bar.set_description(f"memory of {network}")
            add(_memory_rows(network, batch))
    rows = [row for row in rows if row.contender in ("", "convkit", *options.against)]
    fault = machine.page_fault_seconds()
    return Result(rows, list(limits.values()), fault, time.perf_counter() - clock.start)


def _not_measured(case):
    layer = case.layer
    common = (layer.suite, layer.name, layer.op, str(layer), layer.repeat, case.direction, case.data, case.dtype)
    return Row(*common, case.threads, "", "", state="not measured: the time of the run was over")


def _memory_rows(network, batch):
    """Rows with the memory of a training step."""
    rows = []
    size = (batch, *NETWORKS[network].input_size)
    for contender, layers in (("convkit", "convkit.nn"), ("torch", "torch.nn")):
        for format, memory_format in FORMATS.items():
            found = memory.measure(
                f"convkit.benchmark.networks:{network}", layers, size, str(memory_format).removeprefix("torch.")
            )
            megabytes = {name: None if count is None else count / 1e6 for name, count in found.items()}
            sizes = "x".join(map(str, size))
            common = ("memory", network, "network", sizes, 1, "training step", "normal", "float32")
            rows.append(Row(*common, torch.get_num_threads(), contender, format, **megabytes))
    return rows
