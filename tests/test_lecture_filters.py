"""Exercise 2: chains of filters, step by step, and detectors of a pattern."""

import json
import math

import pytest
import torch

from convkit.lecture import chain, ear


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
    for pattern in (
        [[1, 0]],
        [[0, 1, 2]] * 3,
        [1, 0, 1],
        [[1, 0, 1], [1]],
        "ear",
        None,
        [[[1] * 3] * 3],
        [[math.nan] * 3] * 3,
    ):
        with pytest.raises(ValueError, match="detector: pattern must be a matrix of 0 and 1, at least 3x3"):
            chain.detector(pattern)
    with pytest.raises(ValueError, match="bright must be above dark, but got 1 and 1"):
        chain.detector(chain.EAR, dark=1, bright=1)
    for level in ("3", None, math.nan, math.inf, True):
        for name in ("dark", "bright"):
            with pytest.raises(ValueError, match=f"detector: {name} must be a finite number, but got {level!r}"):
                chain.detector(chain.EAR, **{name: level})


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


def test_a_chain_from_a_file_is_the_lectures(tmp_path):
    maps = ear.compute()
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


def test_an_image_with_other_values_is_refused_before_the_detector_fires_falsely(tmp_path):
    image = [[0, 9, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    plus = [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    assert chain.run(torch.tensor([image]).float(), chain.detector(plus))[-1].maps.any()  # though no plus is there
    (tmp_path / "plus.json").write_text(json.dumps({"image": image, "pattern": plus}))
    with pytest.raises(ValueError, match="at most dark, 0, or bright, 1, but row 1, column 2 of the image is 9"):
        chain.read(tmp_path / "plus.json")
    with pytest.raises(ValueError, match="must have 1 channel, but it has 2"):
        chain.check_image(torch.zeros(2, 4, 4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": [[1, 2], [3]]}, "expected sequence of length 2"),
        ({"image": "cat"}, "describes no chain of filters"),
        ({"layers": [{}]}, "there is no 'filters'"),
        ({"layers": [{"filters": ear.FILTERS, "pool": 2}]}, "but not pool"),
        ({"layers": [{"filters": ear.FILTERS, "stride": "2"}]}, "stride must be an integer of at least 1, but got '2'"),
        ({"layers": [{"filters": ear.FILTERS, "max_pool": "2"}]}, "max_pool must be an integer of at least 1"),
        ({"layers": [{"filters": ear.FILTERS, "padding": True}]}, "padding must be an integer of at least 0"),
        ({"layers": [{"filters": ear.FILTERS, "relu": "no"}]}, "relu must be true or false, but got 'no'"),
        ({"pattern": chain.EAR, "dark": "3"}, "dark must be a finite number, but got '3'"),
        ({"image": [[0] * 65]}, r"the image is \(1, 65\), but at most 64 a side"),
    ],
)
def test_a_bad_chain_is_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        chain.read(write_chain(tmp_path / "chain.json", **changes))
