"""The page that ``convkit lecture`` writes: its words in two languages, what a browser makes of it, and the command."""

import json
import re
import shutil
import string
import subprocess
from html import escape

import pytest
import torch

pytest.importorskip("sklearn")
pytest.importorskip("skorch")
pytest.importorskip("mlxtend")
pytest.importorskip("skimage")
pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

from convkit import cli
from convkit.commands import lecture as command
from convkit.lecture import denoise, ear, english, ilsvrc, invariance, portuguese, report, tabular
from tests.test_lecture import write_csv

CHAIN = {"image": ear.IMAGE, "layers": [{"filters": ear.FILTERS, "padding": 1, "max_pool": 2}]}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)  # for so small networks threads cost more than they save


def places(text):
    return {field for _, field, _, _ in string.Formatter().parse(text) if field}


def test_both_languages_say_the_same():
    def names(words):
        return {name for name in vars(words) if name.isupper() and not name.startswith("_")}

    assert names(english) == names(portuguese)
    for name in names(english):
        first, second = getattr(english, name), getattr(portuguese, name)
        assert type(first) is type(second), name
        if isinstance(first, dict):
            assert list(first) == list(second), name
            first, second = first.values(), second.values()
        pairs = [(first, second)] if isinstance(first, str) else zip(first, second, strict=True)
        for ours, theirs in pairs:
            for a, b in zip(*((x,) if isinstance(x, str) else x for x in (ours, theirs)), strict=True):
                assert places(a) == places(b), name
                assert len(a) < 40 or a != b, name


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The whole report in both languages; what takes long is computed from few samples."""
    torch.set_num_threads(1)
    row = ilsvrc.describe("xception")
    row.seconds = {("convkit", 1): 0.1, ("torch", 1): 0.12, ("torch", 32): 3.0}
    row.reasons = {"keras": "not installed"}
    wine, (model, pictures) = tabular.compare("wine", 2), denoise.run(32, 1)
    digits = invariance.run(epochs=1, limit=128)
    results = {"wine": wine, "table": wine, "invariance": digits, "ilsvrc": [row], "denoise": (model, 32, pictures)}

    def known(name):
        return lambda settings: (results[name], "computed")

    chapters = {
        name: (known(name) if name in results else compute, render)
        for name, (compute, render) in report.CHAPTERS.items()
    }
    folder = tmp_path_factory.mktemp("lecture")
    (folder / "chain.json").write_text(json.dumps(CHAIN))
    settings = report.Settings(chain=str(folder / "chain.json"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "CHAPTERS", chapters)
        return {lang: report.write(folder / lang, tuple(chapters), lang, settings) for lang in ("en", "pt")}


@pytest.mark.parametrize("language", ["en", "pt"])
def test_report_is_self_contained_and_complete(pages, language):
    page = pages[language].read_text(encoding="utf-8")
    words = report.LANGUAGES[language]
    assert f'<html lang="{language}">' in page
    assert "http" not in page
    assert re.findall(r'<(?:link|script|iframe)|src="(?!data:)|url\((?!#)|@import', page) == []
    for number, name in enumerate(report.CHAPTERS, 1):
        assert f"<h2>{number}. {escape(words.TITLES[name])}</h2>" in page
    numbers = ["22,910,480", "109.42", "0.713", "<td class=n>100.0<", "1.20x", "+6.5", ">0.7<", " 0.01;", "0.001"]
    if language == "pt":
        numbers = [text.translate(str.maketrans(",.", ".,")) for text in numbers]
    for text in ("148", "163", "&minus;70", "126", words.ABSENT, words.MAPS["window"], *numbers):
        assert text in page, text
    ilsvrc = {
        "en": "1000 classes, 1.2 million training images, 150 thousand test images",
        "pt": "1000 classes, 1,2 milhão de imagens de treino, 150 mil de teste",
    }
    assert ilsvrc[language] in " ".join(page.split())
    for tag in ("table", "svg", "figure", "div", "p", "tr", "td", "ul", "li"):
        assert len(re.findall(rf"<{tag}[ >]", page)) == page.count(f"</{tag}>"), tag
    assert "{" not in re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", page, flags=re.DOTALL)


def test_portuguese_numbers_have_a_decimal_comma(pages):
    """Nothing that people read on that page is written the English way; versions and names of files are no numbers."""
    found = {}
    for language, path in pages.items():
        texts = re.sub(r"<style>.*?</style>|<title>.*?</title>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        texts = re.sub(r"<table>(?!.*<table>).*?</table>", "", texts, flags=re.DOTALL)  # the last: the machine's
        texts = [text.replace(str(path.parent.parent), "") for text in re.findall(r">([^<>]+)<", texts)]
        found[language] = re.findall(r"\d+[.,][\d.,]*\d", " ".join(texts))
    assert found["en"] == [text.translate(str.maketrans(",.", ".,")) for text in found["pt"]]
    assert len(found["pt"]) > 100


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# What the browser made of the page, written where --dump-dom shows it.
PROBE = """<script>addEventListener("load", () => {
  const images = [...document.images], charts = [...document.querySelectorAll("svg")];
  document.documentElement.dataset.found = JSON.stringify({
    broken: images.filter(i => !i.complete || i.naturalWidth === 0).length, images: images.length,
    empty: charts.filter(s => s.getBoundingClientRect().width < 20 || s.getBoundingClientRect().height < 20).length,
    charts: charts.length, overflow: document.documentElement.scrollWidth - innerWidth,
    height: document.body.scrollHeight, headings: document.querySelectorAll("h2").length});
});</script>"""


@pytest.mark.parametrize("width", [1100, 420])
def test_report_in_a_browser(pages, tmp_path, width):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    path = tmp_path / "page.html"
    path.write_text(pages["pt"].read_text(encoding="utf-8").replace("</body>", PROBE + "</body>"), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu"]
    options += [f"--window-size={width},900", f"--user-data-dir={tmp_path}/profile"]
    done = subprocess.run([browser, *options, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=120)
    found = re.search(r'data-found="([^"]*)"', done.stdout)
    assert found, done.stderr[-2000:]
    found = json.loads(found.group(1).replace("&quot;", '"'))
    assert found["broken"] == found["empty"] == 0
    assert found["images"] >= 25
    assert found["charts"] >= 40
    assert found["headings"] == 9
    assert found["overflow"] <= 0
    assert found["height"] > 4000


@pytest.mark.parametrize("language", ["en", "pt"])
def test_exercise_1_on_a_csv_file(tmp_path, capsys, language):
    """From the file to the page: its name, its columns, the proposed network, R² of both, in the page's language."""
    path = tmp_path / "a & b.csv"
    write_csv(path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1].replace(lines[1].split(";")[3], "", 1), *lines[2:]]))
    options = ["--csv", str(path), "--target", "size", "--quick", "--lang", language, "--output", str(tmp_path / "out")]
    assert cli.run(["lecture", "table", *options]) == 0
    printed = capsys.readouterr().out
    found = re.search(r"table: 18 -> 8 -> 4 -> 1: ([\d.]+), scikit-learn ([\d.]+)", printed)
    page, words = (tmp_path / "out" / "index.html").read_text(encoding="utf-8"), report.LANGUAGES[language]
    decimal = words.DECIMAL
    for score in found.groups():  # R² of each
        assert f"<td class=n>{score.replace('.', decimal)}</td>" in page
    assert "a &amp; b.csv: 400 " in page
    assert words.R2 in page
    assert "18 → 8 → 4 → 1" in page
    assert f"0{decimal}003, " in page  # the rate
    notes = {
        "en": ("column x3: missing values, taken for the median: 1", "column kind: a feature for each text, 3 in all"),
        "pt": (
            "coluna x3: valores ausentes, substituídos pela mediana: 1",
            "coluna kind: um atributo para cada texto, 3 ao todo",
        ),
    }
    assert all(note in page for note in notes[language])


def test_command(tmp_path, capsys):
    assert list(report.CHAPTERS) == list(command.CHAPTERS)
    output, path = tmp_path / "out", tmp_path / "chain.json"
    path.write_text(json.dumps(CHAIN))
    arguments = ["lecture", "filters", "ear", "--lang", "pt", "--chain", str(path), "--output", str(output)]
    assert cli.run(arguments) == 0
    printed = capsys.readouterr().out
    assert "ear: 7 of 7 results agree with the page" in printed
    assert "the detector fires at row 2, column 9, and nowhere else" in printed
    assert "max-pooling 1, channel 2:\n   7  4  0\n" in printed
    assert "<h2>1. Exercício 2" in (output / "index.html").read_text(encoding="utf-8")
    for arguments, message in (
        (["cat"], "there is no chapter 'cat'"),
        (["ear", "--csv", "a.csv"], "--csv is for the chapter table"),
        (["--target", "x"], "--target names a column of a table"),
        (["--task", "regression"], "--task is for a table: give --csv FILE"),
        (["filters", "--chain", str(tmp_path / "none.json")], "No such file"),
        (["table", "--csv", str(tmp_path / "none.csv")], "there is no file"),
    ):
        assert cli.run(["lecture", *arguments, "--output", str(tmp_path / "other")]) == 1
        assert message in capsys.readouterr().err
