"""convkit.train: it learns, scores as scikit-learn does, stops, keeps the best, and refuses what it cannot use."""

import csv
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset

pytest.importorskip("safetensors")
pytest.importorskip("tqdm")
pytest.importorskip("sklearn")

from sklearn import metrics

from convkit.models import mlp, small_cnn
from convkit.train import CheckpointError, Config, Metrics, Output, Trainer, checkpoint, evaluate, fit, run
from convkit.train.config import OPTIMIZERS, SCHEDULES, make_optimizer, make_schedule

QUIET = {"progress": False, "device": "cpu"}


def blobs(samples=60, classes=3, features=5):
    """Clouds of points around a centre for each class."""
    generator = torch.Generator().manual_seed(2)
    labels = torch.arange(samples) % classes
    centres = 3 * torch.randn(classes, features, generator=generator)
    return centres[labels] + torch.randn(samples, features, generator=generator), labels


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_and_precision_learns(optimizer, precision):
    model = mlp(5, [16], 3)
    config = Config(epochs=25, batch_size=16, lr=0.02, optimizer=optimizer, precision=precision, clip_norm=1.0, **QUIET)
    history = fit(model, blobs(), config=config)
    assert [row["epoch"] for row in history] == list(range(1, 26))
    assert history[-1]["train_loss"] < 0.2 < history[0]["train_loss"]
    assert evaluate(model, blobs(), config).values["accuracy"] > 0.95


def test_a_step_is_the_textbooks(monkeypatch):
    """Two epochs of SGD with momentum, weight decay and clipped gradients, against a loop written out."""
    inputs, labels = blobs()
    model, other = mlp(5, [4], 3), mlp(5, [4], 3)
    other.load_state_dict(model.state_dict())
    config = Config(epochs=2, batch_size=25, lr=0.1, optimizer="sgd", schedule="constant", clip_norm=0.5, **QUIET)
    trainer = Trainer(model, (inputs, labels), config=config)
    losses, orders = [], []
    for epoch in range(2):
        trainer.batches.epoch = epoch
        orders += list(trainer.batches)
        trainer.run_epoch(losses.append)
    assert [len(order) for order in orders] == [25, 25, 10] * 2
    assert sorted(orders[0] + orders[1] + orders[2]) == list(range(60))
    assert orders[:3] != orders[3:]
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1, momentum=0.9, weight_decay=config.weight_decay)
    for loss, order in zip(losses, orders, strict=True):
        optimizer.zero_grad()
        expected = functional.cross_entropy(other(inputs[order]), labels[order])
        expected.backward()
        nn.utils.clip_grad_norm_(other.parameters(), 0.5)
        optimizer.step()
        assert loss == pytest.approx(expected.item(), abs=1e-6)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("schedule", "first", "last"), [("constant", 1, 1), ("cosine", 1, 0), ("step", 1, 0.01), ("one-cycle", 0.04, 0)]
)
def test_schedules_over_a_run(schedule, first, last):
    assert schedule in SCHEDULES
    config = Config(lr=1.0, optimizer="sgd", schedule=schedule)
    optimizer = make_optimizer(config, [nn.Parameter(torch.zeros(1))])
    steps = make_schedule(config, optimizer, 30)
    rates = []
    for _ in range(30):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        steps.step()
    assert rates[0] == pytest.approx(first, abs=1e-3)
    assert rates[-1] == pytest.approx(last, abs=2e-2 if last != 0.01 else 1e-9)
    assert max(rates) <= 1.0
    assert max(rates) > 0.99


def test_regression():
    generator = torch.Generator().manual_seed(4)
    inputs = torch.randn(200, 3, generator=generator)
    targets = inputs @ torch.tensor([[1.0, 0.5], [-2.0, 0.0], [0.3, 1.0]]) + 0.7
    config = Config(epochs=60, batch_size=20, lr=0.05, loss="mse", **QUIET)
    model = mlp(3, [], 2)
    fit(model, (inputs, targets), config=config)
    values = evaluate(model, (inputs, targets), config).values
    assert values["r2"] > 0.999
    torch.testing.assert_close(model[0].bias.detach(), torch.full((2,), 0.7), atol=0.02, rtol=0)


def test_scores_are_scikit_learns():
    generator = torch.Generator().manual_seed(1)
    outputs, targets = torch.randn(70, 8, generator=generator), torch.randint(8, (70,), generator=generator)
    found = Metrics("cross_entropy", "cpu", confusion=True)
    for part in torch.arange(70).split(32):
        found.update(outputs[part], targets[part])
    values, labels = found.compute(), range(8)
    assert values["loss"] == pytest.approx(functional.cross_entropy(outputs, targets).item(), abs=1e-6)
    assert values["accuracy"] == pytest.approx(metrics.accuracy_score(targets, outputs.argmax(1)))
    assert values["top5"] == pytest.approx(metrics.top_k_accuracy_score(targets, outputs, k=5, labels=labels))
    assert found.confusion.tolist() == metrics.confusion_matrix(targets, outputs.argmax(1), labels=labels).tolist()

    outputs, targets = torch.randn(50, 1, generator=generator), torch.randn(50, generator=generator)
    found = Metrics("mse", "cpu")
    found.update(outputs[:20], targets[:20])
    found.update(outputs[20:], targets[20:])
    values = found.compute()
    assert values["loss"] == pytest.approx(metrics.mean_squared_error(targets, outputs[:, 0]), abs=1e-6)
    assert values["mae"] == pytest.approx(metrics.mean_absolute_error(targets, outputs[:, 0]), abs=1e-6)
    assert values["r2"] == pytest.approx(metrics.r2_score(targets, outputs[:, 0]), abs=1e-6)


def test_top5_needs_more_than_five_classes():
    found = Metrics("cross_entropy", "cpu")
    found.update(torch.randn(4, 5), torch.tensor([0, 1, 2, 3]))
    assert set(found.compute()) == {"loss", "accuracy"}


def test_evaluation_leaves_the_model_as_it_was():
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    model[1].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first = evaluate(model, blobs(), Config(**QUIET)).values
    assert evaluate(model, blobs(), Config(**QUIET)).values == first  # without dropout
    assert [module.training for module in model.modules()] == [True, True, False, True, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_stops_early_and_keeps_the_best():
    """Random labels are learned by heart, and the validation loss rises."""
    inputs, _ = blobs()
    labels = torch.randint(3, (60,), generator=torch.Generator().manual_seed(8))
    config = Config(epochs=200, batch_size=8, lr=0.02, patience=4, schedule="constant", **QUIET)
    model = mlp(5, [64], 3)
    history = fit(model, (inputs[:40], labels[:40]), (inputs[40:], labels[40:]), config)
    losses = [row["valid_loss"] for row in history]
    assert len(history) < 200
    assert len(history) == losses.index(min(losses)) + 1 + 4
    assert evaluate(model, (inputs[40:], labels[40:]), config).values["loss"] == pytest.approx(min(losses))


def test_files_of_a_run(tmp_path):
    pytest.importorskip("matplotlib")
    rows = []
    config = Config(epochs=3, batch_size=16, **QUIET)
    output = Output(tmp_path / "run", about={"classes": ["a", "b", "c"]}, report=rows.append)
    model = mlp(5, [4], 3)
    history = fit(model, blobs(), blobs(30), config, output)
    assert rows == history
    with open(tmp_path / "run" / "metrics.csv") as file:
        table = list(csv.DictReader(file))
    assert [float(row["valid_loss"]) for row in table] == [row["valid_loss"] for row in history]
    assert (tmp_path / "run" / "curves.png").read_bytes()[:4] == b"\x89PNG"
    from safetensors.torch import load_file

    weights = load_file(tmp_path / "run" / run.WEIGHTS)  # as anybody would read them
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
    state = checkpoint.load(tmp_path / "run" / run.WEIGHTS)
    assert state["about"]["classes"] == ["a", "b", "c"]
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "checkpoint.safetensors", "curves.png", "metrics.csv", "model.safetensors",
    }  # fmt: skip


def test_tensorboard(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = Config(epochs=4, batch_size=20, **QUIET)
    fit(mlp(5, [4], 3), blobs(), blobs(30), config, Output(tmp_path, tensorboard=True))
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert {"train/loss", "valid/loss", "valid/accuracy", "lr"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("train/loss")] == [3, 6, 9, 12]


def test_a_run_is_not_overwritten_and_a_finished_one_is_not_trained_again(tmp_path):
    config = Config(epochs=2, batch_size=16, **QUIET)
    history = fit(mlp(5, [4], 3), blobs(), None, config, tmp_path)
    files = {path: path.read_bytes() for path in tmp_path.glob("*.safetensors")}
    with pytest.raises(FileExistsError, match=r"checkpoint.safetensors is there already: resume it"):
        fit(mlp(5, [4], 3), blobs(), None, config, tmp_path)
    model = mlp(5, [4], 3)
    assert fit(model, blobs(), None, config, Output(tmp_path, resume=True)) == history
    assert {path: path.read_bytes() for path in files} == files


@pytest.fixture
def trained(tmp_path):
    """(path of a checkpoint, the config)."""
    config = Config(epochs=2, batch_size=16, **QUIET)
    fit(mlp(5, [4], 3), blobs(), None, config, tmp_path)
    return tmp_path / run.CHECKPOINT, config


def resume(path, config, *, data=None, model=None):
    return fit(model or mlp(5, [4], 3), data or blobs(), None, config, Output(path.parent, resume=True))


def test_every_damage_is_seen(trained):
    path, config = trained
    good = path.read_bytes()
    damages = {
        "cut": good[: len(good) // 2],
        "one byte short": good[:-1],
        "longer": good + b"x",
        "empty": b"",
        "no file of ours": b"hello",
        "huge header": b"\xff" * 8 + good[8:],
    }
    damages |= {f"bit {at}": good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in range(8, len(good), 499)}
    for name, content in damages.items():
        path.write_bytes(content)
        model = mlp(5, [4], 3)
        before = [p.clone() for p in model.parameters()]
        with pytest.raises(CheckpointError, match=r"checkpoint.safetensors"):
            resume(path, config, model=model)
        assert path.read_bytes() == content, name  # nothing was written over it
        assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)), name
    path.write_bytes(good)
    resume(path, config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": {"lr": 0.5}}, "is of another run: lr was 0.001, now it is 0.5"),
        ({"config": {"epochs": 3}}, "epochs was 2, now it is 3"),
        ({"data": blobs(61)}, r"data was 60 samples of \(5,\), .*now it is 61 samples"),
        ({"model": mlp(5, [6], 3)}, r"0.weight is \(4, 5\), in the model \(6, 5\)"),
        ({"model": mlp(5, [4, 3], 3)}, "has no 4.weight"),
        ({"model": mlp(5, [], 4)}, r"the model has no 2.weight, which .* holds"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(trained, change, message):
    path, _ = trained
    good = path.read_bytes()
    other = Config(**{"epochs": 2, "batch_size": 16, **QUIET, **change.get("config", {})})
    with pytest.raises(CheckpointError, match=message):
        resume(path, other, data=change.get("data"), model=change.get("model"))
    assert path.read_bytes() == good


def test_a_file_of_weights_is_no_checkpoint(tmp_path):
    from safetensors.torch import save_file

    save_file({"0.weight": torch.zeros(3)}, tmp_path / run.CHECKPOINT)
    with pytest.raises(CheckpointError, match="is no checkpoint of convkit"):
        resume(tmp_path / run.CHECKPOINT, Config(epochs=2, batch_size=16, **QUIET))


def test_weights_in_the_place_of_the_checkpoint(trained):
    path, config = trained
    path.write_bytes((path.parent / run.WEIGHTS).read_bytes())
    with pytest.raises(CheckpointError, match="is no state of a run"):
        resume(path, config)


def test_a_full_disk_leaves_the_good_file(trained, monkeypatch):
    path, _ = trained
    good = path.read_bytes()

    def no_space(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(path, {"model": torch.zeros(3)})
    assert path.read_bytes() == good
    assert list(path.parent.glob("*.partial")) == []


def test_checkpoints_hold_nested_states_exactly(tmp_path):
    shared = torch.arange(6.0)
    state = {
        "a": [1, 2.5, None, True, "text", (3, [4])],
        5: {"x": torch.tensor(0.1, dtype=torch.float64), "y": torch.zeros(0, 3), "z": torch.tensor([True, False])},
        "views": [shared[:3], shared[:3], torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)],
        "half": torch.tensor([1.5]).bfloat16(),
        "nan": float("inf"),
    }
    checkpoint.save(tmp_path / "x", state)
    first = (tmp_path / "x").read_bytes()
    found = checkpoint.load(tmp_path / "x")
    assert found["a"] == state["a"]
    assert isinstance(found["a"][5], tuple)
    assert found["nan"] == float("inf")
    assert list(found) == list(state)
    for key in state[5]:
        assert torch.equal(found[5][key], state[5][key])
        assert found[5][key].dtype == state[5][key].dtype
    assert all(torch.equal(a, b) for a, b in zip(found["views"], state["views"], strict=True))
    checkpoint.save(tmp_path / "x", state)
    assert (tmp_path / "x").read_bytes() == first
    with pytest.raises(TypeError, match=r"checkpoint: a.b is a set"):
        checkpoint.save(tmp_path / "x", {"a": {"b": {1}}})
    assert (tmp_path / "x").read_bytes() == first


INPUTS, LABELS = blobs()
SPOILT = INPUTS.index_fill(0, torch.tensor([7]), torch.nan)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ((INPUTS, LABELS + 1), ValueError, "targets must be from 0 to 2, but they are from 1 to 3"),
        ((INPUTS, LABELS.float()), ValueError, "torch.int64 of shape .*, but got torch.float32"),
        ((INPUTS, LABELS[:50]), ValueError, "train: got 60 inputs and 50 targets"),
        ((INPUTS[:0], LABELS[:0]), ValueError, "train: got 0 inputs"),
        ((SPOILT, LABELS), ValueError, "the input of sample 7 is not finite"),
        ((LABELS[:, None].repeat(1, 5), LABELS), ValueError, "inputs must be floating-point numbers"),
        (7, TypeError, "train must be a Dataset or a pair"),
    ],
)  # fmt: skip
def test_bad_data_is_refused(data, error, message):
    with pytest.raises(error, match=message):
        fit(mlp(5, [4], 3), data, config=Config(**QUIET))


def test_a_model_with_other_outputs_is_refused():
    with pytest.raises(ValueError, match=r"must return \(N, K\), but for one sample it returns \(1, 4, 6, 6\)"):
        fit(nn.Conv2d(1, 4, 3), (torch.randn(4, 1, 8, 8), torch.zeros(4).long()), config=Config(**QUIET))
    with pytest.raises(ValueError, match="targets must be 2 values for each sample"):
        fit(mlp(5, [], 2), (INPUTS, LABELS.float()), config=Config(loss="mse", **QUIET))


class Rows(Dataset):
    """A dataset that is no TensorDataset: its samples are seen when they are loaded."""

    def __init__(self, inputs, targets):
        self.inputs, self.targets = inputs, targets

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        return self.inputs[index], self.targets[index]


@pytest.mark.parametrize("workers", [0, 1])
def test_data_that_is_not_finite_is_named_not_taken_for_divergence(workers):
    config, values = Config(workers=workers, **QUIET), Config(loss="mse", **QUIET)
    for wrong in (Rows(SPOILT, LABELS), (SPOILT, LABELS)):
        with pytest.raises(ValueError, match=r"train: the input of sample 7 is not finite"):
            fit(mlp(5, [4], 3), wrong, config=config)
        with pytest.raises(ValueError, match=r"(valid|evaluate): the input of sample 7 is not finite"):
            fit(mlp(5, [4], 3), blobs(), wrong, config)
        with pytest.raises(ValueError, match=r"evaluate.*: the input of sample 7 is not finite"):
            evaluate(mlp(5, [4], 3), wrong, config)
    with pytest.raises(ValueError, match=r"train: the target of sample 7 is not finite"):
        fit(mlp(5, [4], 5), Rows(INPUTS, SPOILT), config=values)
    with pytest.raises(ValueError, match=r"train: the target of sample 7 is not finite"):
        fit(mlp(5, [4], 5), (INPUTS, SPOILT), config=values)


def test_a_run_that_diverges_says_so_and_keeps_its_last_good_files(tmp_path):
    model = mlp(5, [4], 3)
    config = Config(epochs=3, batch_size=60, lr=1e30, optimizer="sgd", schedule="constant", **QUIET)
    with pytest.raises(RuntimeError, match=r"the loss is nan in epoch .; a lower lr than 1e"):
        fit(model, blobs(), None, config, tmp_path)
    state = checkpoint.load(tmp_path / run.CHECKPOINT)
    assert len(state["history"]) == 1
    assert state["history"][0]["train_loss"] < 10


def test_broken_weights_replace_no_checkpoint(tmp_path):
    """The loss that a step reports is that of the weights before it."""
    model = mlp(5, [4], 3)
    output = Output(tmp_path, checkpoint_steps=1)

    def spoil(_, count=[0]):  # noqa: B006
        count[0] += 1
        if count[0] == 3:
            with torch.no_grad():
                model[2].weight[0, 0] = torch.inf

    with pytest.raises(RuntimeError, match=r"2.weight is no longer finite in epoch 1"):
        fit(model, blobs(), None, Config(batch_size=10, **QUIET), output, spoil)
    state = checkpoint.load(tmp_path / run.CHECKPOINT)
    assert state["batch"] == 2
    assert all(tensor.isfinite().all() for tensor in state["model"].values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "Config: epochs must be at least 1, but got 0"),
        ({"batch_size": -1}, "batch_size must be at least 1"),
        ({"lr": 0}, "lr must be positive, but got 0"),
        ({"lr": float("nan")}, "lr must be positive, but got nan"),
        ({"optimizer": "lbfgs"}, "optimizer must be one of adamw, adam, sgd, but got 'lbfgs'"),
        ({"precision": "int8"}, "precision must be one of float32, bfloat16, float16"),
        ({"seed": -1}, "seed must be at least 0, but got -1"),
        ({"seed": 1 << 31}, "seed must be below"),
        ({"patience": 2}, "patience needs validation data"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        fit(mlp(5, [4], 3), blobs(), config=Config(**{**QUIET, **settings}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 1.5}, "Config: epochs must be int, but got 1.5"),
        ({"batch_size": True}, "Config: batch_size must be int, but got True"),
        ({"lr": "x"}, "Config: lr must be float, but got 'x'"),
        ({"clip_norm": [1.0]}, r"Config: clip_norm must be float or None, but got \[1.0\]"),
        ({"optimizer": torch.optim.SGD}, "Config: optimizer must be str, but got <class"),
        ({"patience": "3"}, "Config: patience must be int or None, but got '3'"),
        ({"channels_last": 1}, "Config: channels_last must be bool, but got 1"),
        ({"device": 0}, "Config: device must be str or device or None, but got 0"),
    ],
)
def test_settings_of_another_kind_are_named(settings, message):
    with pytest.raises(TypeError, match=message):
        Config(**settings)


def test_what_is_no_setting_is_named():
    with pytest.raises(TypeError, match="Output: directory must be str or Path, but got 3"):
        fit(mlp(5, [4], 3), blobs(), config=Config(**QUIET), output=3)
    with pytest.raises(TypeError, match="Output: report must be Callable or None, but got 'print'"):
        run.Output("x", report="print")
    with pytest.raises(TypeError, match="train: config must be a Config, but got "):
        fit(mlp(5, [4], 3), blobs(), config={"lr": 1})


def test_a_device_may_be_an_object():
    config = Config(epochs=1, lr=1, device=torch.device("cpu"), progress=False)
    assert len(fit(mlp(5, [4], 3), blobs(), config=config)) == 1


def test_devices_that_are_not_there():
    for name in ("cuda:99", "mps", "tpu"):
        with pytest.raises(RuntimeError, match=f"device {name}"):
            fit(mlp(5, [4], 3), blobs(), config=Config(device=name, progress=False))


def test_images_are_channels_last_unless_told_otherwise():
    seen = []
    images, labels = torch.randn(8, 3, 8, 8), torch.arange(8) % 2
    for channels_last in (True, False):
        model = small_cnn(3, 2, 8)
        model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].stride(1) == 1))
        trainer = Trainer(model, (images, labels), config=Config(channels_last=channels_last, **QUIET))
        trainer.run_epoch()
        assert seen[-1] is channels_last
        assert (model[0].weight.stride(1) == 1) is channels_last


def test_the_same_seed_gives_the_same_run_and_another_one_another():
    runs = {}
    for seed in (0, 0, 1):
        torch.manual_seed(7)
        model = nn.Sequential(nn.Linear(5, 8), nn.Dropout(0.5), nn.Linear(8, 3))
        history = fit(model, blobs(), config=Config(epochs=2, seed=seed, batch_size=16, **QUIET))
        loss = history[-1]["train_loss"]
        assert runs.setdefault(seed, loss) == loss
    assert runs[0] != runs[1]


def test_importing_convkit_imports_none_of_the_extras():
    code = (
        "import sys, torch; before = set(sys.modules); import convkit, convkit.cli; convkit.cli.parser();"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}));"
        "print('convkit.train' in sys.modules or 'convkit.data' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names, training = done.stdout.splitlines()
    extras = {"sklearn", "safetensors", "matplotlib", "tqdm", "PIL", "av", "skimage", "mlxtend", "tensorboard"}
    assert not extras & set(names.split())
    assert training == "False"
