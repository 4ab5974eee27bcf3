"""The HTML report of a run: one page that needs no other file, and its pictures as PNG files beside it."""

import base64
from html import escape

from convkit import _html as html
from convkit._text import counted
from convkit.benchmark import charts
from convkit.benchmark.calls import FORMATS
from convkit.benchmark.rows import OK, compare, geometric_mean
from convkit.benchmark.summary import groups, summarise

TITLE = "convkit beside its peers, on this machine"
INTRODUCTION = """\
Each number here was measured by <code>convkit bench</code> on one machine, in one run. convkit computes convolutions,
ReLU and max-pooling for PyTorch with kernels of its own; <em>torch</em> is PyTorch doing the same work on the same
numbers. A <em>ratio</em> is torch's time divided by convkit's: <b>above 1 convkit is faster, below 1 it is slower</b>.
Both sides are taken in the faster of their two memory formats (NCHW and channels_last) unless a column names one."""
METHOD = """\
Every result is compared with float64 before it is timed; a wrong one is not timed. All contenders of a line take turns,
so that a busy neighbour slows them alike. Times are medians. <em>Warm</em> calls use the same tensors again and again;
<em>cold</em> calls find their inputs and weights outside the caches, as layers of a network do; network totals use cold
times. Results come from the default allocator on both sides. Fresh memory costs {fault:.2f} µs for each page of 4 KiB
on its first touch; that cost is in the times, and how many pages a call touched is in the file of rows (column
<code>faults</code>). The <em>share</em> is the shortest time that this machine could take, by its multiply-add peak and
its bandwidth, divided by the time taken; an algorithm with fewer multiplications can pass 100 %."""
ROOFLINE = """\
Each dot is one convolution. No dot can be above the lines if every multiplication of the definition is carried out; the
slanted lines are the bandwidth of each cache and of memory, the flat one is the peak of the processor's multiply-add
units."""
SCALING = """\
A 3x3 convolution of 64 channels at 56x56 with one of its sizes changed; a flat line is perfect scaling, lower is
better."""
MEMORY = """\
Megabytes of one training step. <em>Saved</em> is what autograd keeps from forward to backward; <em>peak</em> is how far
the step raises the memory that torch gives out, with convkit's scratch memory added; <em>resident</em> is the same as
the system sees it. Parameters, gradients and the optimizer's state are in none of the three."""


def _ratio(value):
    return "-" if value is None else html.ratio_bar(value)


def _number(value, pattern):
    return "-" if value is None else format(value, pattern)


def _image(png, caption):
    return f'<figure class="plot"><img alt="{escape(caption)}" width=700 src="data:image/png;base64,{png}"></figure>\n'


class _Page:
    """The page as it grows; pictures also become files."""

    def __init__(self, directory):
        self.directory, self.parts = directory, []

    def add(self, *parts):
        self.parts += parts

    def picture(self, name, png, caption):
        (self.directory / f"{name}.png").write_bytes(png)
        self.add(_image(base64.b64encode(png).decode(), caption))


def write(path, result):
    """Write the page to ``path`` (a `pathlib.Path`) and its pictures beside it; ``result`` is a `run.Result`."""
    page = _Page(path.parent)
    rows = result.rows
    page.add(f"<h1>{TITLE}</h1>\n", html.paragraph(INTRODUCTION, "lead"))
    summaries = summarise(rows)
    page.add(html.tiles(_tiles(rows)))
    _losses(page, rows)
    _networks(page, rows)
    page.add(html.heading("Suites"), _summary_table(summaries))
    for limits in result.limits:
        title = f"The limits of this machine, {counted(limits.threads, 'thread')}"
        page.add(html.heading(title), html.paragraph(ROOFLINE))
        page.picture(f"roofline-{limits.threads}", charts.roofline(rows, limits), "roofline")
    if any(row.suite == "scaling" for row in rows):
        page.add(html.heading("Scaling"), html.paragraph(SCALING))
        page.picture("scaling", charts.scaling(rows), "scaling")
    if any(row.suite == "memory" for row in rows):
        page.add(html.heading("Memory"), html.paragraph(MEMORY), _memory_table(rows))
    _layers(page, rows)
    _machine(page, result)
    path.write_text(html.page(TITLE, "".join(page.parts)), encoding="utf-8")


def _tiles(rows):
    tiles = []
    for names, text in (
        (("vgg16", "resnet50", "alexnet", "mobilenet_v2", "small"), "convolutions of five networks, forward"),
        (("pooling",), "max-poolings, forward"),
        (("fused",), "convolution + ReLU + max-pooling, forward"),
    ):
        chosen = [r for r in rows if r.suite in names and r.direction == "forward" and r.dtype == "float32"]
        mean = geometric_mean([c.ratio() for c in compare(chosen)])
        if mean is not None:
            tiles.append((f"{mean:.2f}x", f"{text}: geometric mean over all layers and numbers of threads"))
    return tiles


def _losses(page, rows):
    everything = [c for c in compare([r for r in rows if r.op != "network"]) if c.ratio() is not None]
    losing = [c for c in everything if c.ratio() < 0.995]  # what rounds to less than 1.00
    page.add(html.heading("Where convkit loses"))
    if not everything:
        return
    which = ". The worst of them:" if losing else "."
    page.add(html.paragraph(f"In {len(losing)} of {counted(len(everything), 'comparison')} torch is faster{which}"))
    worst = sorted(losing, key=lambda c: c.ratio())[:15]
    cells = [
        [f"{c.row.suite}: {escape(c.row.layer)}", c.row.direction, c.row.dtype, c.row.threads, _ratio(c.ratio())]
        for c in worst
    ]
    page.add(html.table(["layer", "direction", "dtype", "threads", "ratio"], cells, texts=3))
    states = sorted({(r.contender, r.state) for r in rows if r.state != OK})
    if states:
        page.add(html.paragraph("What has no time, and why:"))
        page.add(html.table(["contender", "reason"], [[escape(a), escape(b)] for a, b in states], texts=2))


def _networks(page, rows):
    networks = {}
    for row in rows:
        if row.suite == "networks":
            networks.setdefault(f"{row.layer}, {row.direction}", []).append(row)
    if networks:
        page.add(html.heading("Whole networks"))
    for number, (title, own) in enumerate(networks.items()):
        page.picture(f"network-{number + 1}", charts.networks(own, title), title)


def _summary_table(summaries):
    headers = ["suite", "direction", "dtype", "threads", *FORMATS, "better format", "network total", "worst layer"]
    cells = [
        [
            *(s.suite, s.direction, s.dtype, str(s.threads)),
            *(_number(s.by_format[format], ".2f") for format in FORMATS),
            *(_ratio(s.best), _number(s.total, ".2f"), _number(s.worst, ".2f")),
        ]
        for s in summaries
    ]
    return html.table(headers, cells, texts=3)


def _layers(page, rows):
    page.add(html.heading("Every layer"))
    for (suite, direction, dtype, threads), members in groups(rows).items():
        if suite == "memory":
            continue
        title = f"{suite}, {direction}, {dtype}, {counted(threads, 'thread')}"
        name = "-".join((suite, direction, dtype, str(threads)))
        if any(c.ratio() for c in compare(members)):
            page.picture(name, charts.speedups(members, title), title)
        headers = ["layer", "sizes", "contender", "warm ms", "20 to 80 %", "cold ms", "share", "error"]
        cells = [_layer_cells(row) for row in members]
        table = html.table(headers, cells, texts=3)
        page.add(f"<details><summary>{escape(title)}: all times</summary>{table}</details>\n")


def _layer_cells(row):
    name = f"{row.contender} {row.format}" + (f", {row.algorithm}" if row.algorithm else "")
    layer = row.layer + ("" if row.data == "normal" else f", {row.data}")
    spread = "-" if row.warm is None else f"{row.warm_low:.3f} to {row.warm_high:.3f}"
    return [
        *(escape(layer), escape(row.sizes), escape(name)),
        *(_number(row.warm, ".3f"), spread, _number(row.cold, ".3f")),
        *(_number(row.share, ".0%"), _number(row.error, ".1e")),
    ]


def _memory_table(rows):
    names = ("saved", "peak", "resident", "parameters", "gradients", "optimizer")
    cells = [
        [f"{r.layer}, {r.sizes}", f"{r.contender} {r.format}", *(_number(getattr(r, name), ".1f") for name in names)]
        for r in rows
        if r.suite == "memory"
    ]
    return html.table(["training step", "contender", *names], cells, texts=2)


def _machine(page, result):
    page.add(html.heading("How it was measured"), html.paragraph(METHOD.format(fault=1e6 * result.page_fault_seconds)))
    cells = []
    for limits in result.limits:
        cells.append([counted(limits.threads, "thread"), "multiply-add peak", f"{limits.peak / 1e9:.0f} GFLOP/s", ""])
        for level in limits.levels:
            rates = (f"reads {level.read / 1e9:.0f} GB/s", f"copies {level.copy / 1e9:.0f} GB/s")
            cells.append([counted(limits.threads, "thread"), level.name, *rates])
    page.add(html.table(None, cells, texts=4))
    if result.rows:
        row = result.rows[0]
        about = f"{row.cpu}, {row.isa}; torch {row.torch}; convkit {row.convkit}; {row.date}"
        page.add(html.paragraph(f"{escape(about)}; the run took {result.seconds / 60:.0f} minutes.", "soft"))
