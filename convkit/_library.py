"""Loads ``convkit._C``, which registers the ops, or says in one sentence why it cannot."""

import importlib.util

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
    return _C


_C = load()
