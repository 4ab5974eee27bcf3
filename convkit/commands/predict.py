"""``convkit predict``."""

import json
import statistics
import time

import torch

from convkit.commands.options import add_model

RUNS = 5

DESCRIPTION = """\
Classify images: the likeliest classes of each with their probabilities, and the time that one image takes in the
network, on this machine, without reading the file (median of five runs)."""
EPILOG = """\
examples:
  convkit predict three.png                          by the model that was trained last
  convkit predict cat.jpg dog.jpg --run runs/photos-vgg16 --json
  convkit predict cat.jpg --model vgg16 --weights vgg16.pth --classes imagenet.txt   torchvision's weights"""


def add_arguments(parser):
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="JPEG, PNG or another file that Pillow reads")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="how many classes (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_model(parser)


def main(arguments):
    """Run the command that parsed ``arguments`` ask for."""
    from convkit.commands.trained import open_model
    from convkit.data.folder import UNREADABLE, open_image, prepare

    if arguments.top < 1:
        raise ValueError(f"--top must be at least 1, but got {arguments.top}")
    found = open_model(arguments)
    if found.preprocessing["kind"] != "image" or not found.classes:
        raise ValueError(f"{found.name} was trained on a {found.preprocessing['kind']}: it does not classify images")
    inputs = []
    for path in arguments.images:  # all are read before the first answer
        try:
            image = open_image(path, len(found.preprocessing["mean"]))
        except UNREADABLE as error:
            raise ValueError(f"{path} cannot be read: {error}") from error
        inputs.append(prepare(image, found.preprocessing))
    results = [
        classify(found, path, input, arguments.top) for path, input in zip(arguments.images, inputs, strict=True)
    ]
    if arguments.json:
        print(json.dumps(results, indent=2))
    else:
        print("\n".join(map(as_text, results)))


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
    best = probabilities.topk(min(top, len(found.classes)))
    return {
        "image": str(path),
        "model": found.name,
        "weights": str(found.path),
        "predictions": [
            {"class": found.classes[index], "probability": value}
            for value, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ],
        "milliseconds": 1e3 * statistics.median(seconds),
        "device": str(device),
        "threads": torch.get_num_threads(),
    }


def as_text(result):
    width = max(len(row["class"]) for row in result["predictions"])
    lines = [result["image"]]
    for place, row in enumerate(result["predictions"], 1):
        lines.append(f"  {place}  {row['class']:<{width}}  {100 * row['probability']:6.2f} %")
    threads = f"{result['threads']} thread{'s' * (result['threads'] > 1)}"
    where = f"cpu, {threads}" if result["device"] == "cpu" else result["device"]
    lines.append(f"  {result['milliseconds']:.2f} ms for one image ({result['model']} of {result['weights']}; {where})")
    return "\n".join(lines)
