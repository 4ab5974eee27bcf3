"""What was built and what this machine runs: the data behind ``convkit info`` and the report of ``convkit demo``."""

import os
import platform
from importlib import metadata
from pathlib import Path

import torch

from convkit._library import _C

RUN_TIME_VARIABLES = {
    "CONVKIT_ISA": "lowers the instruction set: baseline, avx2, avx512 or avx512_bf16",
    "CONVKIT_FLOAT32_ALGORITHM": "direct keeps float32 convolutions from Winograd",
}


def cpu_model():
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def version():
    try:
        return metadata.version("convkit")
    except metadata.PackageNotFoundError:
        return "source tree"


def memory_stats():
    """Bytes that convkit holds beside torch's tensors, as a dict.

    ``workspace_bytes``: scratch memory of all threads together, kept between calls and given back when a thread ends.
    """
    return {"workspace_bytes": _C.workspace_bytes()}


def collect():
    """Everything ``convkit info`` prints, as a dict that JSON can hold."""
    built = _C.build_info()
    return {
        "convkit": version(),
        "python": platform.python_version(),
        "build": {
            "torch": built["torch"],
            "compiler": built["compiler"],
            "cuda_archs": [arch for arch in built["cuda_archs"].split(";") if arch],
            "cuda_reason": built["cuda_reason"],
        },
        "machine": {
            "torch": torch.__version__,
            "cpu": cpu_model(),
            "isas": list(_C.supported_isas()),
            "isa": _C.isa(),
            "threads": torch.get_num_threads(),
            "cuda_available": torch.cuda.is_available(),
            "cuda_devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        },
        "environment": {name: os.environ.get(name) for name in RUN_TIME_VARIABLES},
    }


def as_text(info):
    """The dict of `collect` as aligned lines."""
    build, machine = info["build"], info["machine"]
    archs = ", ".join(build["cuda_archs"])
    devices = ", ".join(machine["cuda_devices"])
    lines = {
        "convkit": info["convkit"],
        "Python": info["python"],
        "torch": f"{machine['torch']} (built against {build['torch']})",
        "compiler": build["compiler"],
        "CUDA kernels": f"for {archs}" if archs else f"not built: {build['cuda_reason']}",
        "CUDA devices": devices or "none",
        "processor": machine["cpu"],
        "ISA": f"{machine['isa']} (this machine and build have {', '.join(machine['isas'])})",
        "threads": str(machine["threads"]),
    }
    for name, meaning in RUN_TIME_VARIABLES.items():
        lines[name] = info["environment"][name] or f"not set ({meaning})"
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines.items())
