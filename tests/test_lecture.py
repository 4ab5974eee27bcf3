"""Every number of the lecture, and what its experiments show."""

import math
import sys
import types

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
from convkit import models
from convkit.lecture import (
    denoise,
    ear,
    ilsvrc,
    invariance,
    parameters,
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


def write_csv(path, rows=400, features=12):
    """Three kinds of points around three centres, with a column of texts; ``size`` follows from the first features."""
    generator = np.random.default_rng(0)
    kinds = generator.integers(0, 3, rows)
    points = 1.2 * generator.normal(size=(3, features))[kinds] + generator.normal(size=(rows, features))
    sizes = 2 * points[:, 0] + np.abs(points[:, 1]) + 0.2 * generator.normal(size=rows)
    lines = [";".join([*(f"x{i}" for i in range(features)), "letter", "size", "kind"])]
    for row, (point, size, kind) in enumerate(zip(points, sizes, kinds, strict=True)):
        numbers = ";".join(f"{value:.3f}" for value in point)
        lines.append(f"{numbers};{'abc'[row % 3]};{size:.3f};{('red', 'green', 'blue')[kind]}")
    path.write_text("\n".join(lines))


def test_exercise_1_on_a_csv_file(tmp_path):
    write_csv(tmp_path / "points.csv")
    found = tabular.compare(tmp_path / "points.csv", 5)
    assert found.data.classes == ("blue", "green", "red")
    assert found.suggestion.widths == (16, 8, 4, 3)  # 13 numbers and three letters
    assert found.convkit.mean() >= found.sklearn.mean() - 0.02
    assert found.convkit.mean() > 0.95
    assert found.rate == tabular.CLASSIFICATION_RATE
    regression = tabular.compare(tmp_path / "points.csv", 3, target="size")
    assert regression.suggestion.widths[-1] == 1
    assert regression.convkit.mean() >= regression.sklearn.mean() - 0.02
    assert regression.convkit.mean() > 0.93
    assert regression.rate == tabular.REGRESSION_RATE
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
    moved = invariance.transform(images, translate=(2, 1))
    torch.testing.assert_close(moved[..., 1:, 2:], images[..., :-1, :-2], **same)
    assert moved[..., 0, :].abs().max() < 1e-5  # black comes in
    torch.testing.assert_close(invariance.transform(images, angle=90.0), images.rot90(1, (2, 3)), **same)
    smaller = invariance.transform(torch.ones(1, 1, 9, 9), scale=1 / 3)
    torch.testing.assert_close(smaller[0, 0, 3:6, 3:6], torch.ones(3, 3), **same)
    assert smaller.sum() == pytest.approx(9, abs=0.1)


def test_pooling_helps_against_shifts():
    robustness = invariance.run(epochs=4, limit=1000)
    shift = robustness.curves["translation"]
    assert list(shift) == ["mlp", "cnn", "cnn_pooled"]
    assert all(values[0] > 0.8 for values in shift.values())
    for name, values in shift.items():
        assert values[0] > values[2] > values[4], name
    lost = {name: robustness.lost(name) for name in shift}
    assert lost["mlp"] == shift["mlp"][0] - shift["mlp"][3]
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
