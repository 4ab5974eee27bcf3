"""Computes the chapters and writes the page."""

import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from convkit import _html as html
from convkit import info
from convkit.lecture import (
    chain,
    chapters,
    denoise,
    ear,
    english,
    experiments,
    ilsvrc,
    invariance,
    parameters,
    portuguese,
    tabular,
)

LANGUAGES = {"en": english, "pt": portuguese}


@dataclass(frozen=True)
class Settings:
    """What to compute with.

    Attributes:
        quick: fewer splits, samples, epochs and images at a time.
        csv, target, task: the table of exercise 1 and its column to predict; None: a data set inside scikit-learn.
        chain: JSON file with an image and a chain of filters for exercise 2, beside the package's own.
    """

    quick: bool = False
    csv: str | None = None
    target: str | None = None
    task: str | None = None
    chain: str | None = None


def _wine(settings):
    found = tabular.compare("wine", 3 if settings.quick else 20)
    return found, f"accuracy {found.convkit.mean():.3f}, scikit-learn {found.sklearn.mean():.3f}"


def _ear(settings):
    maps = ear.compute()
    checks = ear.check(maps)
    return maps, f"{len(checks)} of {len(checks)} results agree with the page"


def _parameters(settings):
    counts = parameters.compute()
    last = counts[-1]
    return counts, f"at {last.size} x {last.size}: MLP {last.narrow:,} or {last.rule_of_thumb:,}, CNN {last.cnn:,}"


def _invariance(settings):
    found = invariance.run(epochs=4, limit=1500) if settings.quick else invariance.run(epochs=8)
    accuracies = {name: values[3] for name, values in found.curves["translation"].items()}
    return found, "translation by 3 pixels: " + ", ".join(f"{name} {value:.3f}" for name, value in accuracies.items())


def _ilsvrc(settings):
    rows = ilsvrc.run((1,), 0.3) if settings.quick else ilsvrc.run()
    return rows, ", ".join(f"{row.name} {1e3 * row.seconds['convkit', 1]:.0f} ms" for row in rows)


def _table(settings):
    options = {"target": settings.target, "task": settings.task}
    found = tabular.compare(settings.csv or "breast-cancer", 3 if settings.quick else 10, **options)
    network = " -> ".join(map(str, found.suggestion.widths))
    return found, f"{network}: {found.convkit.mean():.3f}, scikit-learn {found.sklearn.mean():.3f}"


def _filters(settings):
    image, place, names = chain.scene()
    layers = chain.detector(chain.EAR, dark=3, bright=10)
    steps, (row, column) = chain.run(image, layers), place
    alone = chain.run(image[:, row : row + 5, column : column + 5], layers)
    fired = steps[-1].maps[0].nonzero().tolist()
    if fired != [list(place)]:
        raise RuntimeError(f"the detector fires at {fired}, not at {place} alone")
    given = None
    if settings.chain:
        given = settings.chain, chain.run(*chain.read(settings.chain))
    text = f"the detector fires at row {row + 1}, column {column + 1}, and nowhere else"
    return (image, names, layers, steps, alone, given), text + (f"\n{chain.as_text(given[1])}" if given else "")


def _denoise(settings):
    count, epochs = (480, 3) if settings.quick else (2000, 8)
    model, found = denoise.run(count, epochs)
    text = ", ".join(f"{p.name} {p.psnr_noisy:.1f} to {p.psnr_cleaned:.1f} dB" for p in found)
    return (model, count, found), text


# name -> (compute(settings) -> result and a line of text, result and words -> HTML), in the lecture's order
CHAPTERS = {
    "wine": (_wine, chapters.wine),
    "ear": (_ear, chapters.by_hand),
    "parameters": (_parameters, experiments.parameters),
    "invariance": (_invariance, experiments.invariance),
    "ilsvrc": (_ilsvrc, experiments.networks),
    "table": (_table, chapters.table),
    "filters": (_filters, experiments.filters),
    "denoise": (_denoise, experiments.denoise),
}


def _machine(words, run):
    found = info.collect()
    here = found["machine"]
    versions = f"convkit {found['convkit']}, torch {here['torch']}, Python {found['python']}"
    values = [here["cpu"], here["isa"], str(here["threads"]), versions, run]
    return html.table(None, [list(pair) for pair in zip(words.MACHINE, values, strict=True)], texts=2)


def write(output, names=tuple(CHAPTERS), language="en", settings=None):
    """Compute chapters and write ``output/index.html``; returns its path. A line for each chapter is printed.

    Args:
        output: directory, made if it is not there.
        names: of chapters, in this order.
        language: "en" or "pt".
        settings: :class:`Settings`.
    """
    settings, words = settings or Settings(), LANGUAGES[language]
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)  # before the work, so that a wrong path costs no minutes
    start = time.perf_counter()
    parts = [f"<h1>{words.PAGE}</h1>\n", html.paragraph(words.INTRODUCTION, "lead")]
    for number, name in enumerate(names, 1):
        compute, render = CHAPTERS[name]
        result, line = compute(settings)
        print(f"{name}: {line}", flush=True)
        parts += [html.heading(f"{number}. {words.TITLES[name]}"), render(result, words)]
        if name == "ilsvrc" and settings.quick:
            parts.append(html.paragraph(words.ROUGH, "soft"))
    seconds = time.perf_counter() - start
    run = words.RUN.format(date=date.today().isoformat(), seconds=seconds, quick=", --quick" if settings.quick else "")
    parts += [html.heading(f"{len(names) + 1}. {words.TITLES['machine']}"), _machine(words, run)]
    path = output / "index.html"
    path.write_text(html.page(words.PAGE, "".join(parts), words.LANGUAGE), encoding="utf-8")
    return path
