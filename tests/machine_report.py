"""``python -m tests.machine_report``: what of this binary the machine could run, and what it could not, and why."""

import platform
import shutil

import torch

import convkit
from tests._tree import BUILD, ROOT, nvcc_archs

ISAS = ["baseline", "avx2", "avx512"]


def cpu_rows():
    """(what, exercised, why not) of every ISA."""
    supported = convkit._library._C.supported_isas()
    built = {path.name.split(".")[-2] for path in BUILD.glob("csrc.cpu.kernels.*.o")}
    for isa in ISAS:
        if isa in supported:
            yield isa, "compiled and run", ""
        elif isa in built:
            yield isa, "compiled", f"this CPU ({platform.machine()}) does not run it"
        else:
            yield isa, "no", f"not for {platform.machine()}"


def cuda_rows():
    """The same of every CUDA architecture that was compiled for."""
    archs = nvcc_archs(ROOT / "build")
    if not archs:
        yield "CUDA", "no", "make cuda-check has not been run" if shutil.which("nvcc") else "there is no nvcc"
    gpus = [torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())] if torch.version.cuda else []
    names = {f"sm_{major}{minor}" for major, minor in gpus}
    reason = "no GPU of this kind" if gpus else "no GPU" if torch.version.cuda else "torch is a CPU build"
    for arch in archs:
        if arch.rstrip("a") in names and convkit._library._C.build_info()["cuda_archs"]:
            yield arch, "compiled and run", ""
        else:
            yield arch, "compiled", reason


def main():
    rows = [("target", "exercised", "why not more"), *cpu_rows(), *cuda_rows()]
    print(f"torch {torch.__version__}, Python {platform.python_version()}, threads {torch.get_num_threads()}")
    for what, exercised, reason in rows:
        print(f"  {what:<12}{exercised:<20}{reason}".rstrip())


if __name__ == "__main__":
    main()
