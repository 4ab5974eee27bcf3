"""The source tree and the build that the tests look into."""

import os
import re
import subprocess
import sys
from pathlib import Path

import torch

import convkit

ROOT = Path(__file__).resolve().parents[1]
HOME = Path(convkit.__file__).resolve().parents[1]  # where this convkit was imported from
CUDA_ARCHS = convkit._library._C.build_info()["cuda_archs"]
BUILD = ROOT / "build" / f"ninja-{sys.implementation.cache_tag}-torch{torch.__version__}{'-cuda' if CUDA_ARCHS else ''}"
OPS = re.findall(r'm\.def\(\s*"(\w+)\(', (ROOT / "csrc" / "library.cpp").read_text())


def run(*command, cwd=None):
    """What the command prints."""
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout


def python(code, home=HOME, **environment):
    """The finished process of a Python that imports convkit from ``home``."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=home, env={**os.environ, **environment}, capture_output=True, text=True)


def nvcc_archs(build):
    """What the CUDA objects under this directory were compiled for: "sm_80", "compute_75"."""
    found = set()
    for path in build.glob("ninja-*-cuda/build.ninja"):
        if list(path.parent.glob("*.cu.o")):
            found |= set(re.findall(r",code=(\w+)", path.read_text()))
    return sorted(found)
