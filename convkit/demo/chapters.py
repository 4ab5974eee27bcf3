"""The chapters of the report: results of the steps in, HTML out."""

import math
from functools import partial

import torch

import convkit
from convkit import _html as html
from convkit import _pictures as pictures
from convkit.demo import prose
from convkit.demo.digits import MEMORY_BATCH
from convkit.lecture import chapters, english, numbers

MEGABYTE = 1e6
percent = partial(numbers.percent, words=english)


def geometric_mean(values):
    return math.exp(sum(map(math.log, values)) / len(values))


def summary(checks, wine, runs, rows):
    ratios = [row.ratio for row in rows]
    wins = sum(ratio >= 1 for ratio in ratios)
    return html.tiles(
        [
            (f"{len(checks)} of {len(checks)}", "results of the lecture's hand computation reproduced exactly"),
            (percent(wine.convkit.mean()), f"accuracy on Wine; scikit-learn: {percent(wine.sklearn.mean())}"),
            (
                percent(runs["convkit"].accuracies[-1]),
                f"accuracy on digits; torch.nn: {percent(runs['torch.nn'].accuracies[-1])}",
            ),
            (
                f"{geometric_mean(ratios):.2f}x",
                f"torch's speed, geometric mean over {len(rows)} calls; faster in {wins} of them",
            ),
        ]
    )


def by_hand(maps):
    return html.heading("1. A convolution you can check by hand") + chapters.by_hand(maps, english)


def wine(comparison):
    return html.heading("2. A small network on a table: which wine is it?") + chapters.wine(comparison, english)


def _what_the_network_sees(model, image):
    with torch.no_grad():
        pooled = convkit.max_pool2d(convkit.relu(model[0](image[None])), 2)[0]
        likely = model(image[None]).softmax(1)[0]
    best = likely.argsort(descending=True)[:3].tolist()
    filters = "".join(pictures.image(f[0], 40, "RdBu", symmetric=True) for f in model[0].weight)
    after = "".join(pictures.image(m, 40) for m in pooled)
    answer = ", ".join(f"{digit} ({percent(likely[digit].item())})" for digit in best)
    return html.row(
        html.figure(pictures.image(image[0], 92), "a test digit"),
        html.figure(f'<div class="strip">{filters}</div>', "the 16 filters that the first layer learned", wide=True),
        html.figure(f'<div class="strip">{after}</div>', "the digit after each, ReLU and pooling", wide=True),
    ) + html.paragraph(f"The network's likeliest answers for this digit: {answer}.", "soft")


def _digits_row(name, run):
    peak = "not measured" if run.peak_bytes is None else f"{run.peak_bytes / MEGABYTE:.1f}"
    saved = f"{run.saved_bytes / MEGABYTE:.1f}"
    return [name, percent(run.accuracies[-1]), f"{run.losses[-1]:.4f}", f"{run.seconds_per_epoch:.2f}", saved, peak]


def digits(data, runs, threads):
    losses = {name: run.losses for name, run in runs.items()}
    accuracies = {name: [100 * a for a in run.accuracies] for name, run in runs.items()}
    headers = ["layers", "test accuracy", "last loss", "s per epoch", "saved, MB", "peak, MB"]
    text = prose.DIGITS.format(source=data.source, used=len(data.labels), tests=data.tests)
    return "".join(
        [
            html.heading("3. A network that reads digits"),
            html.paragraph(text),
            html.row(
                html.figure(
                    pictures.line_chart(losses, "epoch", "training loss", overlapping=True),
                    "loss in training",
                    wide=True,
                ),
                html.figure(
                    pictures.line_chart(accuracies, "epoch", "accuracy, %", overlapping=True),
                    "accuracy on unseen digits",
                    wide=True,
                ),
            ),
            html.table(headers, [_digits_row(name, run) for name, run in runs.items()]),
            html.paragraph(prose.DIGITS_MEASURED.format(threads=threads, batch=MEMORY_BATCH), "soft"),
            _what_the_network_sees(runs["convkit"].model, data.images[-1]),
        ]
    )


def _milliseconds(timing):
    spread = f"{1e3 * timing.low:.3f}&ndash;{1e3 * timing.high:.3f}"
    return f"{1e3 * timing.median:.3f}<br><span class=soft>{spread}</span>"


def _timing_row(row):
    times = [_milliseconds(row.convkit), _milliseconds(row.torch), html.ratio_bar(row.ratio)]
    return [f"{row.op}<br><span class=soft>{row.size}, {row.layout}</span>", *times, *_errors(row)]


def _errors(row):
    return [f"{timing.max_error:.1e}" if timing.max_error else "0" for timing in (row.convkit, row.torch)]


def timings(rows, threads):
    headers = ["call", "convkit, ms", "torch, ms", "torch / convkit", "convkit's error", "torch's"]
    return "".join(
        [
            html.heading("4. How fast, and how exact"),
            html.paragraph(prose.TIMINGS.format(threads=threads)),
            html.table(headers, [_timing_row(row) for row in rows]),
        ]
    )


def machine(found, run, load):
    build, here = found["build"], found["machine"]
    rows = [
        ["processor", here["cpu"]],
        ["instruction set", f"{here['isa']} (of {', '.join(here['isas'])})"],
        ["threads", str(here["threads"])],
        ["GPU", ", ".join(here["cuda_devices"]) or "none; every number here is the processor's"],
        ["CUDA kernels", ", ".join(build["cuda_archs"]) or f"not built: {build['cuda_reason']}"],
        ["versions", f"convkit {found['convkit']}, torch {here['torch']}, Python {found['python']}"],
        ["built with", f"torch {build['torch']}, compiler {build['compiler']}"],
        ["this run", run],
        [
            "load before it",
            "unknown" if load is None else f"{load:.1f}; far above 0, other programs share the processor",
        ],
    ]
    return html.heading("5. The machine") + html.table(None, rows, texts=2)
