"""The chapters of the report on images: parameters, invariance, ILSVRC, filters, noise."""

from html import escape

from convkit import _html as html
from convkit import _pictures as pictures
from convkit import info
from convkit._text import counted
from convkit.lecture import ilsvrc
from convkit.lecture.numbers import fill, number, percent

grid, figure = pictures.number_grid, html.figure
CROP = 256  # pixels of a photograph that are shown


def parameters(counts, words):
    sizes = [count.size for count in counts]
    series = zip(words.PARAMETERS_SERIES, ("rule_of_thumb", "narrow", "cnn"), strict=True)
    curves = {label: [getattr(count, name) for count in counts] for label, name in series}
    rows = [
        [
            f"{c.size} x {c.size}",
            *(number(n, words, ",") for n in (c.inputs, c.rule_of_thumb, c.narrow, c.cnn, c.convolutions)),
        ]
        for c in counts
    ]
    return "".join(
        [
            html.paragraph(fill(words.PARAMETERS, words, convolutions=counts[0].convolutions)),
            html.row(
                figure(pictures.line_chart(curves, *words.PARAMETERS_CHART, x=sizes, log=True), "", wide=True),
            ),
            html.table(words.PARAMETERS_TABLE, rows),
        ]
    )


def invariance(result, words):
    charts, examples = [], []
    best = min(words.NETWORKS, key=result.lost)
    about = {"samples": result.samples, "tests": result.tests, "network": words.NETWORKS[best]}
    about["lost"] = 100 * result.lost(best)
    for (experiment, curves), shown in zip(result.curves.items(), result.images, strict=True):
        title, axis = words.EXPERIMENTS[experiment]
        series = {words.NETWORKS[name]: [100 * value for value in values] for name, values in curves.items()}
        chart = pictures.line_chart(
            series, axis, words.ACCURACY_AXIS, x=result.amounts[experiment], decimal=words.DECIMAL
        )
        charts.append(figure(chart, title, wide=True))
        strip = "".join(pictures.image(image, 46, limits=(0, 1)) for image in shown)
        examples.append(figure(f'<div class="strip">{strip}</div>', title))
    return "".join(
        [
            html.paragraph(fill(words.INVARIANCE, words, **about)),
            html.row(*examples),
            html.row(*charts),
            html.table(words.INVARIANCE_TABLE, [_robustness(result, name, words) for name in words.NETWORKS]),
        ]
    )


def _robustness(result, name, words):
    def at(experiment, amount):
        return percent(result.curves[experiment][name][result.amounts[experiment].index(amount)], words)

    accuracies = [at("translation", 0), at("translation", 3), at("rotation", 30), at("scale", 0.7)]
    return [words.NETWORKS[name], number(result.parameters[name], words, ","), *accuracies]


def networks(rows, words):
    published = [[name, *_published(row, words)] for name, row in ilsvrc.PUBLISHED.items()]
    batches = sorted({batch for row in rows for _, batch in row.seconds})
    ours = [_ours(row, batch, words) for row in rows for batch in batches]
    machine = info.collect()["machine"]
    note = {
        "threads": counted(machine["threads"], "thread"),
        "error": max(row.error for row in rows),
        "keras": ilsvrc.keras_name() or words.ABSENT,
        "statistics": max(row.statistics for row in rows),
    }
    return "".join(
        [
            html.paragraph(words.ILSVRC),
            html.heading(words.PUBLISHED, 3),
            html.table(words.PUBLISHED_TABLE, published),
            html.heading(fill(words.OURS, words, machine=machine["cpu"]), 3),
            html.table(words.OURS_TABLE, ours),
            html.paragraph(fill(words.OURS_NOTE, words, **note), "soft"),
        ]
    )


def _published(row, words):
    accuracies, times = (row.top1, row.top5), (row.cpu_ms, row.gpu_ms)
    return [
        str(row.size_mb),
        *(number(accuracy, words, ".3f") for accuracy in accuracies),
        number(row.parameters, words, ","),
        str(row.depth),
        *(number(time, words, ".2f") for time in times),
    ]


def _ours(row, batch, words):
    def milliseconds(contender):
        seconds = row.seconds.get((contender, batch))
        if seconds is not None:
            return number(1e3 * seconds, words, ".1f")
        return words.ABSENT if contender == "keras" else escape(row.reasons.get(contender, "-"))

    ours, theirs = (row.seconds.get((contender, batch)) for contender in ("convkit", "torch"))
    cells = [f"{row.megabytes:.0f}", number(row.parameters, words, ","), number(row.gflops, words, ".1f"), str(batch)]
    ratio = html.ratio_bar(theirs / ours, words.DECIMAL) if ours else "-"
    return [row.name, *cells, milliseconds("convkit"), milliseconds("torch"), ratio, milliseconds("keras")]


def filters(result, words):
    image, names, layers, steps, alone, given = result
    answer, found = steps[-1].maps[0], steps[4].maps
    shapes = [
        [words.SHAPES[name], row + 1, column + 1, number(answer[row, column].item(), words, "g")]
        for (row, column), name in names.items()
    ]
    parts = "".join(f"<div>{grid(part[0])}</div>" for part in layers[1].filters)
    where = "".join(pictures.image(part, 150, limits=(0, found.max().item())) for part in found)
    blocks = [
        html.paragraph(words.DETECTOR),
        html.row(
            figure(pictures.image(image[0], 315, limits=(0, 10)), words.SCENE),
            figure(f'<div class="strip">{parts}</div>', words.PARTS),
        ),
        figure(f'<div class="strip">{where}</div>', words.PART_MAPS),
        html.row(
            figure(
                pictures.image(answer, 255, limits=(0, answer.max().item())),
                fill(words.ANSWER, words, count=int((answer > 0).sum())),
            ),
            html.table(words.SHAPES_TABLE, [list(map(str, row)) for row in shapes]),
        ),
    ]
    blocks += [html.heading(words.ALONE, 3), _steps(alone, words)]
    if given is not None:
        path, given_steps = given
        blocks += [html.heading(fill(words.CHAIN, words, path=path), 3), _steps(given_steps, words)]
    return "".join(blocks)


def step_name(name, words):
    """The name of a step of a chain, which ends in the layer's number, in the report's language."""
    kind, _, number = name.partition(" ")
    return f"{words.STEPS[kind]} {number}".strip()


def _steps(steps, words):
    """Every map of every step, in the order of the computation."""
    drawn = []
    for step in steps:
        name = step_name(step.name, words)
        names = [
            fill(words.STEP_CHANNEL, words, step=name, channel=channel) for channel in range(1, len(step.maps) + 1)
        ]
        captions = names if len(names) > 1 else [name]
        drawn += [html.ARROW] * bool(drawn)
        drawn += [
            figure(grid(values, decimal=words.DECIMAL), caption)
            for values, caption in zip(step.maps, captions, strict=True)
        ]
    return html.row(*drawn)


def denoise(result, words):
    model, count, shown = result
    size = sum(p.numel() for p in model.parameters())
    blocks = [html.paragraph(fill(words.DENOISE, words, parameters=size, count=count))]
    for picture in shown:
        captions = [
            fill(text, words, psnr=psnr)
            for text, psnr in zip(words.PICTURES, (0, picture.psnr_noisy, picture.psnr_cleaned), strict=True)
        ]
        versions = zip((picture.clean, picture.noisy, picture.cleaned), captions, strict=True)
        crops = [
            figure(pictures.image(image[:CROP, :CROP], CROP, limits=(0, 1)), caption) for image, caption in versions
        ]
        blocks.append(html.row(*crops))
    rows = [[p.name, *(number(v, words, ".1f") for v in (p.psnr_noisy, p.psnr_blurred, p.psnr_cleaned))] for p in shown]
    return "".join([*blocks, html.table(words.DENOISE_TABLE, rows)])
