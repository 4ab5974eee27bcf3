"""convkit bench: the suites are what they say, wrong results get no time, and what is summed up is right."""

import math
import re
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from bench import readme
from convkit.benchmark import calls, machine, plan, rows, suites, summary
from convkit.benchmark.measure import Case, measure
from convkit.benchmark.rows import Row
from convkit.benchmark.suites import FUSED, Layer, Pool
from convkit.cli import run as convkit_command
from convkit.testing import memory
from convkit.testing.timing import compare
from tests._tree import HOME

CONV = Layer("test", "conv", "conv2d", 2, 6, (9, 8), 1, 10, (3, 2), (2, 1), (1, 0))
GROUPED = replace(CONV, name="grouped", in_channels=16, out_channels=24, groups=8)
BLOCK = replace(CONV, name="block", op=FUSED, pool=Pool((2, 2), (2, 2), (0, 0)))
POOL = Layer("test", "pool", "max_pool2d", 2, 5, (9, 8), 1, pool=Pool((3, 3), (2, 2), (1, 1)))
RELU = Layer("test", "relu", "relu", 2, 5, (9, 8), 1)
LIMITS = machine.Limits(1, 1e9, (machine.Level("L1", 1000, 4e9, 2e9), machine.Level("memory", 1 << 62, 2e8, 1e8)))


@pytest.mark.parametrize(
    ("suite", "million_products"),
    [("vgg16", 15347), ("resnet50", 4087), ("mobilenet_v2", 299), ("xception", 8355), ("alexnet", 656)],
)
def test_suites_have_the_products_of_their_networks(suite, million_products):
    found = sum(layer.operations * layer.repeat for layer in suites.read(suite)) / 2
    assert round(found / 1e6) == million_products


@pytest.mark.parametrize("suite", suites.names())
def test_output_sizes_are_torchs(suite):
    for layer in suites.read(suite):
        output = torch.empty(layer.input_size, device="meta")
        if layer.op in suites.CONVOLUTIONS:
            weight = torch.empty(layer.weight_size, device="meta")
            output = functional.conv2d(output, weight, None, layer.stride, layer.padding, 1, layer.groups)
        if layer.pool:
            output = functional.max_pool2d(output, layer.pool.kernel, layer.pool.stride, layer.pool.padding)
        assert tuple(output.shape) == layer.output_size, layer.name


def test_a_suite_that_is_none():
    with pytest.raises(ValueError, match=r"no suite 'vgg17'; there are alexnet, .*vgg16"):
        suites.read("vgg17")


@pytest.mark.parametrize("layer", [CONV, GROUPED, BLOCK, POOL, RELU], ids=lambda layer: layer.name)
def test_errors_are_small_where_right_and_large_where_wrong(layer):
    for direction in calls.DIRECTIONS[layer.op]:
        torch.manual_seed(0)
        prepared = calls.prepare(layer, direction, torch.float32)
        assert [(c.who, c.format) for c in prepared.contenders] == [
            (who, format) for format in calls.FORMATS for who in ("convkit", "torch")
        ]
        for contender in prepared.contenders:
            result = contender()
            assert prepared.error(result) <= prepared.bound(result, "direct"), (direction, contender)
            wrong = result + 1e-3 if isinstance(result, torch.Tensor) else (result[0] + 1e-3, *result[1:])
            assert prepared.error(wrong) > prepared.bound(wrong, "direct")


def test_rotated_copies_exceed_the_cache_and_take_turns():
    seen = []
    contender = calls.Contender(
        "convkit", "NCHW", lambda x, y: seen.append(x.data_ptr()), (torch.ones(10), torch.ones(6))
    )
    rotated = contender.rotated(64 * 5 - 1)
    for _ in range(7):
        rotated()
    assert len(set(seen)) == 5
    assert seen[:2] == seen[5:]


def test_measured_rows():
    found = measure(Case(CONV, "forward", "float32", 1), LIMITS, 1000, 0.02)
    assert [(row.contender, row.state) for row in found] == [("convkit", "ok"), ("torch", "ok")] * 2
    for row in found:
        assert 0 < row.warm_low <= row.warm <= row.warm_high
        assert row.cold > 0
        assert row.algorithm == ("direct" if row.contender == "convkit" else "")
        assert row.gflop == pytest.approx(2 * 2 * 10 * 5 * 7 * 6 * 6 / 1e9)
        shortest = LIMITS.shortest_time(1e9 * row.gflop, 1e6 * row.megabytes)
        assert row.share == pytest.approx(1e3 * shortest / row.warm)


def test_a_wrong_or_refused_result_is_not_timed(monkeypatch):
    right = calls.convkit.relu
    monkeypatch.setattr(calls.convkit, "relu", lambda x: right(x) + 0.5)
    wrong, *_ = measure(Case(RELU, "forward", "float32", 1), LIMITS, 1000, 0.02)
    assert wrong.warm is None
    assert wrong.state == "wrong: an error of 0.5 is above 0"
    monkeypatch.setattr(calls.convkit, "relu", lambda x: (_ for _ in ()).throw(NotImplementedError("relu: not for X")))
    refused, *_ = measure(Case(RELU, "forward", "float32", 1), LIMITS, 1000, 0.02)
    assert refused.warm is None
    assert refused.state == "relu: not for X"


def test_a_slow_call_is_sampled_once():
    count = []
    found = compare({"slow": lambda: count.append(sum(range(10**6)))}, seconds=1e-4)
    assert found["slow"].samples == len(count) == 1


def test_shortest_time():
    assert LIMITS.shortest_time(2e9, 10) == 2
    assert LIMITS.shortest_time(0, 1000) == 1000 / 2e9
    assert LIMITS.shortest_time(0, 1000, cold=True) == LIMITS.shortest_time(0, 1001) - 1e-8 == 1e-5


def test_measured_limits_are_those_of_a_machine():
    limits = machine.measure_limits(1)
    assert 1e8 < limits.peak < 1e13
    assert [level.size for level in limits.levels] == sorted(level.size for level in limits.levels)
    assert all(1e7 < level.read < 1e13 and 1e7 < level.copy < 1e13 for level in limits.levels)


def row(contender, format, warm, layer="a", repeat=1, cold=None, **more):
    work = ("vgg16", layer, "conv2d", "1x1", repeat, "forward", "normal", "float32", 1)
    return Row(*work, contender, format, warm=warm, cold=cold, **more)


ROWS = [
    row("convkit", "NCHW", 2.0, repeat=3, cold=2.0),
    row("torch", "NCHW", 8.0, repeat=3, cold=8.0),
    row("convkit", "channels_last", 4.0, repeat=3, cold=4.0),
    row("torch", "channels_last", 4.0, repeat=3, cold=4.0),
    row("convkit", "NCHW", 4.0, "b", cold=4.0),
    row("torch", "NCHW", 2.0, "b", cold=2.0),
    row("convkit", "channels_last", 8.0, "b", cold=8.0),
    row("torch", "channels_last", None, "b", state="refused"),
]


def test_ratios_means_and_totals():
    found = summary.summarise(ROWS)
    assert len(found) == 1
    assert found[0].by_format["NCHW"] == pytest.approx(math.sqrt(4 * 0.5))
    assert found[0].by_format["channels_last"] == pytest.approx(1)  # of the layer that has both
    assert found[0].best == pytest.approx(math.sqrt(2 * 0.5))
    assert (found[0].worst, found[0].worst_layer) == (0.5, "b")
    assert found[0].total == pytest.approx((3 * 4 + 2) / (3 * 2 + 4))
    assert summary.layer_table(ROWS).splitlines()[1].startswith("b ")  # the loss first
    assert rows.network_ratio(rows.compare(ROWS), "channels_last") is None


def test_csv_and_back(tmp_path):
    rows.write_csv(tmp_path / "rows.csv", ROWS)
    assert rows.read_csv(tmp_path / "rows.csv") == ROWS


def test_the_default_plan_covers_what_it_should():
    cases = plan.layer_cases(plan.Options(threads=(1, 2)))
    forward = {
        (c.layer.suite, c.layer.name, c.threads) for c in cases if (c.direction, c.dtype) == ("forward", "float32")
    }
    assert forward == {(s, layer.name, n) for s in suites.names() for layer in suites.read(s) for n in (1, 2)}
    assert {c.layer.suite for c in cases if c.direction == "backward_weight"} == {"vgg16", "resnet50", "small"}
    assert {c.layer.suite for c in cases if c.dtype == "bfloat16"} == {"vgg16"}
    assert {c.data for c in cases if c.layer.op == "max_pool2d"} == {"normal", "ReLU'd"}
    assert {c.network for c in plan.network_cases(plan.Options()) if c.peers} == {"vgg16", "mobilenet_v2", "small_cnn"}


def test_options_restrict_the_plan():
    one = plan.Options(suites=("alexnet",), threads=(2,), dtypes=("bfloat16",), directions=("backward_input",))
    assert {(c.layer.suite, c.direction, c.dtype, c.threads) for c in plan.layer_cases(one)} == {
        ("alexnet", "backward_input", "bfloat16", 2)
    }
    assert plan.network_cases(one) == []
    assert not plan.memory_cases(one)
    peers = plan.network_cases(plan.Options(suites=("networks",), against=("torch", "ncnn")))
    assert {case.peers for case in peers} == {("ncnn",), ()}


def test_the_command_writes_its_files(tmp_path, capsys):
    html = tmp_path / "report" / "index.html"
    arguments = ["--quick", "--suite", "relu", "scaling", "--threads", "1", "--minutes", "0.2", "--html", str(html)]
    assert convkit_command(["bench", *arguments, "--json", str(tmp_path / "rows.json")]) == 0
    printed = capsys.readouterr().out
    assert "relu, forward, float32, 1 thread: milliseconds, warm" in printed
    found = rows.read_csv(html.parent / "rows.csv")
    assert {r.suite for r in found} == {"relu", "scaling"}
    assert all(r.cpu and r.torch == torch.__version__ and r.convkit and r.date for r in found)
    page = html.read_text()
    assert "Where convkit loses" in page
    assert not re.search(r'(src|href)="(?!data:)', page)  # it needs no other file
    assert (html.parent / "roofline-1.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "rows.json").stat().st_size > 100


def test_a_wrong_number_of_threads(capsys):
    assert convkit_command(["bench", "--threads", "0"]) == 1
    assert "--threads must be at least 1, but got 0" in capsys.readouterr().err


def test_allocated_peak_counts_what_lives_at_once():
    def step():
        for _ in range(3):
            torch.empty(1 << 20, dtype=torch.uint8)
        both = torch.empty(3 << 20, dtype=torch.uint8), torch.empty(1 << 20, dtype=torch.uint8)
        del both

    assert memory.allocated_peak(step) == 4 << 20


def test_the_readme_shows_the_measured_table():
    text = (HOME / "README.md").read_text(encoding="utf-8")
    assert readme.BLOCK.search(text)
    assert readme.updated(text) == text, "run: python -m bench.readme"
