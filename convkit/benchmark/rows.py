"""The rows of a run: what they hold, their files, and what is summed up from them."""

import csv
import json
import math
from dataclasses import asdict, dataclass, fields

OK = "ok"


@dataclass(frozen=True)
class Row:
    """One contender on one piece of work. Times are milliseconds of a call: median, 20 % and 80 % quantile."""

    suite: str
    layer: str
    op: str
    sizes: str
    repeat: int  # how often the layer occurs in its network
    direction: str
    data: str
    dtype: str
    threads: int
    contender: str
    format: str  # NCHW or channels_last; empty where the contender chooses
    algorithm: str = ""  # convkit's
    state: str = OK  # or the reason why there is no time
    error: float | None = None  # the largest |result - float64|, over a sample; networks: the relative L2 error
    warm: float | None = None  # the same tensors in every call
    warm_low: float | None = None
    warm_high: float | None = None
    cold: float | None = None  # other copies of the tensors in every call, together beyond the last-level cache
    cold_low: float | None = None
    cold_high: float | None = None
    faults: float | None = None  # pages that a warm call touches for the first time
    gflop: float | None = None  # operations of the direct method
    megabytes: float | None = None  # inputs, weights and outputs once each
    share: float | None = None  # shortest possible time / warm time; may pass 1 with fewer operations than gflop
    cold_share: float | None = None
    # of a training step, in MB of 10^6 bytes: kept from forward to backward; the peak of torch's and convkit's memory,
    # and of the resident set, above what lay there before; and that: parameters, their gradients, optimizer state
    saved: float | None = None
    peak: float | None = None
    resident: float | None = None
    parameters: float | None = None
    gradients: float | None = None
    optimizer: float | None = None
    cpu: str = ""
    isa: str = ""
    torch: str = ""
    convkit: str = ""
    date: str = ""

    @property
    def key(self):
        """What all contenders of a comparison have in common."""
        return (self.suite, self.layer, self.direction, self.data, self.dtype, self.threads)


def _rounded(value):
    return float(f"{value:.4g}") if isinstance(value, float) else value


def write_csv(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(field.name for field in fields(Row))
        for row in rows:
            writer.writerow("" if value is None else _rounded(value) for value in asdict(row).values())


def read_csv(path):
    """The rows of a file that `write_csv` wrote."""
    types = {field.name: field.type for field in fields(Row)}
    with open(path, newline="", encoding="utf-8") as file:
        return [
            Row(**{name: _parsed(types[name], text) for name, text in line.items()}) for line in csv.DictReader(file)
        ]


def _parsed(kind, text):
    if kind is str:
        return text
    if kind is int:
        return int(text)
    return float(text) if text else None


def write_json(path, rows, limits):
    document = {"limits": [asdict(limit) for limit in limits], "rows": [asdict(row) for row in rows]}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)


@dataclass(frozen=True)
class Comparison:
    """All contenders on one piece of work; ``times`` are warm or cold milliseconds by (contender, format)."""

    row: Row  # any of them, for what they have in common
    times: dict

    def best(self, contender, format=None):
        """The shortest time of one contender, of both formats or of one; None if it has none."""
        times = [t for (who, laid_out), t in self.times.items() if who == contender and format in (None, laid_out)]
        return min(times, default=None)

    def ratio(self, against="torch", format=None):
        """Time of a peer / time of convkit: above 1 convkit is faster. Without a format, each side's best one."""
        ours, theirs = self.best("convkit", format), self.best(against, format)
        return theirs / ours if ours and theirs else None


def compare(rows, cold=False):
    """The rows as comparisons, in order of first appearance."""
    together = {}
    for row in rows:
        together.setdefault(row.key, []).append(row)
    return [
        Comparison(
            members[0],
            {
                (m.contender, m.format): time
                for m in members
                if (time := m.cold if cold and m.cold is not None else m.warm) is not None
            },
        )
        for members in together.values()
    ]


def geometric_mean(ratios):
    """Of the ratios that are there; None of none."""
    ratios = [ratio for ratio in ratios if ratio is not None]
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None


def network_ratio(comparisons, format=None):
    """Total time of torch / that of convkit, every layer as often as its network has it; None if any is missing."""
    pairs = [(c.best("torch", format), c.best("convkit", format), c.row.repeat) for c in comparisons]
    if not pairs or any(theirs is None or ours is None for theirs, ours, _ in pairs):
        return None
    return sum(theirs * n for theirs, _, n in pairs) / sum(ours * n for _, ours, n in pairs)
