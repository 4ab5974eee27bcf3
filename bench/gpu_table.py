"""The short table of bench.gpu_check, from its CSV."""

import csv
import math
import statistics
from pathlib import Path

from bench.gpu_layers import BOUND_BY_MEMORY, CALLS, FORMATS, LAYERS, PRECISIONS

# What each precision is measured against. TF32 never stands beside ieee.
CEILINGS = {"ieee": "ffma", "tf32": "tf32", "bfloat16": "bfloat16", "float16": "float16"}


def read(path):
    """The rows of the CSV, as dictionaries of strings."""
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def fastest(rows, **wanted):
    """(microseconds, row) of the fastest of the measured rows with these values, or None."""
    found = [
        (float(row["microseconds"]), i, row)
        for i, row in enumerate(rows)
        if row["state"] == "ok" and all(row[key] == value for key, value in wanted.items())
    ]
    return min(found)[::2] if found else None


def _cell(rows, who, layer, precision, call):
    """Times in both formats, each of the fastest algorithm: "12/34"."""
    times = [fastest(rows, who=who, layer=layer, precision=precision, call=call, format=format) for format in FORMATS]
    return "/".join(f"{found[0]:.0f}" if found else "-" for found in times)


def _ratio(rows, layer, precision, call):
    """cuDNN's better time over convkit's better time."""
    pair = [fastest(rows, who=who, layer=layer, precision=precision, call=call) for who in ("cudnn", "convkit")]
    return f"{pair[0][0] / pair[1][0]:.2f}" if all(pair) else "-"


def _share(rows, layer, precision, call, ceilings):
    """convkit's rate as a share of the measured ceiling of that precision, in percent."""
    found = fastest(rows, who="convkit", layer=layer, precision=precision, call=call)
    ceiling = ceilings.get(CEILINGS[precision])
    return f"{100 * float(found[1]['tflops']) / ceiling:.0f}" if found and ceiling else "-"


def _bound_by_memory(rows, copy):
    """One line per call, layer and precision of what memory bounds; times NCHW/channels_last."""
    lines = [f"{'call, layer, precision':<40}{'torch':>14}{'convkit':>14}{'ratio':>7}{'% copy':>8}"]
    wanted = {(row["call"], row["layer"], row["precision"]): None for row in rows if row["call"] in BOUND_BY_MEMORY}
    for call, layer, precision in wanted:
        cells = [_cell(rows, who, layer, precision, call) for who in ("cudnn", "convkit")]
        found = fastest(rows, who="convkit", layer=layer, precision=precision, call=call)
        share = f"{100 * float(found[1]['gb_per_s']) / copy:.0f}" if found and copy else "-"
        name = f"{call} {layer} {precision}"
        lines.append(f"{name:<40}{cells[0]:>14}{cells[1]:>14}{_ratio(rows, layer, precision, call):>7}{share:>8}")
    return lines if wanted else []


def _other_calls(rows):
    """For each further call the geometric mean over the layers of cuDNN's better time over convkit's, by precision."""
    lines = []
    for call in CALLS[1:]:
        means = []
        for precision in PRECISIONS:
            ratios = [_ratio(rows, layer.name, precision, call) for layer in LAYERS]
            found = [math.log(float(ratio)) for ratio in ratios if ratio != "-"]
            means.append(f"{precision} {math.exp(statistics.mean(found)):.2f} ({len(found)})" if found else "")
        lines.append(f"{call}: {', '.join(filter(None, means))}" if any(means) else f"{call}: not measured")
    return lines


def as_text(rows, ceilings):
    """One line per layer and precision, of the first of CALLS; times in microseconds, NCHW/channels_last."""
    call = CALLS[0]
    lines = ["ceilings: " + (", ".join(f"{name} {value:g}" for name, value in ceilings.items()) or "not measured")]
    lines += _bound_by_memory(rows, ceilings.get("copy"))
    lines.append(f"{call}, microseconds NCHW/channels_last; ratio: cuDNN/convkit, best of each")
    lines.append(f"{'layer':<12}{'precision':<10}{'cuDNN':>14}{'convkit':>14}{'ratio':>7}{'% peak':>8}")
    for layer in LAYERS:
        for precision in PRECISIONS:
            cells = [_cell(rows, who, layer.name, precision, call) for who in ("cudnn", "convkit")]
            ratio = _ratio(rows, layer.name, precision, call)
            share = _share(rows, layer.name, precision, call, ceilings)
            lines.append(f"{layer.name:<12}{precision:<10}{cells[0]:>14}{cells[1]:>14}{ratio:>7}{share:>8}")
    lines += _other_calls(rows)
    wrong = [row for row in rows if row["state"] not in ("ok", "")]
    lines += [f"{row['who']} {row['layer']} {row['precision']} {row['call']}: {row['state']}" for row in wrong[:10]]
    return "\n".join(lines)
