"""Pictures for the report, as SVG or PNG inside the page; lines and letters follow the page's light or dark colours."""

import base64
import io
import re

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

CELL = 30  # pixels
# matplotlib wants real colours; each of these is replaced by a CSS one when the picture is written.
INK = "#010203"
CSS_COLOURS = {INK: "currentColor", "#0a0b0c": "var(--ours)", "#1a1b1c": "var(--theirs)", "#2a2b2c": "var(--third)"}
SERIES = [colour for colour in CSS_COLOURS if colour != INK]


def number_grid(values, marked=(), decimal="."):
    """An SVG of a matrix: numbers on cells that are the bluer (redder) the larger (smaller) the number.

    Args:
        values: (height, width) tensor; of fractions three digits are shown.
        marked: (row, column) pairs that get a frame.
        decimal: separator of fractions.
    """
    rows = values.tolist()
    largest = max(abs(v) for row in rows for v in row) or 1
    height, width = len(rows), len(rows[0])
    cells = []
    for r, row in enumerate(rows):
        for c, v in enumerate(row):
            x, y = c * CELL, r * CELL
            kind = "frame" if (r, c) in marked else "cell"
            sign = "plus" if v > 0 else "minus" if v < 0 else "zero"
            text = f"{v + 0.0:.3g}".replace("-", "&minus;").replace(".", decimal)  # 0.0 makes -0 a 0
            cells.append(
                f'<rect x="{x + 1}" y="{y + 1}" width="{CELL - 2}" height="{CELL - 2}" rx="3" class="{sign} {kind}" '
                f'fill-opacity="{0.06 + 0.6 * abs(v) / largest:.2f}"/>'
                f'<text x="{x + CELL / 2:g}" y="{y + CELL / 2 + 4.5:g}">{text}</text>'
            )
    size = f'width="{width * CELL}" viewBox="0 0 {width * CELL} {height * CELL}"'
    return f'<svg class="grid" {size} role="img">{"".join(cells)}</svg>'


def _svg(figure, name):
    """The figure as SVG that stands inside a page: no header, no metadata, CSS colours and fonts."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", transparent=True, bbox_inches="tight", pad_inches=0.03)
    pyplot.close(figure)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"| id="[a-zA-Z]+\d*_\d+"', "", text).replace("xlink:href", "href")
    text = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg class="chart" \1 role="img">', text, count=1)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 system-ui, sans-serif", text)
    for colour, css in CSS_COLOURS.items():
        text = text.replace(colour, css)
    return text


def line_chart(series, xlabel, ylabel, *, x=None, log=False, overlapping=False, decimal="."):
    """An SVG chart of curves.

    Args:
        series: name -> list of numbers.
        x: where the numbers stand; default 1, 2, 3 ...
        log: powers of ten on the vertical axis, of two on the horizontal one.
        overlapping: draw the first as a broad band and the later ones thin, so that equal ones are all seen.
        decimal: separator of fractions on the axes.
    """
    style = {"axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK, "ytick.color": INK}
    with matplotlib.rc_context({**style, "font.size": 9.5, "axes.linewidth": 0.6}):
        figure, axes = pyplot.subplots(figsize=(4.3, 2.7))
        strokes = [("-", 7, 0.4), ("--", 1.8, 1), (":", 2.2, 1)] if overlapping else [("o-", 1.8, 1)] * len(SERIES)
        for (name, values), colour, (dash, width, alpha) in zip(series.items(), SERIES, strokes, strict=False):
            places = range(1, len(values) + 1) if x is None else x
            options = {"color": colour, "linewidth": width, "alpha": alpha, "markersize": 3.5, "label": name}
            axes.plot(places, values, dash, **options)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        if log:
            axes.set_yscale("log")
            axes.set_xscale("log", base=2)
            axes.set_xticks(list(places), list(map(str, places)))
            axes.minorticks_off()
        elif x is None:
            axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
        if not log:
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(lambda value, _: f"{value:.6g}".replace(".", decimal))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.15, color=INK, linewidth=0.6)
        axes.legend(frameon=False, fontsize=9)
        return _svg(figure, f"{xlabel} {ylabel}")


def image(values, size, colormap="gray", symmetric=False, limits=None):
    """An ``<img>`` with a matrix as PNG, ``size`` CSS pixels wide; ``symmetric`` puts 0 at the colormap's middle, and
    ``limits`` are the values for black and white, the smallest and the largest unless given."""
    array = values.detach().numpy()
    largest = abs(array).max() or 1
    low, high = limits or ((-largest, largest) if symmetric else (array.min(), array.max()))
    buffer = io.BytesIO()
    pyplot.imsave(buffer, array, cmap=colormap, vmin=low, vmax=high, format="png")
    data = base64.b64encode(buffer.getvalue()).decode()
    height = round(size * array.shape[0] / array.shape[1])
    return f'<img class="pixels" width="{size}" height="{height}" alt="" src="data:image/png;base64,{data}">'
