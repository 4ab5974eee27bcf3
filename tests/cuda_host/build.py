"""Compiles csrc/cuda with g++ against the shim, once per change, and loads the library: see README.md."""

import ctypes
import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import torch

import convkit  # noqa: F401  (its schemas)
from tests._tree import OPS, ROOT

HERE = Path(__file__).resolve().parent
OUT = ROOT / "build" / f"cuda_host-torch{torch.__version__}"
CXX = os.environ.get("CXX", "g++")
NAMESPACE = "convkit_cuda_host"

COMMON = ["-std=c++20", "-fPIC", "-fvisibility=hidden", "-I", HERE, "-I", ROOT / "csrc"]
# Every load and store calls memory.cpp. At -O1 gcc keeps them as written: it joins and splits none, vectors included.
KERNELS = ["-O1", "-fsanitize=thread", "--param=tsan-instrument-func-entry-exit=0", "-ffp-contract=off"]
KERNELS += ["-fno-tree-vectorize", "-fno-tree-sra", "-Wall", "-Wextra", "-Wno-unknown-pragmas"]
SHIM = ["-O2", "-Wall", "-Wextra"]
TORCH = Path(torch.__file__).parent
OPS_FLAGS = ["-O1", "-DTORCH_TARGET_VERSION=0x020b000000000000", "-isystem", TORCH / "include"]
# Of csrc/cuda, all but what only a GPU machine has: streams, the runtime's error texts, refusals.
NOT_HERE = ("stream.cpp", "absent.cpp")


def missing():
    """Why the library cannot be built here, or None."""
    if shutil.which(CXX) is None:
        return f"there is no {CXX}"
    compiler = subprocess.run([CXX, "--version"], capture_output=True, text=True).stdout
    if "Free Software Foundation" not in compiler:
        return f"{CXX} is not gcc, whose checks of memory accesses the shim takes over"
    return None if _ninja() else "there is no ninja"


def _ninja():
    found = shutil.which("ninja")
    if found is None:
        try:
            import ninja
        except ImportError:
            return None
        found = os.path.join(ninja.BIN_DIR, "ninja")
    return found


def _write_ninja(library):
    lines = [
        "rule cxx",
        f"  command = {CXX} -MMD -MF $out.d $flags -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
    ]
    link = f"-shared $in -o $out -L {TORCH / 'lib'} -ltorch_cpu -Wl,--as-needed -Wl,--no-undefined"
    lines += ["rule link", f"  command = {CXX} {link}"]
    csrc = ROOT / "csrc"
    groups = [
        (["-x", "c++", *KERNELS], [*sorted((csrc / "cuda").glob("*.cu")), *sorted(HERE.glob("*.cu"))]),
        (SHIM, sorted(HERE.glob("*.cpp"))),
        (OPS_FLAGS, [*sorted((csrc / "cuda").glob("*.cpp")), *sorted((csrc / "common").glob("*.cpp"))]),
    ]
    objects = []
    for flags, sources in groups:
        for source in sources:
            if source.name in NOT_HERE:
                continue
            objects.append(f"{source.parent.name}.{source.name}.o")
            lines += [f"build {objects[-1]}: cxx {source}", f"  flags = {' '.join(map(str, [*COMMON, *flags]))}"]
    lines += [f"build {library}: link {' '.join(objects)}", f"default {library}", ""]
    path = OUT / "build.ninja"
    text = "\n".join(lines)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def build():
    """-> path of the library, compiled as far as anything has changed."""
    OUT.mkdir(parents=True, exist_ok=True)
    with open(OUT / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the tests' processes come here at the same time
        _write_ninja("libcuda_host.so")
        done = subprocess.run([_ninja(), "-C", OUT], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stdout[-20000:] + done.stderr)
    return OUT / "libcuda_host.so"


_library = None


def load():
    """The library by ctypes; its ops are ``torch.ops.convkit_cuda_host``, on CPU tensors."""
    global _library
    if _library is None:
        schemas = torch.library.Library(NAMESPACE, "DEF")
        for op in OPS:
            schema = str(getattr(torch.ops.convkit, op).default._schema)
            schemas.define(schema.removeprefix("convkit::"))
        path = build()
        _library = ctypes.CDLL(str(path))
        _library.schemas = schemas  # as long as the library
        _library.simt_error.restype = ctypes.c_char_p
    return _library


def set_order(order):
    """The order in which threads and blocks take their turns: "forward", "reverse" or "shuffled"."""
    load().simt_set_order(("forward", "reverse", "shuffled").index(order))
