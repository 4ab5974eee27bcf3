"""What a user reads when convkit cannot be imported, and that every ISA of the binary can."""

import os
import re
import shutil
import subprocess
import sys

import pytest

import convkit
from tests._tree import HOME, python

ISAS = ["baseline", "avx2", "avx512", "avx512_bf16"]


def import_error(*arguments, **keywords):
    """The last line that a failing ``import convkit`` prints."""
    process = python(*arguments, **keywords)
    assert process.returncode == 1
    return process.stderr.strip().splitlines()[-1]


def test_tree_without_extension(tmp_path):
    shutil.copytree(HOME / "convkit", tmp_path / "convkit", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    # An editable install would find the extension of its own tree.
    code = (
        "import sys; sys.meta_path = [f for f in sys.meta_path if '__editable__' not in getattr(f, '__module__', '')];"
    )
    message = import_error(code + "import convkit", home=tmp_path)
    assert message == "ImportError: convkit is not built here: run `pip install -e .` in its source tree"


def test_old_torch():
    message = import_error("import torch; torch.__version__ = '2.10.1+cu126'; import convkit")
    assert message == "ImportError: convkit needs torch 2.11 or newer, found 2.10.1+cu126: `pip install -U torch`"


def test_second_copy():
    forget = "[sys.modules.pop(name) for name in list(sys.modules) if name.startswith('convkit')]"
    message = import_error(f"import sys, convkit; {forget}; import convkit")
    assert message == (
        "ImportError: convkit is loaded already, from another directory; a process can hold one copy of it"
    )


def test_sklearn_without_its_extra():
    message = import_error("import sys; sys.modules['skorch'] = None; import convkit.sklearn")
    assert message == (
        "ModuleNotFoundError: convkit.sklearn needs skorch, which is not installed: pip install 'convkit[train]'"
    )


@pytest.mark.parametrize("isa", ["avx1024", "AVX2"])
def test_unknown_isa(isa):
    message = import_error("import convkit", CONVKIT_ISA=isa)
    names = ", ".join(convkit._library._C.supported_isas())
    assert message == f"ImportError: convkit: CONVKIT_ISA='{isa}' is not one of this machine's: {names}"


@pytest.mark.parametrize("variable", ["CONVKIT_ISA", "CONVKIT_FLOAT32_ALGORITHM"])
@pytest.mark.parametrize("start", ["-m", "script"])
def test_a_command_says_it_in_one_line(tmp_path, start, variable):
    (tmp_path / "convkit").write_text("import sys; from convkit.__main__ import main; sys.exit(main())")  # as pip's
    environment = {**os.environ, "PYTHONPATH": str(HOME), variable: "bogus"}
    command = [sys.executable, *(["-m", "convkit"] if start == "-m" else [tmp_path / "convkit"]), "info"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert re.fullmatch(rf"convkit: {variable}='bogus' is .*\n", done.stderr)


@pytest.mark.parametrize("isa", ISAS)
def test_isa_by_environment(isa):
    if isa not in convkit._library._C.supported_isas():
        pytest.skip(f"this machine does not run {isa}")
    code = (
        "import torch, convkit; x = torch.linspace(-1, 1, 101, requires_grad=True);"
        "y = convkit.relu(x); y.sum().backward();"
        "assert torch.equal(y, x.relu()) and torch.equal(x.grad, (x > 0).float()); print(convkit._library._C.isa())"
    )
    process = python(code, CONVKIT_ISA=isa)
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip() == isa


def test_the_best_isa_is_the_default():
    process = python("import convkit; print(convkit._library._C.isa())", CONVKIT_ISA="")
    assert process.stdout.strip() == convkit._library._C.supported_isas()[-1]
