"""The chapters of the report: a result and the words of a language in, HTML out."""

from html import escape

import torch
from sklearn.neural_network import MLPClassifier

from convkit import _html as html
from convkit import _pictures as pictures
from convkit.lecture import ear
from convkit.lecture.numbers import fill, number, percent

DEFAULT_RATE = MLPClassifier().learning_rate_init
grid, figure = pictures.number_grid, html.figure


def architecture(widths):
    return " → ".join(map(str, widths))


# Tables: the Wine example and exercise 1


def _scores(comparison, words):
    regression = not comparison.data.classes
    rows = []
    for name, scores in (("convkit", comparison.convkit), ("scikit-learn", comparison.sklearn)):
        values = [scores.mean(), scores.std(), scores.min(), scores.max()]
        cells = (
            [number(value, words, ".3f") for value in values]
            if regression
            else [percent(value, words) for value in values]
        )
        if not regression:
            cells[1] = fill(words.POINTS, words, value=100 * values[1])
        rows.append([name, *cells])
    return html.table(words.SCORES, rows) + html.paragraph(words.R2 if regression else words.ACCURACY, "soft")


def _suggestion(suggestion, words):
    network = f"{architecture(suggestion.widths)}"
    reasons = [fill(words.REASONS[name], words, **numbers) for name, numbers in suggestion.facts]
    items = "".join(f"<li>{escape(reason)}</li>" for reason in reasons)
    return html.heading(fill(words.RULE, words, network=network), 3) + f"<ul>{items}</ul>\n"


def wine(comparison, words):
    counts = {"lecture": comparison.parameters_of_lecture, "whole": comparison.suggestion.parameters}
    return "".join(
        [
            html.paragraph(
                fill(words.WINE, words, splits=len(comparison.convkit), rate=comparison.rate, default=DEFAULT_RATE)
            ),
            _suggestion(comparison.suggestion, words),
            _scores(comparison, words),
            html.paragraph(fill(words.LECTURE_COUNT, words, **counts), "soft"),
        ]
    )


def table(comparison, words):
    classes = comparison.data.classes
    about = {
        "source": escape(comparison.data.name),
        "samples": comparison.samples,
        "features": comparison.suggestion.widths[0],
        "outputs": fill(words.CLASSES, words, count=len(classes)) if classes else words.ONE_VALUE,
        "splits": len(comparison.convkit),
        "rate": comparison.rate,
    }
    texts = [fill(words.NOTES[note.kind], words, **note.values) for note in comparison.data.notes]
    notes = "".join(html.paragraph(escape(text), "soft") for text in texts)
    return "".join(
        [
            html.paragraph(fill(words.TABLE, words, **about)),
            notes,
            _suggestion(comparison.suggestion, words),
            _scores(comparison, words),
        ]
    )


# The cat's ear


def _first_layer(maps, channel, words):
    names = words.MAPS
    marked = [(ear.MISPRINT.row, ear.MISPRINT.column)] if channel == ear.MISPRINT.channel else []
    return html.heading(words.FILTERS[channel], 3) + html.row(
        figure(grid(maps.image[0]), names["image"]),
        figure(grid(maps.filters[channel]), names["filter"].format(number=channel + 1)),
        html.ARROW,
        figure(grid(maps.convolved[channel]), names["convolution"]),
        html.ARROW,
        figure(grid(maps.rectified[channel]), names["relu"]),
        html.ARROW,
        figure(grid(maps.pooled[channel], marked), names["pooled"]),
    )


def _one_cell(maps, words, row=2, column=1):
    names = words.MAPS
    window, products = ear.window_products(maps, row, column)
    return html.heading(fill(words.ONE_CELL, words, row=row + 1, column=column + 1), 3) + html.row(
        figure(grid(window), names["window"]),
        figure(grid(maps.filters[0]), names["filter"].format(number=1)),
        html.ARROW,
        figure(grid(products), names["products"]),
        html.ARROW,
        figure(grid(products.sum().reshape(1, 1)), names["sum"]),
    )


def verdict(second_map, words):
    score, probability = ear.classify(second_map)
    return fill(
        words.SCORE, words, score=score, verdict=words.VERDICTS[score > 0], probability=percent(probability, words)
    )


def _second_layer(maps, version, channels, result, words):
    names = words.MAPS
    marked = [(ear.MISPRINT.row, ear.MISPRINT.column)]
    return html.row(
        figure(grid(channels[0]), names["channel"].format(number=1)),
        figure(grid(channels[1], marked), names["pooled_channel"].format(number=2, version=version)),
        html.ARROW,
        figure(grid(maps.second_filter[0]), names["second_filter"].format(number=1)),
        figure(grid(maps.second_filter[1]), names["second_filter"].format(number=2)),
        html.ARROW,
        figure(grid(result[0]), names["map"]),
        html.ARROW,
        figure(grid(result[0].relu()), names["relu"]),
    ) + html.paragraph(verdict(result, words))


def by_hand(maps, words):
    network, image = ear.network(), maps.image[None]
    with torch.no_grad():
        others = [network(other)[0, 0].item() for other in (image.flip(2), image.mT, torch.full_like(image, 10.0))]
    answers = ", ".join(f"{name} {percent(other, words)}" for name, other in zip(words.OTHERS, others, strict=True))
    strides = [
        figure(grid(values[0]), fill(words.STRIDE, words, stride=stride, height=values.shape[1], width=values.shape[2]))
        for stride, values in maps.by_stride.items()
    ]
    misprint = {"printed": ear.MISPRINT.printed, "correct": ear.MISPRINT.correct}
    return "".join(
        [
            html.paragraph(words.BY_HAND),
            _one_cell(maps, words),
            _first_layer(maps, 0, words),
            _first_layer(maps, 1, words),
            html.paragraph(fill(words.MISPRINT, words, **misprint)),
            html.heading(words.SECOND_LAYER, 3),
            html.paragraph(fill(words.CLASSIFICATION, words, threshold=ear.THRESHOLD)),
            _second_layer(maps, words.AS_PRINTED, maps.printed_pooled, maps.second_from_printed, words),
            _second_layer(maps, words.CORRECT, maps.pooled, maps.second_from_correct, words),
            html.paragraph(fill(words.UPSIDE_DOWN, words, answers=answers), "soft"),
            html.heading(words.STRIDES, 3),
            html.row(*strides),
        ]
    )
