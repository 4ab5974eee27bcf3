"""``convkit models``."""

import json

from convkit.commands.options import refuse_unused
from convkit.models.catalog import CATALOG, build, default_hidden

DESCRIPTION = """\
The networks that `convkit train` knows; with a name, every layer of it: shapes, parameters, FLOPs."""
EPILOG = """\
examples:
  convkit models
  convkit models vgg16
  convkit models small-cnn --input-size 3 32 32 --outputs 100 --json"""
SAMPLES = 124  # of the lecture's Wine data, which the mlp is shown for


def add_arguments(parser):
    parser.add_argument("model", nargs="?", choices=CATALOG, metavar="MODEL", help=f"of {', '.join(CATALOG)}")
    parser.add_argument("--input-size", type=int, nargs="+", metavar="N", help="of a sample (as published)")
    parser.add_argument("--outputs", type=int, metavar="N", help="number of classes or values (as published)")
    parser.add_argument("--hidden", type=int, nargs="*", metavar="N", help="widths of an mlp (by the rule of thumb)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def main(arguments):
    """Run the command that parsed ``arguments`` ask for."""
    if arguments.model is None:
        if any(option is not None for option in (arguments.input_size, arguments.outputs, arguments.hidden)):
            raise ValueError("--input-size, --outputs and --hidden describe one model: name it")
        _list(arguments.json)
    else:
        if arguments.model != "mlp":
            refuse_unused(arguments, ("hidden",), f"is for an mlp, but the model is {arguments.model}")
        for option, values in (("outputs", [arguments.outputs]), ("input-size", arguments.input_size or [])):
            if any(value is not None and value < 1 for value in values):
                raise ValueError(f"--{option} must be at least 1, but got {' '.join(map(str, values))}")
        _describe(arguments)


def _build(name, input_size=None, outputs=None, hidden=None):
    import torch

    entry = CATALOG[name]
    input_size = tuple(entry.input_size if input_size is None else input_size)
    outputs = entry.outputs if outputs is None else outputs
    hidden = default_hidden(input_size, max(2, outputs), SAMPLES) if hidden is None else hidden
    with torch.device("meta"):  # VGG's half a gigabyte is not wanted
        return build(name, input_size, outputs, hidden)


def _list(as_json):
    rows = []
    for name, entry in CATALOG.items():
        network = _build(name)
        parameters = sum(p.numel() for p in network.parameters())
        statistics = sum(b.numel() for b in network.buffers() if b.is_floating_point())
        rows.append({"model": name, "inputs": entry.inputs, "input_size": list(entry.input_size),
                     "outputs": entry.outputs, "parameters": parameters, "buffers": statistics,
                     "about": entry.about})  # fmt: skip
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'model':<10} {'takes':<6} {'such as':>11} {'outputs':>7} {'parameters':>11}")
    for row in rows:
        size = "x".join(map(str, row["input_size"]))
        statistics = f"; beside them {row['buffers']:,} running means and variances" if row["buffers"] else ""
        print(
            f"{row['model']:<10} {row['inputs']:<6} {size:>11} {row['outputs']:>7} {row['parameters']:>11,}  "
            f"{row['about']}{statistics}"
        )


def _describe(arguments):
    import dataclasses

    from convkit.models import summary

    found = summary(_build(arguments.model, arguments.input_size, arguments.outputs, arguments.hidden))
    print(json.dumps(dataclasses.asdict(found), indent=2) if arguments.json else found)
