"""PEP 517 backend: setuptools, building against the torch that is already installed.

pip builds in an isolated environment, where torch is absent, and asking for it there would download another one. This
backend looks for torch in the environment that pip runs in first, and only asks for a build of its own
(``CONVKIT_BUILD_TORCH``, default ``torch==2.13.0``) when there is none at all.
"""

import importlib.util
import os
import shutil
import site
import sys
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import build_sdist  # noqa: F401  (a source distribution needs no torch)

BUILD_TORCH = os.environ.get("CONVKIT_BUILD_TORCH", "torch==2.13.0")


def _find_torch():
    """The directory to add to ``sys.path`` so that torch can be found: "" if none is needed, None if there is no torch."""
    if importlib.util.find_spec("torch"):
        return ""
    return next((d for d in site.getsitepackages() if Path(d, "torch", "__init__.py").is_file()), None)


def get_requires_for_build_wheel(config_settings=None):
    # A ninja on PATH is used as it is: alternating between two versions would rebuild everything each time.
    tools = [] if shutil.which("ninja") else ["ninja"]
    return [*tools, "pybind11>=3", *([] if _find_torch() is not None else [BUILD_TORCH])]


get_requires_for_build_editable = get_requires_for_build_wheel


def get_requires_for_build_sdist(config_settings=None):
    return []


def _with_torch(hook):
    def build(directory, config_settings=None, metadata_directory=None):
        torch_directory = _find_torch()
        if torch_directory is None:
            raise SystemExit("convkit: torch is needed to build; `pip install torch` first")
        if torch_directory:
            sys.path.append(torch_directory)  # behind the isolated environment's own packages
        shutil.rmtree(Path("build", "lib"), ignore_errors=True)  # a deleted module must not travel into the next wheel
        for stale in Path("build").glob("lib.*"):
            shutil.rmtree(stale)
        return hook(directory, config_settings, metadata_directory)

    return build


build_wheel = _with_torch(build_meta.build_wheel)
build_editable = _with_torch(build_meta.build_editable)
prepare_metadata_for_build_wheel = build_meta.prepare_metadata_for_build_wheel
prepare_metadata_for_build_editable = build_meta.prepare_metadata_for_build_editable
