"""Builds ``convkit._C`` with ninja: kernels once per ISA, ops against torch's stable ABI, CUDA when it is asked for.

Finds torch without importing it. Environment variables (build time): CONVKIT_CUDA=auto|0|1, CONVKIT_CUDA_ARCHS
("80;90a;120;75+PTX"), CONVKIT_BUILD_TORCH (see _build/build_backend.py), MAX_JOBS, CXX, CXXFLAGS.
"""

import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
CSRC = ROOT / "csrc"
MINIMUM_TORCH = (2, 11)

# One table of kernels per row; the machine's best is chosen when the extension is loaded (csrc/cpu/isa.cpp).
ISA_FLAGS = {"baseline": []}
if platform.machine() in ("x86_64", "AMD64"):
    ISA_FLAGS["avx2"] = ["-mavx2", "-mfma"]
    ISA_FLAGS["avx512"] = [
        *["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx2", "-mfma"],
        "-mprefer-vector-width=512",
    ]
    ISA_FLAGS["avx512_bf16"] = [*ISA_FLAGS["avx512"], "-mavx512bf16"]

WARNINGS = ["-Wall", "-Wextra", "-Werror=return-type", "-Wno-psabi"]
CXX_FLAGS = ["-O3", "-std=c++20", "-fPIC", "-fvisibility=hidden", "-fvisibility-inlines-hidden", *WARNINGS]
# Contraction gives fused multiply-adds; NaN, infinities and signed zeros keep their meaning.
KERNEL_FLAGS = ["-fno-exceptions", "-fno-rtti", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"]
# gcc's regional allocator leaves half the registers idle in a tile of 7 rows and reads its columns from memory.
# It takes a tile's totals, which are written before they are read, for uninitialised.
KERNEL_FLAGS += ["-fira-region=one", "-Wno-maybe-uninitialized"]
STABLE_ABI = [f"-DTORCH_TARGET_VERSION=0x{MINIMUM_TORCH[0]:02x}{MINIMUM_TORCH[1]:02x}000000000000"]
NVCC_FLAGS = [
    "-O3",
    "-std=c++20",
    "--expt-relaxed-constexpr",
    "-Xcompiler=-fPIC,-fvisibility=hidden",
    "--cudart=static",
    "--threads=2",
]


def find_torch():
    """The directory and version of the torch to build against."""
    spec = importlib.util.find_spec("torch")
    if spec is None:
        raise SystemExit("convkit: torch is needed to build; `pip install torch` first")
    root = Path(spec.submodule_search_locations[0]).resolve()
    text = (root / "version.py").read_text()
    version = re.search(r"__version__ = '([^']+)'", text)[1]
    if tuple(map(int, version.split(".")[:2])) < MINIMUM_TORCH:
        raise SystemExit(f"convkit: torch >= 2.11 is needed, found {version}")
    return root, version, re.search(r"^cuda: .*= '", text, re.MULTILINE) is not None


def visible_gpu_archs():
    """Compute capabilities of the GPUs of this machine, as nvcc writes them: ["90a"]; [] if there is none."""
    try:
        query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
        out = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    archs = {line.strip().replace(".", "") for line in out.splitlines() if line.strip()}
    return sorted("90a" if arch == "90" else arch for arch in archs)


def find_nvcc(torch_has_cuda):
    """((nvcc, toolkit directory) or None, why)."""
    mode = os.environ.get("CONVKIT_CUDA", "auto")
    if mode not in ("0", "1", "auto"):
        raise SystemExit(f"convkit: CONVKIT_CUDA={mode!r}; use 0, 1 or auto")
    if mode == "0":
        return None, "CONVKIT_CUDA=0"
    if mode == "auto" and not torch_has_cuda and not visible_gpu_archs():
        return None, "torch is a CPU build and no GPU is visible; CONVKIT_CUDA=1 builds them all the same"
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    for nvcc in [home and f"{home}/bin/nvcc", shutil.which("nvcc"), "/usr/local/cuda/bin/nvcc"]:
        if nvcc and os.access(nvcc, os.X_OK):  # it may be a wrapper script: ask it where its toolkit is
            dryrun = [nvcc, "--dryrun", "-x", "cu", "-c", os.devnull, "-o", os.devnull]
            text = subprocess.run(dryrun, capture_output=True, text=True).stderr
            return (nvcc, Path(re.search(r"#\$ TOP=(.*)", text)[1]).resolve()), "nvcc found"
    if mode == "1":
        raise SystemExit("convkit: CONVKIT_CUDA=1, but there is no nvcc in CUDA_HOME, PATH or /usr/local/cuda")
    return None, "there was no nvcc when it was built"


def gencode_flags(archs):
    """nvcc's flags for ["80", "75+PTX"]: machine code for 80, and for 75 machine code and PTX."""
    flags = []
    for arch in archs:
        number = arch.removesuffix("+PTX")
        flags.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if arch.endswith("+PTX"):
            flags.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    return flags


class NinjaFile:
    """The text of build.ninja: every object has flags of its own, which one extension-wide flag list cannot give."""

    def __init__(self):
        self.lines, self.objects = [], []

    def rule(self, name, command, depfile=True):
        self.lines += [f"rule {name}", f"  command = {command}", f"  description = {name} $out"]
        self.lines += ["  depfile = $out.d", "  deps = gcc"] if depfile else []

    def add(self, rule, source, flags, suffix=""):
        name = f"{source.relative_to(ROOT).as_posix().replace('/', '.')}{suffix}.o"
        self.objects.append(name)
        self.lines += [f"build {name}: {rule} {source}", f"  flags = {shlex.join(map(str, flags))}"]

    def write(self, path, library):
        link = [f"build {library}: link {' '.join(self.objects)}", f"default {library}", ""]
        text = "\n".join(self.lines + link)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def write_ninja(library):
    """Write build.ninja for what this machine and the environment ask for; returns its directory."""
    torch, version, torch_has_cuda = find_torch()
    cuda, reason = find_nvcc(torch_has_cuda)
    archs = list(filter(None, os.environ.get("CONVKIT_CUDA_ARCHS", "").split(";")))
    archs = archs or visible_gpu_archs() or ["80", "90a", "120", "75+PTX"]
    compiler, extra = os.environ.get("CXX", "g++"), os.environ.get("CXXFLAGS", "")

    ninja = NinjaFile()
    ninja.rule("cxx", f"{compiler} -MMD -MF $out.d $flags {extra} -c $in -o $out")
    common = [*CXX_FLAGS, f"-ffile-prefix-map={ROOT}/=", f"-ffile-prefix-map={torch}/include/=", "-I", CSRC]
    headers = ["-isystem", torch / "include"]
    for isa, flags in ISA_FLAGS.items():
        for source in sorted((CSRC / "cpu" / "kernels").glob("*.cpp")):
            ninja.add("cxx", source, [*common, *KERNEL_FLAGS, f"-DCONVKIT_ISA={isa}", *flags], f".{isa}")
    ops = [CSRC / "library.cpp", *sorted((CSRC / "common").glob("*.cpp")), *sorted((CSRC / "cpu").glob("*.cpp"))]
    absent = CSRC / "cuda" / "absent.cpp"  # registers a clear error for every op that has no CUDA kernel
    ops += sorted((CSRC / "cuda").glob("*.cpp")) if cuda else [absent]
    why = [f"-DCONVKIT_CUDA={int(bool(cuda))}", f'-DCONVKIT_CUDA_REASON="{reason}"']
    for source in ops:
        ninja.add("cxx", source, [*common, *STABLE_ABI, *headers, *(why if source == absent else [])])
    info = [*why, f'-DCONVKIT_TORCH="{version}"', f'-DCONVKIT_CUDA_ARCHS="{";".join(archs) if cuda else ""}"']
    ninja.add("cxx", CSRC / "module.cpp", [*common, *info, "-isystem", sysconfig.get_path("include")])

    link = ["-L", torch / "lib", "-ltorch_cpu", f"-Wl,--version-script={CSRC}/exports.map"]
    link += ["-Wl,--as-needed", "-Wl,--gc-sections", "-Wl,-s"]
    if cuda:
        nvcc, toolkit = cuda
        ninja.rule("nvcc", f"{nvcc} -MD -MF $out.d $flags -c $in -o $out")
        for source in sorted((CSRC / "cuda").glob("*.cu")):
            ninja.add("nvcc", source, [*NVCC_FLAGS, "-I", CSRC, *gencode_flags(archs)])
        libraries = next(d for d in (toolkit / "lib64", toolkit / "lib") if (d / "libcudart_static.a").exists())
        link += ["-L", libraries, "-lcudart_static", "-ldl", "-lrt", "-lpthread"]
    ninja.rule("link", f"{compiler} -shared $in -o $out {shlex.join(map(str, link))}", depfile=False)
    # Not setuptools' build_temp: an editable install throws that directory away.
    out = ROOT / "build" / f"ninja-{sys.implementation.cache_tag}-torch{version}{'-cuda' if cuda else ''}"
    out.mkdir(parents=True, exist_ok=True)
    ninja.write(out / "build.ninja", library)
    print(f"convkit: torch {version}, CUDA kernels: {'yes' if cuda else 'no'} ({reason})", flush=True)
    return out


def ninja_executable():
    found = shutil.which("ninja")
    if found:
        return found
    import ninja  # the package, in an environment that is not activated

    return os.path.join(ninja.BIN_DIR, "ninja")


class NinjaBuildExt(build_ext):
    def build_extension(self, ext):
        import pybind11

        library = Path(self.get_ext_filename(ext.name)).name
        out = write_ninja(library)
        jobs = ["-j", os.environ["MAX_JOBS"]] if os.environ.get("MAX_JOBS") else []
        # By environment, not by flag: isolated builds have pybind11 elsewhere each time and must not recompile for it.
        paths = [pybind11.get_include(), os.environ.get("CPLUS_INCLUDE_PATH")]
        environment = {**os.environ, "CPLUS_INCLUDE_PATH": os.pathsep.join(filter(None, paths))}
        subprocess.check_call([ninja_executable(), "-C", str(out), *jobs], env=environment)
        destination = Path(self.get_ext_fullpath(ext.name))
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(out / library, destination)


setup(ext_modules=[Extension("convkit._C", sources=[])], cmdclass={"build_ext": NinjaBuildExt})
