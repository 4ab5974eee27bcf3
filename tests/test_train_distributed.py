"""Two processes of ``torchrun`` train as one does with the same global batch."""

import json
import sys

import pytest
import torch

pytest.importorskip("safetensors")
pytest.importorskip("tqdm")

from convkit.models import mlp, small_cnn
from convkit.train import Config, distributed, evaluate, fit, processes
from convkit.train.batches import Shuffled
from tests import _training

STEPS, SAMPLES = 50, 83  # batches of 16: the last of each epoch has 3 samples, an uneven share for two processes
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
    config = Config(epochs=-(-STEPS // 6), batch_size=16, progress=False, device="cpu", **CASES[name])
    losses = []
    fit(model, data(name), data(name), config, on_step=losses.append)
    found = evaluate(model, data(name), config, confusion=name != "regression")
    return losses[:STEPS], found.values, None if found.confusion is None else found.confusion.tolist()


def main(path):
    with processes("cpu"):
        results = {name: train(name) for name in CASES}
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


def test_processes_share_every_batch(monkeypatch):
    monkeypatch.setattr(distributed, "size", lambda: 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        batches = Shuffled(29, 9, seed=1)
        assert len(batches) == 3  # the fourth would have two samples
        shares.append(list(batches))
    batches = [[index for share in batch for index in share] for batch in zip(*shares, strict=True)]
    assert [len(batch) for batch in batches] == [9, 9, 9]
    assert len({index for batch in batches for index in batch}) == 27
    with pytest.raises(ValueError, match="3 processes need as many samples in a batch, but batch_size is 2"):
        Shuffled(29, 2, seed=1)


if __name__ == "__main__":
    main(sys.argv[1])
