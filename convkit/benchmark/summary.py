"""What a run comes to: one line per suite, direction, dtype and number of threads; as text and as Markdown."""

from dataclasses import dataclass

from convkit._text import counted
from convkit.benchmark.calls import FORMATS
from convkit.benchmark.rows import compare, geometric_mean, network_ratio


@dataclass(frozen=True)
class Summary:
    """A suite in one direction. Ratios are torch's time / convkit's: above 1 convkit is faster.

    ``by_format`` are geometric means within NCHW and within channels_last; ``best``, ``worst`` and ``total`` take each
    side's better format: geometric mean, smallest ratio, and total time of the network (cold, with every layer as often
    as it occurs).
    """

    suite: str
    direction: str
    dtype: str
    threads: int
    layers: int
    by_format: dict
    best: float | None
    worst: float | None
    worst_layer: str
    total: float | None


def groups(rows):
    """(suite, direction, dtype, threads) -> the rows of single layers that belong together, in order."""
    found = {}
    for row in rows:
        if row.suite not in ("networks", "memory"):
            found.setdefault((row.suite, row.direction, row.dtype, row.threads), []).append(row)
    return found


def summarise(rows):
    """The `Summary` of every group."""
    return [_summary(*key, members) for key, members in groups(rows).items()]


def _summary(suite, direction, dtype, threads, rows):
    comparisons = compare(rows)
    ratios = [(c.ratio(), c.row.layer) for c in comparisons if c.ratio() is not None]
    worst, worst_layer = min(ratios, default=(None, ""))
    return Summary(
        *(suite, direction, dtype, threads, len(comparisons)),
        {format: geometric_mean([c.ratio(format=format) for c in comparisons]) for format in FORMATS},
        geometric_mean([ratio for ratio, _ in ratios]),
        worst,
        worst_layer,
        network_ratio(compare(rows, cold=True)),
    )


def _ratio(value):
    return "-" if value is None else f"{value:.2f}"


def _lines(header, body, left):
    """Aligned text; the first ``left`` columns are aligned to the left."""
    rows = [header, *body]
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    return "\n".join(
        "  ".join(c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    )


def as_text(summaries):
    """The summaries as a table."""
    header = (
        "suite",
        "direction",
        "dtype",
        "threads",
        "NCHW",
        "channels_last",
        "best",
        "worst",
        "total",
        "worst layer",
    )
    return _lines(
        header,
        [
            (
                *(s.suite, s.direction, s.dtype, str(s.threads)),
                *(_ratio(s.by_format[format]) for format in FORMATS),
                *(_ratio(s.best), _ratio(s.worst), _ratio(s.total), s.worst_layer),
            )
            for s in summaries
        ],
        left=3,
    )


def layer_table(rows):
    """The layers of one group as text, those that convkit loses first."""

    def milliseconds(comparison, contender, format):
        time = comparison.best(contender, format)
        return "-" if time is None else f"{time:.3f}"

    comparisons = sorted(compare(rows), key=lambda c: (c.ratio() is None, c.ratio()))
    error = {}
    for row in rows:
        if row.contender == "convkit" and row.error is not None:
            error[row.key] = max(row.error, error.get(row.key, 0))
    header = ("layer", "sizes", *(f"{who} {f}" for f in FORMATS for who in ("convkit", "torch")), "ratio", "error")
    return _lines(
        header,
        [
            (
                c.row.layer + ("" if c.row.data == "normal" else f", {c.row.data}"),
                c.row.sizes,
                *(milliseconds(c, who, format) for format in FORMATS for who in ("convkit", "torch")),
                _ratio(c.ratio()),
                f"{error[c.row.key]:.1e}" if c.row.key in error else "-",
            )
            for c in comparisons
        ],
        left=2,
    )


def network_table(rows):
    """Whole networks as text: milliseconds of every contender, and its ratio to convkit's best."""
    lines = []
    for comparison in compare([row for row in rows if row.suite == "networks"]):
        row = comparison.row
        lines.append(f"{row.layer}, {row.direction}, {counted(row.threads, 'thread')}")
        ours = comparison.best("convkit")
        states = {(r.contender, r.format): r.state for r in rows if r.key == row.key}
        for (contender, format), state in states.items():
            time = comparison.times.get((contender, format))
            name = f"{contender} {format}".strip()
            shown = state if time is None else f"{time:10.2f} ms  {_ratio(time / ours if ours else None):>6}"
            lines.append(f"  {name:<38}{shown}")
    return "\n".join(lines)


def memory_table(rows):
    """Memory of training steps as text, in MB."""
    names = ("saved", "peak", "resident", "parameters", "gradients", "optimizer")
    body = [
        (f"{r.layer}, {r.sizes}", f"{r.contender} {r.format}", *(_megabytes(getattr(r, name)) for name in names))
        for r in rows
        if r.suite == "memory"
    ]
    return _lines(("training step", "", *names), body, left=2) if body else ""


def _megabytes(value):
    return "-" if value is None else f"{value:.1f}"


def as_markdown(rows):
    """The table of the README."""
    both = {}
    for summary in summarise(rows):
        both.setdefault((summary.suite, summary.direction, summary.dtype), {})[summary.threads] = summary
    threads = sorted({row.threads for row in rows if row.op != "network"})
    head = [counted(n, "thread") for n in threads]
    lines = [
        "| Suite | Direction | " + " | ".join(f"{h}: NCHW, channels_last, best" for h in head) + " |",
        "|---|---|" + "---|" * len(threads),
    ]
    for (suite, direction, dtype), found in both.items():
        cells = [
            ", ".join([*(_ratio(v) for v in found[n].by_format.values()), f"**{_ratio(found[n].best)}**"])
            if n in found
            else "-"
            for n in threads
        ]
        name = direction if dtype == "float32" else f"{direction}, {dtype}"
        lines.append(f"| {suite} | {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
