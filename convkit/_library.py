"""Loads ``convkit._C``, which registers the ops, or says in one sentence why it cannot."""

import importlib.util
import os
import sys
from pathlib import Path

import torch

MINIMUM_TORCH = (2, 11)


def load():
    """Import and return the extension module; ImportError names what is wrong and what to do."""
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    if version < MINIMUM_TORCH:
        raise ImportError(f"convkit needs torch 2.11 or newer, found {torch.__version__}: `pip install -U torch`")
    if torch._C._dispatch_has_kernel("convkit::relu"):
        raise ImportError("convkit is loaded already, from another directory; a process can hold one copy of it")
    if importlib.util.find_spec("convkit._C") is None:
        raise ImportError("convkit is not built here: run `pip install -e .` in its source tree")
    try:
        from convkit import _C
    except ImportError as error:
        built = "convkit's extension does not load under this Python and torch: install convkit again"
        raise ImportError(f"{built} (torch {torch.__version__}; {error})") from error
    if _C.isa_error():
        raise ImportError(f"convkit: {_C.isa_error()}")
    algorithm = os.environ.get("CONVKIT_FLOAT32_ALGORITHM") or "auto"
    try:
        _C.set_float32_algorithm(algorithm)
    except ValueError:
        raise ImportError(f"convkit: CONVKIT_FLOAT32_ALGORITHM='{algorithm}' is neither 'auto' nor 'direct'") from None
    return _C


def set_float32_algorithm(algorithm):
    """Say which algorithms ``algorithm="auto"`` may take for float32 convolutions, in the whole process.

    Args:
        algorithm: "auto", the fastest within the bounds of accuracy; or "direct", sums of products and nothing else, so
            no Winograd. An algorithm named in a call is taken in any case. The initial value is that of the environment
            variable CONVKIT_FLOAT32_ALGORITHM, else "auto".

    Raises:
        ValueError: another name.
    """
    _C.set_float32_algorithm(algorithm)


def get_float32_algorithm():
    """What :func:`set_float32_algorithm` was last given: "auto" or "direct"."""
    return _C.get_float32_algorithm()


def _is_command():
    """Whether this import is the first step of ``convkit ...`` or ``python -m convkit ...``."""
    program = (getattr(sys, "argv", None) or [""])[0]
    if program == "-m":  # until Python has found the module
        return "convkit" in sys.orig_argv
    return Path(program).name == "convkit"


try:
    _C = load()
except ImportError as error:
    if not _is_command():
        raise
    print(f"convkit: {str(error).removeprefix('convkit: ')}", file=sys.stderr)
    raise SystemExit(2) from None
