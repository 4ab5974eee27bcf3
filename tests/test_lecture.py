"""Every number of the lecture, its experiments and exercises, and the page that ``convkit lecture`` writes."""

import json
import math
import re
import shutil
import string
import subprocess
import sys
import types
from html import escape

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")
pytest.importorskip("skorch")
pytest.importorskip("mlxtend")
pytest.importorskip("skimage")
pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

import convkit
from convkit import cli, models
from convkit.commands import lecture as command
from convkit.lecture import (
    chain,
    denoise,
    ear,
    english,
    ilsvrc,
    invariance,
    parameters,
    portuguese,
    report,
    tabular,
)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)  # for so small networks threads cost more than they save


FILTER_2_MAP = [
    [3, 7, -13, -4, -6],
    [7, -14, 4, -29, -4],
    [-17, -13, -30, 18, -26],
    [-3, -26, -9, -20, 11],
    [-13, 1, -6, -13, -7],
]


def convolve_by_hand(channels, filters, stride=1):
    """Zero padding 1, 3x3, in Python integers: (channels, rows, columns) lists to a list of rows."""
    height, width = len(channels[0]), len(channels[0][0])

    def at(c, y, x):
        return channels[c][y][x] if 0 <= y < height and 0 <= x < width else 0

    taps = [(c, i, j) for c in range(len(channels)) for i in range(3) for j in range(3)]
    return [
        [sum(filters[c][i][j] * at(c, y + i - 1, x + j - 1) for c, i, j in taps) for x in range(0, width, stride)]
        for y in range(0, height, stride)
    ]


@pytest.fixture(scope="module")
def maps():
    return ear.compute()


def test_first_layer_has_the_numbers_of_the_page(maps):
    assert maps.convolved[0].tolist() == ear.FIRST_MAP == convolve_by_hand([ear.IMAGE], ear.FILTERS[:1])
    assert maps.convolved[1].tolist() == FILTER_2_MAP == convolve_by_hand([ear.IMAGE], ear.FILTERS[1:])
    assert maps.rectified[0].tolist() == [[max(0, v) for v in row] for row in ear.FIRST_MAP]
    assert maps.pooled.tolist() == [[[3, 10, 10], [21, 0, 0], [0, 1, 0]], [[7, 4, 0], [0, 18, 11], [1, 0, 0]]]


def test_second_layer_from_the_printed_and_from_the_correct_channels(maps):
    assert maps.second_from_printed[0].tolist() == [[-43, -70, -39], [7, -70, -60], [-41, -50, -30]]
    assert maps.second_from_correct[0].tolist() == convolve_by_hand(ear.POOLED, ear.SECOND_FILTER)
    assert maps.second_from_correct[0].tolist() == [[-49, -64, -33], [13, -64, -54], [-41, -50, -30]]


def test_classification_layer_says_ear(maps):
    for second_map, score in ((maps.second_from_printed, 6.5), (maps.second_from_correct, 12.5)):
        assert ear.classify(second_map) == (score, pytest.approx(1 / (1 + math.exp(-score)), rel=1e-5))
    network, image = ear.network(), maps.image[None]
    assert network(image)[0, 0].item() == ear.classify(maps.second_from_correct)[1]
    assert network(image).sum().item() == pytest.approx(1)
    for other in (image.flip(2), image.mT, torch.full_like(image, 10.0), torch.zeros_like(image)):
        assert network(other)[0, 0] < 0.5


def test_one_cell_is_the_sum_of_its_nine_products(maps):
    window, products = ear.window_products(maps, 2, 1)
    assert window.tolist() == [[0, 0, 10], [0, 10, 3], [10, 3, 3]]
    assert products.sum() == 21 == maps.convolved[0, 2, 1]
    for row, column in ((0, 0), (4, 4), (0, 3)):
        assert ear.window_products(maps, row, column)[1].sum() == maps.convolved[0, row, column]


def test_the_misprint_is_the_one_cell_that_differs(maps):
    differs = maps.pooled != maps.printed_pooled
    assert differs.nonzero().tolist() == [[1, 0, 1]]
    assert (maps.pooled[1, 0, 1], maps.printed_pooled[1, 0, 1]) == (4, 10)
    assert max(FILTER_2_MAP[row][column] for row in (0, 1) for column in (2, 3)) == 4


@pytest.mark.parametrize(("stride", "size"), [(1, 5), (2, 3), (3, 2)])
def test_stride(maps, stride, size):
    assert maps.by_stride[stride].shape == (1, size, size)
    assert maps.by_stride[stride][0].tolist() == convolve_by_hand([ear.IMAGE], ear.FILTERS[:1], stride)


def test_check_names_what_differs(maps):
    assert len(ear.check(maps)) == 7
    maps.pooled[0, 0, 0] += 1
    with pytest.raises(RuntimeError, match="pooled channel 1: convkit computes"):
        ear.check(maps)
    maps.pooled[0, 0, 0] -= 1


def test_wine_is_as_accurate_as_scikit_learns_network_over_20_splits():
    wine = tabular.compare("wine", 20)
    assert wine.suggestion.widths == (13, 8, 4, 3)
    assert (wine.parameters_of_lecture, wine.suggestion.parameters) == (148, 163)
    assert wine.samples == 178
    assert len(wine.convkit) == len(wine.sklearn) == 20
    assert wine.convkit.mean() >= wine.sklearn.mean() - 0.01
    assert wine.convkit.mean() > 0.95
    assert 0 < wine.convkit.std() < 0.05


def write_csv(path, rows=120):
    """Three kinds of points around corners, with a column of texts."""
    generator = np.random.default_rng(0)
    kinds = generator.integers(0, 3, rows)
    points = 6 * np.array([[0, 0], [0, 1], [1, 0]])[kinds] + generator.normal(size=(rows, 2))
    lines = ["x;y;letter;kind"]
    for row, ((x, y), kind) in enumerate(zip(points, kinds, strict=True)):
        lines.append(f"{x:.3f};{y:.3f};{'abc'[row % 3]};{('red', 'green', 'blue')[kind]}")
    path.write_text("\n".join(lines))


def test_exercise_1_on_a_csv_file(tmp_path):
    write_csv(tmp_path / "points.csv")
    found = tabular.compare(tmp_path / "points.csv", 4)
    assert found.data.classes == ("blue", "green", "red")
    assert found.suggestion.widths == (5, 4, 2, 3)  # x, y and three letters
    assert found.convkit.max() > 0.95  # with so few neurons, some starts lose one: then two classes look the same
    assert found.convkit.mean() > found.sklearn.mean() - 0.15
    regression = tabular.compare(tmp_path / "points.csv", 1, target="x", task="regression")
    assert regression.suggestion.widths[-1] == 1
    assert regression.convkit.mean() > 0.3
    with pytest.raises(ValueError, match=r"digits is no table: its samples are of size \(1, 8, 8\)"):
        tabular.compare("digits", 1)


def test_parameters_of_an_mlp_explode():
    for found in parameters.compute():
        inputs = 3 * found.size**2
        half = 2 ** round(math.log2(inputs / 2))
        assert found.inputs == inputs
        assert found.rule_of_thumb == half * (inputs + 1) + half // 2 * (half + 1) + 10 * (half // 2 + 1)
        assert found.narrow == 100 * (inputs + 1) + 10 * 101
        assert found.convolutions == 16 * 28 + 32 * 145
        assert found.cnn == found.convolutions + 10 * (32 * (found.size // 4) ** 2 + 1)
    assert found.size == 224
    assert found.rule_of_thumb > 1e10


def test_max_pooling_divides_the_values_by_4():
    x = torch.rand(1, 3, 28, 28)
    assert convkit.max_pool2d(x, 2).numel() * 4 == x.numel()


def test_transformations():
    images = torch.rand(2, 1, 9, 9)
    same = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(invariance.transform(images), images, **same)
    moved = invariance.transform(images, shift=(2, 1))
    torch.testing.assert_close(moved[..., 1:, 2:], images[..., :-1, :-2], **same)
    assert moved[..., 0, :].abs().max() < 1e-5  # black comes in
    torch.testing.assert_close(invariance.transform(images, angle=90.0), images.rot90(1, (2, 3)), **same)
    smaller = invariance.transform(torch.ones(1, 1, 9, 9), factor=1 / 3)
    torch.testing.assert_close(smaller[0, 0, 3:6, 3:6], torch.ones(3, 3), **same)
    assert smaller.sum() == pytest.approx(9, abs=0.1)


def test_pooling_helps_against_shifts():
    robustness = invariance.run(epochs=4, limit=1000)
    shift = robustness.curves["shift"]
    assert list(shift) == ["mlp", "cnn", "cnn_pooled"]
    assert all(values[0] > 0.8 for values in shift.values())
    for name, values in shift.items():
        assert values[0] > values[2] > values[4], name
    lost = {name: values[0] - values[3] for name, values in shift.items()}
    assert lost["cnn_pooled"] < lost["cnn"]
    assert lost["cnn_pooled"] < lost["mlp"]
    for experiment, curves in robustness.curves.items():
        assert all(len(values) == len(robustness.amounts[experiment]) for values in curves.values())
    unchanged = robustness.curves["scale"]["mlp"][robustness.amounts["scale"].index(1.0)]
    assert unchanged == shift["mlp"][0] == robustness.curves["rotation"]["mlp"][0]
    assert robustness.parameters["mlp"] == 784 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10
    assert robustness.parameters["cnn_pooled"] == 20_490


def test_the_published_table_is_the_lectures_and_ours_has_its_parameters():
    lines = {
        "xception": (88, 0.790, 0.945, 22_910_480, 126, 109.42, 8.06),
        "vgg16": (528, 0.713, 0.901, 138_357_544, 23, 69.50, 4.16),
        "vgg19": (549, 0.713, 0.900, 143_667_240, 26, 84.75, 4.38),
    }
    assert {name: tuple(vars(row).values()) for name, row in ilsvrc.PUBLISHED.items()} == lines
    for name, published in ilsvrc.PUBLISHED.items():
        row = ilsvrc.describe(name)
        assert row.parameters == published.parameters
        assert abs(row.megabytes - published.size_mb) < 1
    assert ilsvrc.describe("xception").trainable == 22_855_952


@pytest.fixture
def small_network(monkeypatch):
    """A small network in the place of VGG16."""

    def build(**options):
        return models.small_cnn(3, 7, 16, **options)

    monkeypatch.setattr(ilsvrc, "models", types.SimpleNamespace(vgg16=build, summary=models.summary))
    monkeypatch.setitem(sys.modules, "keras", None)


def test_networks_are_timed_beside_torch_and_keras_is_named_absent(small_network):
    [row] = ilsvrc.run((1, 4), 0.02, ("vgg16",))
    assert set(row.seconds) == {(contender, batch) for contender in ("convkit", "torch") for batch in (1, 4)}
    assert all(seconds > 0 for seconds in row.seconds.values())
    assert row.error < 1e-6
    assert row.reasons == {"keras": "not installed"}
    assert ilsvrc.keras_name() is None


def test_a_wrong_network_gets_no_time(small_network, monkeypatch):
    def wrong(model):
        return (lambda x: model(x) * 1.001), None

    monkeypatch.setattr(convkit, "optimize", wrong)
    [row] = ilsvrc.run((1,), 0.01, ("vgg16",))
    assert {contender for contender, _ in row.seconds} == {"torch"}
    assert row.reasons["convkit"] == "wrong: a relative error of 0.001"


def windows(image, height, width):
    """(rows, columns, height, width): what lies under a window at each place."""
    return image.unfold(0, height, 1).unfold(1, width, 1)


def test_a_detector_fires_on_its_pattern_alone_among_all_3x3_images():
    images = torch.tensor([[i >> bit & 1 for bit in range(9)] for i in range(512)]).float().reshape(512, 3, 3)
    for index in (0, 1, 68, 170, 273, 511):
        layers = chain.detector(images[index])
        fired = [i for i, image in enumerate(images) if chain.run(image[None], layers)[-1].maps.item() > 0]
        assert fired == [index]


@pytest.mark.parametrize("size", [(3, 4), (4, 6), (5, 5), (6, 3)])
def test_a_detector_fires_exactly_where_the_pattern_is(size):
    generator = torch.Generator().manual_seed(0)
    pattern = torch.randint(2, size, generator=generator).float()
    image = torch.randint(2, (20, 24), generator=generator).float()
    for row, column in ((0, 0), (9, 11), (20 - size[0], 24 - size[1])):
        image[row : row + size[0], column : column + size[1]] = pattern
    expected = (windows(image, *size) == pattern).all(-1).all(-1)
    assert expected.sum() >= 3
    grey = torch.where(image > 0, 10.0, torch.randint(4, image.shape, generator=generator).float())
    answer = chain.run(grey[None], chain.detector(pattern, dark=3, bright=10))[-1].maps[0]
    assert torch.equal(answer, 7.0 * expected)


def test_the_scene_has_one_ear():
    image, (row, column), names = chain.scene()
    assert names[row, column] == "ear"
    assert torch.equal(image[0, row : row + 5, column : column + 5], 10 * torch.tensor(chain.EAR))
    answer = chain.run(image, chain.detector(chain.EAR, dark=3, bright=10))[-1].maps[0]
    assert answer.nonzero().tolist() == [[row, column]]


def test_detector_refuses_what_is_no_pattern():
    for pattern in ([[1, 0]], [[0, 1, 2]] * 3, [1, 0, 1]):
        with pytest.raises(ValueError, match="detector: pattern must be a matrix of 0 and 1, at least 3x3"):
            chain.detector(pattern)
    with pytest.raises(ValueError, match="bright must be above dark, but got 1 and 1"):
        chain.detector(chain.EAR, dark=1, bright=1)


EAR_CHAIN = {
    "image": ear.IMAGE,
    "layers": [
        {"filters": ear.FILTERS, "padding": 1, "max_pool": 2},
        {"filters": [ear.SECOND_FILTER], "padding": 1, "bias": [1], "relu": False},
    ],
}


def write_chain(path, **changes):
    path.write_text(json.dumps(EAR_CHAIN | changes))
    return path


def test_a_chain_from_a_file_is_the_lectures(tmp_path, maps):
    steps = chain.run(*chain.read(write_chain(tmp_path / "chain.json")))
    names = ["image", "convolution 1", "ReLU 1", "max-pooling 1", "convolution 2"]
    assert [step.name for step in steps] == names
    expected = (maps.image, maps.convolved, maps.rectified, maps.pooled, maps.second_from_correct + 1)
    assert all(torch.equal(step.maps, known) for step, known in zip(steps, expected, strict=True))
    text = chain.as_text(steps)
    assert "max-pooling 1, channel 2:\n   7  4  0\n   0 18 11\n   1  0  0" in text


def test_a_file_may_ask_for_the_detector_of_a_pattern(tmp_path):
    slope = {"image": ear.IMAGE, "pattern": [[0, 0, 1], [0, 1, 0], [1, 0, 0]], "dark": 3, "bright": 10}
    (tmp_path / "slope.json").write_text(json.dumps(slope))
    answer = chain.run(*chain.read(tmp_path / "slope.json"))[-1].maps
    assert answer.tolist() == [[[0, 0, 0], [7, 0, 0], [0, 0, 0]]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": [[1, 2], [3]]}, "expected sequence of length 2"),
        ({"image": "cat"}, "describes no chain of filters"),
        ({"layers": [{}]}, "there is no 'filters'"),
        ({"layers": [{"filters": ear.FILTERS, "pool": 2}]}, "but not pool"),
        ({"image": [[0] * 65]}, r"the image is \(1, 65\), but at most 64 a side"),
    ],
)
def test_a_bad_chain_is_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        chain.read(write_chain(tmp_path / "chain.json", **changes))


def test_psnr():
    clean = torch.full((4, 4), 0.5)
    assert denoise.psnr(clean + 0.1, clean) == pytest.approx(20, abs=1e-4)
    assert denoise.psnr(clean + 0.01, clean) == pytest.approx(40, abs=1e-3)
    assert denoise.psnr(clean + 9, clean) == pytest.approx(-20 * math.log10(0.5), abs=1e-4)  # at most white


def test_denoiser_takes_out_noise():
    _, pictures = denoise.run(480, 3)
    assert not set(denoise.TRAINING) & set(denoise.TESTS)
    image = torch.rand(2, 1, 9, 12)
    assert torch.equal(denoise.Denoiser()(image), image)  # before training
    for picture in pictures:
        assert picture.psnr_noisy < 20.6
        assert picture.psnr_cleaned > picture.psnr_noisy + 5
        assert picture.psnr_cleaned > picture.psnr_blurred
        assert picture.cleaned.shape == picture.clean.shape


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
    settings = report.Settings(chain=str(write_chain(folder / "chain.json")))
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
    for text in ("148", "163", "&minus;70", "22,910,480", "126", "109.42", words.ABSENT, words.MAPS["window"], "0.713"):
        assert text in page, text
    for tag in ("table", "svg", "figure", "div", "p", "tr", "td", "ul", "li"):
        assert len(re.findall(rf"<{tag}[ >]", page)) == page.count(f"</{tag}>"), tag
    assert "{" not in re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", page, flags=re.DOTALL)


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


def test_command(tmp_path, capsys):
    assert list(report.CHAPTERS) == list(command.CHAPTERS)
    output, path = tmp_path / "out", write_chain(tmp_path / "chain.json")
    arguments = ["lecture", "filters", "ear", "--lang", "pt", "--chain", str(path), "--output", str(output)]
    assert cli.run(arguments) == 0
    printed = capsys.readouterr().out
    assert "ear: 7 of 7 results agree with the page" in printed
    assert "the detector fires at row 2, column 9, and nowhere else" in printed
    assert "convolution 2:\n  -48 -63 -32" in printed
    assert "<h2>1. Exercício 2" in (output / "index.html").read_text(encoding="utf-8")
    for arguments, message in (
        (["cat"], "there is no chapter 'cat'"),
        (["ear", "--csv", "a.csv"], "--csv is for the chapter table"),
        (["--target", "x"], "--target names a column of a table"),
        (["filters", "--chain", str(tmp_path / "none.json")], "No such file"),
        (["table", "--csv", str(tmp_path / "none.csv")], "there is no file"),
    ):
        assert cli.run(["lecture", *arguments, "--output", str(tmp_path / "other")]) == 1
        assert message in capsys.readouterr().err
