"""``convkit evaluate``."""

import json
from dataclasses import replace
from pathlib import Path

from convkit.commands.options import add_model
from convkit.commands.train import as_text, in_units

DESCRIPTION = """\
Score a model on data: loss, accuracy (top-1, and top-5 from six classes on) and the confusion matrix, or the errors of
a regression. A run of `convkit train` is scored on the test part of its own data, or on SOURCE: on its test part, or on
every row of a CSV file, read as the run's own table was."""
EPILOG = """\
examples:
  convkit evaluate                                          the model that was trained last
  convkit evaluate --run runs/photos-vgg16 --confusion matrix.png
  convkit evaluate new-houses.csv --run runs/houses-mlp
  convkit evaluate ilsvrc/ --model vgg16 --weights vgg16.pth --workers 4     the folder's val part"""


def add_arguments(parser):
    parser.add_argument("source", nargs="?", metavar="SOURCE", help="as for `convkit train` (the run's)")
    parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="images at a time (%(default)s)")
    parser.add_argument("--workers", type=int, default=0, metavar="N", help="processes that load images (%(default)s)")
    parser.add_argument("--confusion", metavar="PNG", help="draw the confusion matrix")
    parser.add_argument("--json", action="store_true", help="print JSON, with the confusion matrix")
    add_model(parser)


def main(arguments):
    """Run the command that parsed ``arguments`` ask for."""
    from convkit.commands.trained import open_model
    from convkit.train import Config, evaluate
    from convkit.train.records import write_confusion

    found = open_model(arguments)
    data = _data(found, arguments.source)
    source = arguments.source or found.data["source"]
    _check(found, data)
    loss = "cross_entropy" if data.classes else "mse"
    config = Config(**{**(found.config or {}), "loss": loss, "batch_size": arguments.batch_size,
                       "workers": arguments.workers, "patience": None})  # fmt: skip
    if arguments.confusion and not data.classes:
        raise ValueError(f"--confusion is for classes, but {found.name} predicts a value")
    scores = evaluate(found.model, data.test, config, confusion=bool(data.classes))
    result = {"model": found.name, "source": str(source), "samples": len(data.test)}
    result |= in_units(scores.values, data.preprocessing)
    if arguments.confusion:
        write_confusion(arguments.confusion, scores.confusion.cpu(), found.classes)
    if arguments.json:
        if scores.confusion is not None:
            result |= {"classes": list(found.classes), "confusion": scores.confusion.tolist()}
        print(json.dumps(result, indent=2))
        return
    for note in data.notes if arguments.source else ():  # of the run's own data, training has told them
        print(note)
    print(f"{found.name} on {source}: {as_text({k: v for k, v in result.items() if k not in ('model', 'source')})}")
    if scores.confusion is not None and len(found.classes) <= 12:
        print(matrix(scores.confusion.tolist(), found.classes))


def _data(found, source):
    """What the model is scored on, read as its training data was."""
    from convkit.data import Options, load
    from convkit.data.folder import ImageFolder
    from convkit.data.sources import reader
    from convkit.data.tables import from_rows

    if source is None and found.data is None:
        raise ValueError("a model with weights from elsewhere needs a SOURCE to be scored on")
    if source is None or (found.data and found.data["source"] in (source, str(Path(source).absolute()))):
        return load(found.data["source"], Options(**found.data["options"]))
    if found.preprocessing["kind"] == "table" and Path(source).is_file():
        return from_rows(source, found.preprocessing, found.classes)
    options = {"valid": 0}
    if found.data is not None:  # the share and the seed of its split
        options = {name: value for name, value in found.data["options"].items() if name in ("test", "valid", "seed")}
    if found.preprocessing["kind"] == "image" and "image_size" in reader(source)[1]:
        options = {**options, "image_size": found.preprocessing["size"][0]}
    data = load(source, Options(**options))
    if found.data is None and isinstance(data.test, ImageFolder):  # as the weights expect them
        test = ImageFolder(data.test.files, found.preprocessing)
        data = replace(data, test=test, preprocessing=found.preprocessing)
    return data


def _check(found, data):
    if data.test is None:
        raise ValueError(f"{data.name} has no test part: it was split with a share of 0")
    if len(found.classes) != len(data.classes):
        raise ValueError(f"{found.name} knows {len(found.classes)} classes, but {data.name} has {len(data.classes)}")
    if found.data is not None and found.classes != data.classes:
        raise ValueError(f"{found.name} was trained on other classes: {found.classes}, not {data.classes}")
    if found.preprocessing != data.preprocessing:
        raise ValueError(
            f"{found.name} was trained on samples that were scaled otherwise than those of {data.name}: on other data, "
            "or on a file that has changed since"
        )


def matrix(counts, classes):
    """The confusion matrix as text: a row for each true class."""
    cells = [["", *classes], *([name, *map(str, row)] for name, row in zip(classes, counts, strict=True))]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(["true class by row, predicted class by column:", *lines])
