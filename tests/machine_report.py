"""``python -m tests.machine_report``: what of this binary the machine could run, and what it could not, and why."""

import platform
import shutil

import torch

import convkit
from tests._tree import BUILD, ROOT, nvcc_archs

ISAS = ["baseline", "avx2", "avx512", "avx512_bf16"]


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
    """The same of the GPU and of every CUDA architecture that was compiled for."""
    archs = nvcc_archs(ROOT / "build")
    with_cuda = convkit._library._C.build_info()["cuda_archs"]
    if not archs:
        yield "nvcc", "no", "make cuda-check has not been run" if shutil.which("nvcc") else "there is no nvcc"
    if torch.cuda.is_available() and with_cuda:
        yield "GPU", "yes", torch.cuda.get_device_name()
        major, minor = torch.cuda.get_device_capability()
        here = f"sm_{major}{minor}"
    else:
        reason = "this convkit has no CUDA kernels" if torch.cuda.is_available() else "torch sees none"
        yield "GPU", "no", reason
        here = None
    for arch in archs:
        run = arch.rstrip("a") == here
        yield arch, "compiled and run" if run else "compiled", "" if run else "no such GPU in these tests"


def main():
    rows = [("target", "exercised", "why not more"), *cpu_rows(), *cuda_rows()]
    print(f"torch {torch.__version__}, Python {platform.python_version()}, threads {torch.get_num_threads()}")
    for what, exercised, reason in rows:
        print(f"  {what:<12}{exercised:<20}{reason}".rstrip())


if __name__ == "__main__":
    main()
