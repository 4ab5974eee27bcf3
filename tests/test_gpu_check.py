"""bench.gpu_check where there is no GPU: its plan, its processes and their time limits, its CSV and its table."""

import csv
import os
import sys
import time
from pathlib import Path

import pytest
import torch

from bench import gpu_check, gpu_layers, gpu_table
from bench.gpu_check import Step
from tests._tree import ROOT


def python(code, limit=20, name="step", **options):
    return Step(name, [sys.executable, "-c", code], limit, **options)


def test_the_plan_ends_in_time_and_every_step_knows_what_it_needs():
    stages = gpu_check.plan("python", "rows.csv", "compute-sanitizer")
    assert sum(max(step.limit for step in stage) for stage in stages) < gpu_check.TOTAL_SECONDS
    names = [step.name for stage in stages for step in stage]
    assert len(set(names)) == len(names)
    before = [""]
    for stage in stages:
        assert all(step.needs in before for step in stage)
        before += [step.name for step in stage]
    assert {"memcheck", "racecheck"} <= set(names)


def test_what_is_not_wanted_is_not_in_the_plan():
    names = {step.name for stage in gpu_check.plan("python", "rows.csv", None, build=False) for step in stage}
    assert names == {"build ceilings", "ceilings", "tests", "convkit", "cudnn"}


def test_what_the_plan_runs_is_there():
    for stage in gpu_check.plan(sys.executable, "rows.csv", "compute-sanitizer"):
        for part in (str(part) for step in stage for part in step.command):
            if part.endswith((".py", ".cu")):
                assert (ROOT / part).is_file(), part
    assert (ROOT / "bench" / "gpu_measure.py").is_file()


def test_a_step_reports_its_code_and_what_it_printed():
    passed = gpu_check.run_step(python("import os; print(os.environ['WORD'])", environment={"WORD": "seen"}))
    assert (passed.state, passed.output) == ("passed", "seen\n")
    failed = gpu_check.run_step(python("import sys; print('why', file=sys.stderr); sys.exit(7)"))
    assert (failed.state, failed.output) == ("failed (7)", "why\n")


def test_a_step_past_its_limit_is_killed_with_its_children(tmp_path):
    pid = tmp_path / "pid"
    child = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    code = f"import subprocess, sys; print('begun', flush=True); subprocess.run([sys.executable, '-c', {child!r}])"
    start = time.monotonic()
    outcome = gpu_check.run_step(python(code, limit=3))
    assert outcome.state == "ran past its limit"
    assert "begun" in outcome.output
    assert time.monotonic() - start < 30
    for _ in range(100):
        try:
            os.kill(int(pid.read_text()), 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{pid.read_text()}/stat").read_text().split()[2] == "Z":  # its parent, init, has not looked yet
            return
        time.sleep(0.1)
    pytest.fail("the child lives")


def test_steps_whose_need_failed_are_left_out():
    stages = [
        [python("import sys; sys.exit(1)", name="build")],
        [python("print('not here')", name="tests", needs="build"), python("print('here')", name="other")],
    ]
    said = []
    outcomes = gpu_check.run_plan(stages, said.append)
    assert [outcome.state for outcome in outcomes] == ["failed (1)", "left out: build failed (1)", "passed"]
    assert outcomes[1].output == ""
    assert len(said) == 3


def test_ceilings_are_read_from_what_the_program_prints():
    assert gpu_check.read_ceilings("noise\ncopy,4012.5\nffma,50.25\nbad,x\n") == {"copy": 4012.5, "ffma": 50.25}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line(capsys):
    assert gpu_check.main() == gpu_check.NO_GPU
    assert capsys.readouterr().out == f"gpu_check: nothing to measure: torch {torch.__version__} sees no GPU\n"


@pytest.mark.parametrize("who", ["cudnn", "convkit"])
def test_cases_are_complete_and_the_most_telling_come_first(who):
    cases = gpu_layers.cases(who)
    assert len(set(cases)) == len(cases)
    auto = {(c.layer, c.precision, c.format, c.call) for c in cases if c.algorithm == "auto"}
    assert len(auto) == len(gpu_layers.LAYERS) * 4 * 2 * 6 + 6 * 2 * 2
    calls = [*gpu_layers.BOUND_BY_MEMORY, *gpu_layers.CALLS]
    assert [case.call for case in cases] == sorted((c.call for c in cases), key=calls.index)
    assert all(case.precision == "ieee" for case in cases if case.algorithm != "auto")


def test_a_layer_knows_its_work():
    layer = gpu_layers.Layer("x", 2, 8, 9, 6, 3, stride=2, groups=2)
    input, weight = torch.zeros(2, 8, 9, 9), torch.zeros(6, 4, 3, 3)
    output = torch.nn.functional.conv2d(input, weight, stride=2, padding=1, groups=2)
    assert layer.output_size == output.shape[-1]
    assert layer.operations == 2 * output.numel() * weight[0].numel()
    assert layer.bytes == input.numel() + weight.numel() + output.numel()


def test_a_call_that_memory_bounds_knows_its_bytes():
    layer = gpu_layers.Layer("x", 2, 8, 9, 8, 3, stride=2, groups=8)
    image = 2 * 8 * 9 * 9
    assert layer.output_size == torch.nn.functional.max_pool2d(torch.zeros(1, 1, 9, 9), 3, 2, 1).shape[-1] == 5
    pooled = 2 * 8 * 5 * 5

    def bytes_of(call, precision="ieee"):
        return gpu_layers.Case(layer, precision, "NCHW", call).bytes

    assert bytes_of("max_pool2d") == 4 * (image + pooled)
    assert bytes_of("max_pool2d_backward", "bfloat16") == 2 * (image + pooled) + pooled
    assert bytes_of("relu_backward", "tf32") == 4 * (2 * image + pooled)
    assert bytes_of("conv") == 0


def row(**values):
    row = dict.fromkeys(gpu_layers.COLUMNS, "")
    return row | {"layer": "res2", "call": gpu_layers.CALLS[0], "state": "ok"} | values


ROWS = [
    row(who="cudnn", precision="ieee", format="NCHW", microseconds="400"),
    row(who="cudnn", precision="ieee", format="channels_last", microseconds="300"),
    row(who="convkit", precision="ieee", format="NCHW", algorithm="direct", microseconds="250", tflops="30"),
    row(who="convkit", precision="ieee", format="NCHW", algorithm="3xtf32", microseconds="150", tflops="50"),
    row(who="convkit", precision="tf32", format="NCHW", microseconds="10", tflops="900"),
    row(who="cudnn", precision="tf32", format="NCHW", state="out of memory"),
]


def lines_of(rows, ceilings):
    lines = gpu_table.as_text(rows, ceilings).splitlines()
    return {tuple(line.split()[:2]): line.split()[2:] for line in lines}, lines


def test_the_table_compares_like_with_like():
    cells, lines = lines_of(ROWS, {"ffma": 100.0, "tf32": 1000.0})
    assert cells["res2", "ieee"] == ["400/300", "150/-", "2.00", "50"]
    assert cells["res2", "tf32"] == ["-/-", "10/-", "-", "90"]  # no time of ieee stands in for the missing one
    assert cells["res2", "bfloat16"] == ["-/-", "-/-", "-", "-"]
    assert lines[-1] == f"cudnn res2 tf32 {gpu_layers.CALLS[0]}: out of memory"
    assert max(map(len, lines)) <= 90


def test_the_csv_comes_back_as_it_was_written(tmp_path):
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, gpu_layers.COLUMNS)
        writer.writeheader()
        writer.writerows(ROWS)
    assert gpu_table.read(path) == ROWS
    assert gpu_table.as_text(gpu_table.read(path), {}) == gpu_table.as_text(ROWS, {})


def test_the_table_tells_rates_of_what_memory_bounds_and_means_of_other_calls():
    pooling = {"layer": "pool2", "call": "max_pool2d", "precision": "ieee"}
    rows = [
        row(who="cudnn", format="NCHW", microseconds="300", **pooling),
        row(who="convkit", format="NCHW", microseconds="150", gb_per_s="1500", **pooling),
        row(who="convkit", format="channels_last", microseconds="160", gb_per_s="1400", **pooling),
    ]
    for layer, microseconds in (("res2", "100"), ("res3", "400")):
        call = {"layer": layer, "call": "backward_input", "precision": "tf32", "format": "NCHW"}
        rows += [row(who="cudnn", microseconds="200", **call), row(who="convkit", microseconds=microseconds, **call)]
    lines = gpu_table.as_text(rows, {"copy": 3000.0}).splitlines()
    assert ["max_pool2d", "pool2", "ieee", "300/-", "150/160", "2.00", "50"] in [line.split() for line in lines]
    assert "backward_input: tf32 1.00 (2)" in lines
    assert "backward_weight: not measured" in lines
