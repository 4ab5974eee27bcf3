"""Two processes of ``torchrun`` train as one does with the same global batch."""

import json
import sys

import pytest
import torch
from torch import nn

pytest.importorskip("safetensors")
pytest.importorskip("tqdm")

from convkit.models import mlp, small_cnn
from convkit.train import Config, Trainer, distributed, evaluate, fit, processes
from convkit.train.batches import Shuffled
from tests import _training

STEPS, SAMPLES, BATCH = 50, 76, 15  # uneven shares for two processes; a last batch of one sample, for one of them
CASES = {
    "cnn": {"optimizer": "sgd", "lr": 0.02, "clip_norm": 1.0, "schedule": "cosine"},
    "mlp": {"optimizer": "adamw", "lr": 0.02, "schedule": "one-cycle"},
    "regression": {"optimizer": "adam", "lr": 0.01, "loss": "mse"},
}


def data(name):
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(SAMPLES, *((1, 12, 12) if name == "cnn" else (20,)), generator=generator)
    if name == "regression":
        return inputs, inputs[:, :2] * inputs[:, 2:4]
    return inputs, torch.randint(7, (SAMPLES,), generator=generator)


def train(name):
    """(loss of each step, scores on the data, confusion matrix) of ``STEPS`` steps and the rest of their epoch."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = small_cnn(1, 7, 12) if name == "cnn" else mlp(20, [16], 2 if name == "regression" else 7)
    config = Config(epochs=-(-STEPS // 6), batch_size=BATCH, progress=False, device="cpu", **CASES[name])
    losses = []
    fit(model, data(name), data(name), config, on_step=losses.append)
    found = evaluate(model, data(name), config, confusion=name != "regression")
    return losses[:STEPS], found.values, None if found.confusion is None else found.confusion.tolist()


def train_with_running_statistics():
    """(state_dict of each process after an epoch, the weights kept as best, the validation losses)."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 8), nn.BatchNorm1d(8), nn.Linear(8, 7))
    config = Config(epochs=1, batch_size=BATCH, lr=0.05, progress=False, device="cpu")
    inputs, labels = data("mlp")
    trainer = Trainer(model, (inputs[:-2], labels[:-2]), data("mlp"), config)  # a share of one has no variance
    row = trainer.run_epoch()
    states = distributed.gather({name: tensor.tolist() for name, tensor in model.state_dict().items()})
    return states, {name: tensor.tolist() for name, tensor in trainer.best["weights"].items()}, row["valid_loss"]


def main(path):
    with processes("cpu"):
        results = {name: train(name) for name in CASES} | {"statistics": train_with_running_statistics()}
        assert distributed.size() == 2
        if distributed.rank() == 0:
            with open(path, "w") as file:
                json.dump(results, file)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    path = tmp_path_factory.mktemp("two") / "results.json"
    process = _training.launch(["-m", "tests.test_train_distributed", str(path)], processes=2)
    code, errors = _training.finish(process)
    assert code == 0, errors
    return json.loads(path.read_text())


@pytest.mark.parametrize("name", CASES)
def test_losses_of_two_processes_are_those_of_one(two, name):
    losses, scores, confusion = train(name)
    assert len(losses) == len(two[name][0]) == STEPS
    assert sum(losses[-12:]) < 0.95 * sum(losses[:12])  # it learns, and what it learns is the same
    assert max(abs(a - b) for a, b in zip(losses, two[name][0], strict=True)) < 1e-5
    assert two[name][1] == pytest.approx(scores, abs=1e-5)
    assert two[name][2] == confusion


def test_running_statistics_are_one_for_all_processes(two):
    """Each process sees other samples; what is evaluated, and kept as best, is the model of process 0."""
    states, best, loss = two["statistics"]
    assert states[0] == states[1] == best
    model = nn.Sequential(nn.Linear(20, 8), nn.BatchNorm1d(8), nn.Linear(8, 7))
    model.load_state_dict({name: torch.tensor(values) for name, values in best.items()})
    expected = evaluate(model, data("mlp"), Config(progress=False, device="cpu")).values["loss"]
    assert loss == pytest.approx(expected, abs=1e-6)


def test_processes_share_every_batch(monkeypatch):
    monkeypatch.setattr(distributed, "size", lambda: 3)
    counted, shares = [], []
    for rank in range(3):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        batches = Shuffled(29, 9, seed=1)
        assert len(batches) == 4
        shares.append(list(batches))
        own = [batches.share(batch) for batch in range(4)]
        assert [samples for samples, _ in own] == [9, 9, 9, 2]
        counted.append([batch[:count] for batch, (_, count) in zip(shares[-1], own, strict=True)])
    assert [len(batches[3]) for batches in counted] == [1, 1, 0]  # the last has two samples
    assert shares[2][3] == shares[0][3]  # something to compute on, which does not count
    seen = [index for batches in counted for batch in batches for index in batch]
    assert sorted(seen) == list(range(29))
    with pytest.raises(ValueError, match="3 processes need as many samples in a batch, but batch_size is 2"):
        Shuffled(29, 2, seed=1)


if __name__ == "__main__":
    main(sys.argv[1])
