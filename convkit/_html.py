"""The few pieces of HTML that reports are made of; a page needs no other file."""

from html import escape

CSS = """
:root { color-scheme: light dark; --paper: #fdfdfc; --ink: #1d2330; --soft: #626b7c; --line: #dfe3ea; --card: #f3f5f9;
  --ours: #1f63d6; --theirs: #d9730d; --third: #2f9e6e; --minus: #d1495b; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171d; --ink: #e6e9ef; --soft: #9aa4b5; --line: #2d3440;
  --card: #1c2129; --ours: #6ea5ff; --theirs: #f2a65a; --third: #5cc99a; --minus: #ef7b8a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 1000px; margin: 0 auto; padding: 32px 18px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 8px; } h2 { font-size: 22px; margin: 52px 0 8px; }
h3 { font-size: 16px; margin: 28px 0 4px; } p { margin: 8px 0 14px; max-width: 68ch; }
.lead { font-size: 18px; } .soft, figcaption { color: var(--soft); font-size: 14px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(180px, 1fr)); gap: 12px; margin: 24px 0; }
.tile { background: var(--card); border-radius: 10px; padding: 14px 16px; }
.tile b { display: block; font-size: 26px; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 14px; line-height: 1.4; display: block; }
.row { display: flex; flex-wrap: wrap; gap: 16px 10px; align-items: center; margin: 14px 0 22px; }
figure { margin: 0; display: table; }
figcaption { display: table-caption; caption-side: bottom; padding-top: 6px; line-height: 1.35; }
figure.wide { display: block; } .wide figcaption { display: block; }
.wide { flex: 1 1 330px; max-width: 420px; } .arrow { color: var(--soft); font-size: 20px; margin-bottom: 20px; }
svg.grid { display: block; max-width: 100%; height: auto; } svg.chart { width: 100%; height: auto; display: block; }
.grid text { font: 12.5px system-ui, sans-serif; text-anchor: middle; fill: var(--ink); }
.plus { fill: var(--ours); } .minus { fill: var(--minus); } .zero { fill: var(--soft); }
.frame { stroke: var(--theirs); stroke-width: 2.5; }
img.pixels { image-rendering: pixelated; border-radius: 3px; display: block; }
.strip { display: flex; flex-wrap: wrap; gap: 5px; }
figure.plot { display: block; margin: 14px 0 20px; } .plot img { max-width: 100%; height: auto; background: white; }
details { margin: 4px 0 12px; } summary { color: var(--soft); cursor: pointer; }
.scroll { overflow-x: auto; margin: 12px 0 18px; }
table { border-collapse: collapse; font-size: 14.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 14px 5px 0; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; font-size: 13px; } td.n, th.n { text-align: right; }
.track { display: inline-block; width: 64px; margin-left: 10px; text-align: left; }
.bar { display: inline-block; height: 9px; border-radius: 2px; background: var(--third); }
.bar.loss { background: var(--minus); } code { font-size: 0.92em; }
"""


HEAD = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'


def page(title, body, language="en"):
    head = f"<head>{HEAD}<title>{escape(title)}</title><style>{CSS}</style></head>"
    return f'<!doctype html>\n<html lang="{language}">{head}\n<body><main>{body}</main></body></html>\n'


def paragraph(text, kind=""):
    return f'<p class="{kind}">{text}</p>\n' if kind else f"<p>{text}</p>\n"


def heading(text, level=2):
    return f"<h{level}>{escape(text)}</h{level}>\n"


def figure(content, caption, wide=False):
    return f"<figure{' class=wide' if wide else ''}>{content}<figcaption>{caption}</figcaption></figure>"


def row(*items):
    return f'<div class="row">{"".join(items)}</div>\n'


ARROW = '<span class="arrow">→</span>'


def tiles(pairs):
    """Big numbers with a line below each: (number, what it is) pairs."""
    inner = "".join(f'<div class="tile"><b>{escape(n)}</b><span>{escape(what)}</span></div>' for n, what in pairs)
    return f'<div class="tiles">{inner}</div>\n'


def table(headers, rows, texts=1):
    """A table whose first ``texts`` columns are text and the others numbers, aligned right.

    Cells are HTML; ``headers`` may be None.
    """

    def line(tag, cells):
        kinds = ("" if i < texts else " class=n" for i in range(len(cells)))
        return "<tr>" + "".join(f"<{tag}{k}>{c}</{tag}>" for k, c in zip(kinds, cells, strict=True)) + "</tr>"

    body = "".join(line("td", cells) for cells in rows)
    head = line("th", headers) if headers else ""
    return f'<div class="scroll"><table>{head}{body}</table></div>\n'


def ratio_bar(ratio, decimal="."):
    """A ratio, 1.00x = equal, with a bar as long as it is large (four times and more fill it)."""
    width = max(3, round(64 * min(ratio, 4) / 4))
    kind = "bar" if ratio >= 0.995 else "bar loss"
    text = f"{ratio:.2f}x".replace(".", decimal)
    return f'{text}<span class="track"><span class="{kind}" style="width:{width}px"></span></span>'
