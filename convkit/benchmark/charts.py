"""The pictures of the report, each as the bytes of a PNG."""

import io
import re

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from convkit._text import counted
from convkit.benchmark.rows import compare

OURS, THEIRS, GREY = "#1f63d6", "#d9730d", "#8a93a3"
STYLE = {"font.size": 9.5, "axes.linewidth": 0.6, "axes.spines.top": False, "axes.spines.right": False}


def _png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160, bbox_inches="tight", facecolor="white")
    pyplot.close(figure)
    return buffer.getvalue()


def speedups(rows, title):
    """A bar for each layer of a suite: torch's better time / convkit's better time, the smallest at the top."""
    ratios = sorted(
        (c.ratio(), c.row.layer + ("" if c.row.data == "normal" else f", {c.row.data}"))
        for c in compare(rows)
        if c.ratio()
    )
    with matplotlib.rc_context(STYLE):
        figure, axes = pyplot.subplots(figsize=(6.4, 0.7 + 0.2 * len(ratios)))
        names = [name for _, name in ratios]
        values = [ratio for ratio, _ in ratios]
        colours = [OURS if ratio >= 1 else THEIRS for ratio in values]
        axes.barh(range(len(names)), values, color=colours, height=0.7)
        axes.set_yticks(range(len(names)), names, fontsize=7.5)
        axes.invert_yaxis()
        axes.margins(y=0.01)
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set(xlabel="torch's time / convkit's time, each in its better format", title=title)
        return _png(figure)


def roofline(rows, limits):
    """Operations a second over operations a byte, under the machine's limits, on one number of threads."""
    points = [r for r in rows if r.threads == limits.threads and r.gflop and r.warm and r.dtype == "float32"]
    with matplotlib.rc_context(STYLE):
        figure, axes = pyplot.subplots(figsize=(6.8, 4.2))
        intensities = [2.0**e for e in range(-4, 11)]
        for level, dash in zip(reversed(limits.levels), ("-", "--", "-.", ":"), strict=False):
            roof = [min(limits.peak, x * level.copy) / 1e9 for x in intensities]
            axes.plot(
                intensities, roof, dash, color=GREY, linewidth=1, label=f"{level.name}, {level.copy / 1e9:.0f} GB/s"
            )
        for contender, colour, size in (("torch", THEIRS, 10), ("convkit", OURS, 14)):
            own = [r for r in points if r.contender == contender]
            x = [1e3 * r.gflop / r.megabytes for r in own]
            y = [1e3 * r.gflop / r.warm for r in own]
            axes.scatter(x, y, s=size, color=colour, alpha=0.55, linewidths=0, label=contender)
        axes.axhline(limits.peak / 1e9, color="black", linewidth=0.8)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set(
            xlabel="operations of the direct method per byte of input, weight and output",
            ylabel="GFLOP/s",
            title=f"Every convolution, {counted(limits.threads, 'thread')}; peak {limits.peak / 1e9:.0f} GFLOP/s",
        )
        axes.legend(frameon=False, fontsize=8)
        return _png(figure)


def networks(rows, title):
    """A bar for each contender on one network, the fastest at the top; a panel for each number of threads."""
    threads = sorted({row.threads for row in rows})
    tallest = max(sum(row.threads == n for row in rows) for n in threads)
    with matplotlib.rc_context(STYLE):
        size = (8.4, 0.9 + 0.2 * tallest)
        figure, all_axes = pyplot.subplots(1, len(threads), figsize=size, squeeze=False, layout="constrained")
        for axes, count in zip(all_axes[0], threads, strict=True):
            own = sorted((r for r in rows if r.threads == count and r.warm is not None), key=lambda r: r.warm)
            colours = [OURS if row.contender == "convkit" else GREY for row in own]
            axes.barh(range(len(own)), [row.warm for row in own], color=colours, height=0.7)
            axes.set_yticks(range(len(own)), [f"{r.contender} {r.format}".strip() for r in own], fontsize=7.5)
            axes.invert_yaxis()
            axes.set_xlabel(f"milliseconds, {counted(count, 'thread')}")
        figure.suptitle(title, fontsize=10)
        return _png(figure)


def scaling(rows):
    """Time per million operations over batch, image size, channels and threads; lower is better, flat is scaling."""
    panels = {"batch": [], "image size": [], "channels": [], "threads": []}
    for row in rows:
        if row.suite != "scaling" or row.warm is None:
            continue
        found = re.match(r"(batch|image size|channels)\D*(\d+)", row.layer)
        if row.threads == 1:
            panels[found[1]].append((int(found[2]), row))
        panels["threads"].append((row.threads, row))
    with matplotlib.rc_context(STYLE):
        figure, all_axes = pyplot.subplots(1, 4, figsize=(10.4, 2.6), sharey=True)
        for axes, (name, points) in zip(all_axes, panels.items(), strict=True):
            for contender, colour in (("torch", THEIRS), ("convkit", OURS)):
                best = {}
                for x, row in points:
                    if row.contender == contender and (name != "threads" or row.layer == "image size 112"):
                        best[x] = min(best.get(x, float("inf")), row.warm / row.gflop)
                axes.plot(sorted(best), [best[x] for x in sorted(best)], "o-", color=colour, ms=3, lw=1.2)
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%d"))
            axes.set(xlabel=name, ylim=(0, None))
        all_axes[0].set_ylabel("ms per GFLOP")
        all_axes[0].legend(["torch", "convkit"], frameon=False, fontsize=8)
        return _png(figure)
