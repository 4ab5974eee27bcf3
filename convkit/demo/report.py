"""Runs every step of the demo and writes the page."""

import os
import time
from datetime import date
from pathlib import Path

from convkit import _html as html
from convkit import info
from convkit._text import counted
from convkit.demo import chapters, digits, prose, timings
from convkit.lecture import ear, tabular


def write(output, quick=False):
    """Run the demo and write ``output/index.html``; returns its path.

    Args:
        output: directory, made if it is not there.
        quick: fewer splits, images and epochs, and smaller ops.
    """
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)  # before the work, so that a wrong path costs no minutes
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    start = time.perf_counter()
    maps = ear.compute()
    checks = ear.check(maps)
    print(f"The lecture's convolution by hand: {len(checks)} of {len(checks)} results agree with the page", flush=True)
    wine_result = tabular.compare("wine", 3 if quick else 20)
    print(f"Wine: accuracy {wine_result.convkit.mean():.3f}, scikit-learn {wine_result.sklearn.mean():.3f}", flush=True)
    data = digits.load(limit=1200 if quick else None)
    runs = digits.train(data, epochs=3 if quick else 8)
    digits.measure_memory(runs, data.images.shape[-1])
    for name, result in runs.items():
        print(
            f"Digits, {name}: accuracy {result.accuracies[-1]:.3f}, {result.seconds_per_epoch:.2f} s per epoch",
            flush=True,
        )
    rows = timings.run(quick)
    seconds = time.perf_counter() - start
    run = f"{date.today().isoformat()}, {seconds:.0f} s{', --quick' if quick else ''}; all seeds are fixed"

    found = info.collect()
    threads = counted(found["machine"]["threads"], "thread")
    parts = [
        f"<h1>{prose.TITLE}</h1>\n",
        html.paragraph(prose.INTRODUCTION, "lead"),
        chapters.summary(checks, wine_result, runs, rows),
        chapters.by_hand(maps),
        chapters.wine(wine_result),
        chapters.digits(data, runs, threads),
        chapters.timings(rows, threads),
        chapters.machine(found, run, load),
    ]
    path = output / "index.html"
    path.write_text(html.page(prose.TITLE, "".join(parts)), encoding="utf-8")
    return path
