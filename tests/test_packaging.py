"""What a wheel and a source distribution hold."""

import sys
import tarfile
import zipfile
from importlib import metadata

import pytest

from tests._tree import ROOT, run

needs_tools = pytest.mark.skipif(
    # Not find_spec: looking for pip makes setuptools leave distutils to Python, and torch's inductor fails then.
    not {"pip", "pybind11", "setuptools"} <= {distribution.name for distribution in metadata.distributions()},
    reason="pip, pybind11 and setuptools are not all in this environment",
)


@needs_tools
def test_wheel_holds_the_package_only(tmp_path):
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    run(*pip, str(tmp_path), str(ROOT))
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as contents:
        names = contents.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"convkit"}
    binaries = [name for name in names if ".so" in name]
    assert len(binaries) == 1
    assert binaries[0].startswith("convkit/_C.")
    assert [name for name in names if name.endswith((".cpp", ".h", ".cu", ".inl", ".o"))] == []
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "convkit").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == sources  # neither a lost module nor a deleted one


@needs_tools
def test_sdist_holds_what_a_build_needs(tmp_path):
    command = [sys.executable, "setup.py", "--quiet", "sdist", "--formats=gztar", "--dist-dir", str(tmp_path)]
    run(*command, cwd=ROOT)
    [archive] = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as contents:
        names = {name.partition("/")[2] for name in contents.getnames()}
    needed = [path for folder in ["csrc", "_build", "convkit"] for path in (ROOT / folder).rglob("*.*")]
    built = {".so", ".pyc"}
    assert {str(path.relative_to(ROOT)) for path in needed if path.suffix not in built and path.is_file()} <= names
    assert {"setup.py", "pyproject.toml", "LICENSE", "README.md"} <= names
