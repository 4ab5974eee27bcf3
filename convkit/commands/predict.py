"""``convkit predict``."""

import json
import statistics
import time
from pathlib import Path

import torch

from convkit._text import counted
from convkit.commands.options import add_model

RUNS = 5

DESCRIPTION = """\
Classify images: the likeliest classes of each with their probabilities, and the time that one image takes in the
network, on this machine, without reading the file (median of five runs). A model that was trained on a table takes CSV
files with the same columns, and tells the classes, or the value, of each row."""
EPILOG = """\
examples:
  convkit predict three.png                          by the model that was trained last
  convkit predict new-houses.csv --run runs/houses-mlp
  convkit predict cat.jpg dog.jpg --run runs/photos-vgg16 --json
  convkit predict cat.jpg --model vgg16 --weights vgg16.pth --classes imagenet.txt   torchvision's weights"""


def add_arguments(parser):
    help = "JPEG, PNG or another image that Pillow reads; for a table, CSV"
    parser.add_argument("files", nargs="+", metavar="FILE", help=help)
    parser.add_argument("--top", type=int, default=5, metavar="N", help="how many classes (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_model(parser)


def main(arguments):
    """Run the command that parsed ``arguments`` ask for."""
    from convkit.commands.trained import open_model

    if arguments.top < 1:
        raise ValueError(f"--top must be at least 1, but got {arguments.top}")
    for path in map(Path, arguments.files):
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder: name files to predict from, and the run as --run RUN")
    found = open_model(arguments)
    kind = found.preprocessing["kind"]
    if kind not in ("image", "table"):
        raise ValueError(f"{found.name} was trained on a {kind}: it predicts neither images nor rows of tables")
    results, notes = (_images if kind == "image" else _tables)(found, arguments.files, arguments.top)
    if arguments.json:
        print(json.dumps(results, indent=2))
    else:
        print("\n".join([*notes, *map(as_text if kind == "image" else row_as_text, results)]))


def _images(found, paths, top):
    from convkit.data.folder import UNREADABLE, open_image, prepare

    inputs = []
    for path in paths:  # all are read before the first answer
        try:
            image = open_image(path, len(found.preprocessing["mean"]))
        except UNREADABLE as error:
            what = getattr(error, "strerror", None) or error
            raise ValueError(f"{found.name} takes images, but {path} cannot be read: {what}") from error
        inputs.append(prepare(image, found.preprocessing))
    return [classify(found, path, input, top) for path, input in zip(paths, inputs, strict=True)], []


def _tables(found, paths, top):
    from convkit.data.tables import read_rows

    results, notes = [], []
    for path in paths:
        try:
            inputs, _, more = read_rows(path, found.preprocessing)
        except ValueError as error:
            raise ValueError(f"{found.name} was trained on a table and takes CSV files: {error}") from error
        results += rows(found, path, inputs, top)
        notes += [f"{path}: {note}" for note in more]
    return results, notes


@torch.no_grad()
def rows(found, path, inputs, top):
    """The answers for the rows of a table, as dicts that JSON can hold."""
    outputs = found.model(inputs.to(next(found.model.parameters()).device)).cpu()
    about = {"file": str(path), "model": found.name, "weights": str(found.path)}
    if found.classes:
        answers = [{"predictions": _likeliest(found, values, top)} for values in outputs.softmax(1)]
    else:
        mean, scale = (found.preprocessing[name] for name in ("target_mean", "target_scale"))
        answers = [{"target": found.preprocessing["target"], "value": v * scale + mean} for v in outputs[:, 0].tolist()]
    return [{**about, "row": row, **answer} for row, answer in enumerate(answers, 1)]


def _likeliest(found, probabilities, top):
    best = probabilities.topk(min(top, len(found.classes)))
    return [
        {"class": found.classes[index], "probability": value}
        for value, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]


@torch.no_grad()
def classify(found, path, input, top):
    """The answer for one image, as a dict that JSON can hold."""
    device = next(found.model.parameters()).device
    batch = input[None].to(device, memory_format=torch.channels_last)
    probabilities = found.model(batch).float().softmax(1)[0]
    seconds = []
    for _ in range(RUNS):
        begin = time.perf_counter()
        found.model(batch).cpu()  # which waits for a GPU
        seconds.append(time.perf_counter() - begin)
    return {
        "image": str(path),
        "model": found.name,
        "weights": str(found.path),
        "predictions": _likeliest(found, probabilities, top),
        "milliseconds": 1e3 * statistics.median(seconds),
        "device": str(device),
        "threads": torch.get_num_threads(),
    }


def as_text(result):
    width = max(len(row["class"]) for row in result["predictions"])
    lines = [result["image"]]
    for place, row in enumerate(result["predictions"], 1):
        lines.append(f"  {place}  {row['class']:<{width}}  {100 * row['probability']:6.2f} %")
    threads = counted(result["threads"], "thread")
    where = f"cpu, {threads}" if result["device"] == "cpu" else result["device"]
    lines.append(f"  {result['milliseconds']:.2f} ms for one image ({result['model']} of {result['weights']}; {where})")
    return "\n".join(lines)


def row_as_text(result):
    if "value" in result:
        answer = f"{result['target']} {result['value']:g}"
    else:
        answer = ", ".join(f"{row['class']} {100 * row['probability']:.2f} %" for row in result["predictions"])
    return f"{result['file']}, row {result['row']}: {answer}"
