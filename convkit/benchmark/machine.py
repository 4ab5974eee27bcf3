"""The machine: what it is, and what it can do at most, as a roofline is drawn from."""

import subprocess
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch

from convkit import info
from convkit._library import _C
from convkit.testing.timing import torch_threads

MiB = 1 << 20
PAGE = 4096


def _cache_sizes():
    """Bytes of each level of data cache, the smallest first; empty where the system does not tell."""
    sizes = {}
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        if (index / "type").read_text().strip() != "Instruction":
            size = (index / "size").read_text().strip()
            sizes[int((index / "level").read_text())] = int(size.rstrip("KM")) << (20 if size.endswith("M") else 10)
    return [sizes[level] for level in sorted(sizes)]


@dataclass(frozen=True)
class Level:
    """One level of memory: its name, the bytes that fit, and how fast all threads together use it, in bytes/s."""

    name: str
    size: int
    read: float
    copy: float


@dataclass(frozen=True)
class Limits:
    """The limits of the machine on some number of threads. ``peak`` is in float32 operations a second."""

    threads: int
    peak: float
    levels: tuple

    def shortest_time(self, operations, moved_bytes, cold=False):
        """Seconds that the work takes at least: the roofline.

        Args:
            operations: of the direct method. An algorithm with fewer, such as Winograd's, may be faster than this.
            moved_bytes: inputs, weights and outputs once each.
            cold: everything comes from memory; else from the level of cache that it fits into.
        """
        fitting = [level for level in self.levels if moved_bytes <= level.size and not cold]
        level = fitting[0] if fitting else self.levels[-1]
        return max(operations / self.peak, moved_bytes / level.copy)


def measure_limits(threads):
    """Measure the FMA peak and the bandwidth of every level of memory, in about two seconds."""
    caches = _cache_sizes() or [32 << 10, 512 << 10, 32 * MiB]
    last = len(caches) - 1
    names = [f"L{n + 1}" for n in range(len(caches))]
    levels = []
    with torch_threads(threads):
        peak = _C.measure_multiply_add_rate(threads)
        for n, size in enumerate(caches):
            # Half of a cache of one's own; the last level is shared by all threads.
            part = size // 2 if n < last else size // 2 // threads
            levels.append(
                Level(names[n], size, _C.measure_read_rate(threads, part), _C.measure_copy_rate(threads, part))
            )
        beyond = max(64 * MiB, 4 * caches[-1]) // threads
        levels.append(
            Level("memory", 1 << 62, _C.measure_read_rate(threads, beyond), _C.measure_copy_rate(threads, beyond))
        )
    return Limits(threads, peak, tuple(levels))


def last_level_cache():
    """Bytes of the last level of cache."""
    return (_cache_sizes() or [32 * MiB])[-1]


def page_fault_seconds():
    """What the first touch of a fresh page costs: fresh memory filled, minus the same memory filled again."""
    costs = []
    for _ in range(5):
        fresh = torch.empty(64 * MiB, dtype=torch.uint8)  # above malloc's threshold: new pages each time
        with torch_threads(1):
            start = time.perf_counter()
            fresh.fill_(1)
            middle = time.perf_counter()
            fresh.fill_(2)
            costs.append((middle - start) - (time.perf_counter() - middle))
    return max(0.0, sorted(costs)[2]) / (64 * MiB // PAGE)


def _revision():
    """The git revision of this source tree, with + if it is changed; the version of an installed convkit."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return info.version()
    command = ["git", "-C", str(here), "describe", "--always", "--abbrev=10", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return info.version()


def describe():
    """What stands in every row beside its figures."""
    return {
        "cpu": info.cpu_model(),
        "isa": _C.isa(),
        "torch": torch.__version__,
        "convkit": _revision(),
        "date": date.today().isoformat(),
    }
