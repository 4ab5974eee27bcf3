"""The lecture's numbers through convkit's ops, the demo's report, the timing function and the command line."""

import json
import math
import os
import re
import subprocess
import sys

import pytest
import torch

from convkit import cli
from convkit.testing import memory
from convkit.testing.timing import compare, max_error

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("tqdm")

from convkit import _pictures as pictures


def test_compare_returns_times_and_errors():
    x = torch.tensor([1.0, 2.0])
    found = compare({"right": lambda: x * 2, "wrong": lambda: x}, reference=lambda: x.double() * 2, seconds=0.01)
    assert found["right"].max_error == 0
    assert found["wrong"].max_error == 2
    for timing in found.values():
        assert 0 < timing.low <= timing.median <= timing.high
        assert timing.samples >= 5
    assert compare({"a": lambda: x}, seconds=0, min_rounds=2)["a"].max_error is None


def test_compare_sets_the_threads_and_sets_them_back():
    before, seen = torch.get_num_threads(), set()
    compare({"a": lambda: seen.add(torch.get_num_threads())}, threads=1, seconds=0)
    assert seen == {1}
    assert torch.get_num_threads() == before


def test_max_error():
    nan, inf = math.nan, math.inf
    assert max_error(torch.tensor([nan, inf, 1.0]), torch.tensor([nan, inf, 1.5])) == 0.5
    assert max_error(torch.tensor([nan]), torch.tensor([1.0])) == inf
    assert max_error(torch.tensor([inf]), torch.tensor([-inf])) == inf
    assert max_error((torch.ones(2), torch.ones(3)), (torch.ones(2), torch.zeros(3))) == 1
    assert max_error(torch.ones(0), torch.ones(0)) == 0
    with pytest.raises(ValueError, match="shape"):
        max_error(torch.ones(2), torch.ones(1))


def test_saved_bytes_counts_each_storage_once_and_no_weights():
    model = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(4, 4, bias=False))
    images, labels = torch.randn(8, 4), torch.randint(4, (8,))
    # relu's result, kept by relu and by linear; cross_entropy keeps its log-softmax and one total weight.
    assert memory.saved_bytes(model, images.requires_grad_(), labels) == 8 * 4 * 4 * 2 + 4


def test_pictures_follow_the_colours_of_the_page():
    chart = pictures.line_chart({"a": [1, 2], "b": [1, 2], "c": [2, 1]}, "epoch", "loss")
    assert chart.startswith('<svg class="chart" viewBox=')
    assert "var(--ours)" in chart
    assert "currentColor" in chart
    assert "http" not in chart
    assert not [colour for colour in pictures.CSS_COLOURS if colour in chart]
    assert pictures.number_grid(torch.tensor([[1.0, -2.0]])).count("<rect") == 2


def run_convkit(*arguments, **options):
    command = [sys.executable, "-m", "convkit", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)


def test_info_is_json():
    done = run_convkit("info", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert found["machine"]["torch"] == torch.__version__
    assert found["machine"]["isa"] in found["machine"]["isas"]
    assert set(found["build"]) == {"torch", "compiler", "cuda_archs", "cuda_reason"}
    assert run_convkit("info").stdout.startswith("convkit")


def test_help_and_exit_codes(capsys):
    for arguments, code in ((["--help"], 0), (["demo", "--help"], 0), ([], 2), (["nonsense"], 2)):
        with pytest.raises(SystemExit) as left:
            cli.run(arguments)
        assert left.value.code == code
    assert "convkit demo --quick" in capsys.readouterr().out


def test_errors_are_one_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    assert cli.run(["demo", "--output", str(tmp_path / "file")]) == 1
    assert re.fullmatch(r"convkit: .*File exists.*\n", capsys.readouterr().err)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    (tmp_path / "matplotlib.py").write_text("raise ModuleNotFoundError(name='matplotlib')")
    for command, extra in (["demo", "--output", str(tmp_path / "out")], "train"), (["bench", "--quick"], "bench"):
        done = run_convkit(*command, cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr == f"convkit: matplotlib is not installed: pip install 'convkit[{extra}]'\n"


def test_quick_demo_writes_a_self_contained_report(tmp_path):
    done = run_convkit("demo", "--quick", "--output", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["index.html"]
    assert "http" not in page
    assert re.findall(r'<(?:link|script|iframe)|src="(?!data:)|url\((?!#)|@import', page) == []
    assert page.count("<svg") >= 20
    assert page.count('src="data:image/png;base64,') == 33
    for text in ("7 of 7", "148", "163", "&minus;70", "max_pool2d", "prefers-color-scheme: dark"):
        assert text in page
    # Every tag that opens closes.
    for tag in ("table", "svg", "figure", "div", "p", "tr", "td"):
        assert len(re.findall(rf"<{tag}[ >]", page)) == page.count(f"</{tag}>"), tag
