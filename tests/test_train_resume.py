"""Runs killed with SIGKILL end with the same bits as a run that was left alone."""

import random
import signal
import time

import pytest
import torch

pytest.importorskip("safetensors")
pytest.importorskip("tqdm")

from convkit.train import Config, Trainer, checkpoint, run
from convkit.train.config import OPTIMIZERS, SCHEDULES
from tests import _training
from tests._training import Noisy, differences, network, pictures, states


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    assert _training.finish(_training.start(directory))[0] == 0
    return states(directory)


def assert_same(directory, reference):
    state, weights = states(directory)
    assert differences(state, reference[0]) == []
    assert weights == reference[1]
    assert not list(directory.glob("*.partial"))


def killed(directory, **request):
    code, errors = _training.finish(_training.start(directory, **request))
    assert code == -signal.SIGKILL, errors


def test_killed_in_the_middle_of_steps_and_of_files(tmp_path, reference):
    """In one run after the other: in a step, before and after a file takes its place, with half a file written."""
    for moment in (["step", 1], ["half", 1], ["step", 4], ["before", 4], ["half", 2], ["after", 3], ["after", 1]):
        killed(tmp_path, kill=moment)
    assert len(checkpoint.load(tmp_path / run.CHECKPOINT)["history"]) in (1, 2)
    assert _training.finish(_training.start(tmp_path))[0] == 0
    assert_same(tmp_path, reference)


def test_killed_at_random_moments(tmp_path):
    """With a loss scaler, momentum and one-cycle."""
    settings = {"precision": "float16", "optimizer": "sgd", "schedule": "one-cycle", "clip_norm": 1.0}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert _training.finish(_training.start(whole, **settings))[0] == 0
    clock = random.Random(0)
    path, kills = parts / run.CHECKPOINT, 0
    while kills < 4:
        before = path.stat().st_mtime_ns if path.exists() else None
        process = _training.start(parts, **settings)
        while process.poll() is None and (not path.exists() or path.stat().st_mtime_ns == before):
            time.sleep(0.0005)
        time.sleep(clock.random() * 0.02)
        process.kill()
        if _training.finish(process)[0] == 0:
            break  # it was faster
        kills += 1
    assert kills >= 2
    assert _training.finish(_training.start(parts, **settings))[0] == 0
    assert_same(parts, states(whole))


def test_two_processes_killed_between_steps(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert _training.finish(_training.start(whole, processes=2))[0] == 0
    code, _ = _training.finish(_training.start(parts, processes=2, kill=["step", 8]))
    assert code != 0
    code, errors = _training.finish(_training.start(parts))
    assert code != 0
    assert "is of another run: processes was 2, now it is 1" in errors
    assert _training.finish(_training.start(parts, processes=2))[0] == 0
    assert_same(parts, states(whole))


def config(**settings):
    return Config(**{"epochs": 2, "batch_size": 16, "progress": False, "device": "cpu", "lr": 0.01, **settings})


def clockless(trainer):
    return _training.without_seconds(trainer.state_dict())


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_state_continues_bit_for_bit(tmp_path, optimizer, schedule, precision):
    settings = config(optimizer=optimizer, schedule=schedule, precision=precision, clip_norm=1.0)

    def make():
        return Trainer(network(), Noisy(), pictures(20), settings)

    whole = make()
    whole.run_epoch()
    whole.run_epoch()
    first = make()

    def stop(_):
        if first.batch == 2:
            raise Interrupted

    first.run_epoch()
    with pytest.raises(Interrupted):
        first.run_epoch(stop)
    checkpoint.save(tmp_path / "state", first.state_dict())
    torch.rand(7)  # whatever happens between
    second = make()
    second.load_state_dict(checkpoint.load(tmp_path / "state"))
    for parameter, values in second.optimizer.state.items():
        assert {v.stride() for v in values.values() if v.shape == parameter.shape} <= {parameter.stride()}
    assert (second.epoch, second.batch) == (1, 2)
    second.run_epoch()
    assert differences(clockless(whole), clockless(second)) == []


def test_without_its_state_a_part_gives_other_bits(tmp_path):
    """The comparison above sees each part of the state."""
    for part in ("optimizer", "schedule", "scaler", "generators", "sums"):
        settings = config(precision="float16", optimizer="sgd")
        first, whole = (Trainer(network(), Noisy(), pictures(20), settings) for _ in range(2))
        whole.run_epoch()

        def stop(_, trainer=first):
            if trainer.batch == 2:
                raise Interrupted

        with pytest.raises(Interrupted):
            first.run_epoch(stop)
        state = first.state_dict()
        second = Trainer(network(), Noisy(), pictures(20), settings)
        second.load_state_dict({**state, part: second.state_dict()[part]})
        second.run_epoch()
        assert differences(clockless(whole), clockless(second)), part
