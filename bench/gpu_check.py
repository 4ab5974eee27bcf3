"""``python -m bench.gpu_check``: builds, tests and measures convkit on this machine's GPU, in less than 8 minutes.

Every step is a process with its own time limit, so that a hang costs that step only. All of it is written to
bench/results/gpu-<name>.csv, what the steps print to gpu-<name>.log beside it; a short table comes last.
``--no-build`` takes the extension that is there.
Exit codes: 0 all steps passed, 1 some failed, 3 there is no GPU or no nvcc here.
"""

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from bench import gpu_layers, gpu_table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
TOTAL_SECONDS = 480
NO_GPU = 3


@dataclass(frozen=True)
class Step:
    """A command, and the seconds that it may take."""

    name: str
    command: list
    limit: float
    environment: dict = field(default_factory=dict)
    needs: str = ""  # a step without which this one has no sense


@dataclass(frozen=True)
class Outcome:
    """What became of a step: "passed", "failed (code)", "ran past its limit" or why it was left out."""

    step: Step
    state: str
    seconds: float
    output: str


def plan(python, rows, sanitizer, build=True):
    """Stages, one after another: lists of the steps that run at the same time.

    Args:
        python: the interpreter, with torch for CUDA.
        rows: the path that measurements are appended to, as CSV.
        sanitizer: the path of compute-sanitizer, or None.
        build: whether to build the extension.
    """
    measure = [python, "-m", "bench.gpu_measure"]
    ceilings = str(ROOT / "build" / "gpu_ceilings")
    extension = Step("build", [python, "setup.py", "-q", "build_ext", "--inplace"], 130, {"CONVKIT_CUDA": "1"})
    nvcc = ["nvcc", "-O3", "-std=c++20", "--expt-relaxed-constexpr", "-arch=native", "-I", "csrc"]
    needs = extension.name if build else ""
    tests = [python, "-m", "pytest", "-q", "-m", "cuda", "-n", "6", "tests"]
    checks = [Step("tests", tests, 110, needs=needs)]
    for tool in ["memcheck", "racecheck"] if sanitizer else []:
        check = [sanitizer, "--tool", tool, "--error-exitcode", "9", *measure, "small"]
        checks.append(Step(tool, check, 110, needs=needs))
    return [
        [extension] * build + [Step("build ceilings", [*nvcc, "bench/gpu_ceilings.cu", "-o", ceilings], 40)],
        [Step("ceilings", [ceilings], 20, needs="build ceilings")],
        checks,
        [Step("convkit", [*measure, "convkit", str(rows), "85"], 100, needs=needs)],
        [Step("cudnn", [*measure, "cudnn", str(rows), "85"], 100)],
    ]


def run_step(step, cwd=ROOT):
    """-> `Outcome`. A step past its limit is killed with all that it started."""
    start = time.monotonic()
    environment = {**os.environ, **step.environment}
    process = subprocess.Popen(
        step.command,
        cwd=cwd,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=step.limit)
        state = "passed" if process.returncode == 0 else f"failed ({process.returncode})"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        state = "ran past its limit"
    return Outcome(step, state, time.monotonic() - start, output)


def run_plan(stages, say=print):
    """The outcomes of all steps, in order; one whose need was not met is left out."""
    outcomes = {}

    def run(step):
        need = outcomes.get(step.needs)
        if need and need.state != "passed":
            return Outcome(step, f"left out: {step.needs} {need.state}", 0.0, "")
        return run_step(step)

    for stage in stages:
        with ThreadPoolExecutor(len(stage)) as pool:
            for outcome in pool.map(run, stage):
                outcomes[outcome.step.name] = outcome
                say(f"{outcome.step.name:<16}{outcome.seconds:6.1f} s of {outcome.step.limit:3.0f}  {outcome.state}")
    return list(outcomes.values())


def read_ceilings(output):
    """{"copy": GB/s, "ffma": TFLOP/s, ...} of what bench/gpu_ceilings.cu prints."""
    return {name: float(value) for name, value in re.findall(r"^(\w+),([\d.]+)$", output, re.MULTILINE)}


def missing():
    """Why nothing can be measured here, or None."""
    import torch

    if not torch.cuda.is_available():
        return f"torch {torch.__version__} sees no GPU"
    return None if shutil.which("nvcc") else "there is no nvcc on PATH"


def machine():
    """One line about the GPU, and its name as a part of file names."""
    import torch

    name = torch.cuda.get_device_name()
    driver = subprocess.run(
        ["nvidia-smi", "--query-gpu=driver_version,clocks.sm,clocks.max.sm", "--format=csv,noheader"],
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    cudnn = torch.backends.cudnn.version()
    line = f"{name}, torch {torch.__version__}, cuDNN {cudnn}, driver and SM clocks {driver[0] if driver else '?'}"
    return line, re.sub(r"\W+", "-", name.lower()).strip("-")


def main(arguments=()):
    """-> exit code."""
    reason = missing()
    if reason:
        print(f"gpu_check: nothing to measure: {reason}")
        return NO_GPU
    line, name = machine()
    print(line, flush=True)
    RESULTS.mkdir(exist_ok=True)
    (ROOT / "build").mkdir(exist_ok=True)
    rows = RESULTS / f"gpu-{name}.csv"
    with rows.open("w", newline="") as file:
        csv.writer(file).writerow(gpu_layers.COLUMNS)
    stages = plan(sys.executable, rows, shutil.which("compute-sanitizer"), build="--no-build" not in arguments)
    outcomes = run_plan(stages, lambda text: print(text, flush=True))
    log = "\n".join(f"== {o.step.name}: {o.state}\n{o.output}" for o in outcomes)
    rows.with_suffix(".log").write_text(log)
    ceilings = {}
    for outcome in outcomes:
        if outcome.step.name == "ceilings":
            ceilings = read_ceilings(outcome.output)
        if outcome.state.startswith("failed"):
            print(f"-- {outcome.step.name}\n" + "\n".join(outcome.output.splitlines()[-15:]))
    with rows.open("a", newline="") as file:
        writer = csv.DictWriter(file, gpu_layers.COLUMNS)
        writer.writerows({"layer": "ceiling", "call": key, "tflops": value} for key, value in ceilings.items())
    print(gpu_table.as_text(gpu_table.read(rows), ceilings))
    return 0 if all(outcome.state == "passed" for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
