"""What the compiler made: kernels of one ISA must not leak into another, and the binary shows one symbol only."""

import ast
import re
from pathlib import Path

import pytest

import convkit
from tests._tree import BUILD, HOME, ROOT, run

KERNELS = ROOT / "csrc" / "cpu" / "kernels"
KERNEL_OBJECTS = sorted(BUILD.glob("csrc.cpu.kernels.*.o"))
ISAS = {path.name.split(".")[-2] for path in KERNEL_OBJECTS}
STANDARD_HEADERS = {"<cstdint>", "<immintrin.h>", "<cstddef>", "<cstring>", "<utility>"}
STANDARD_HEADERS |= {"<bit>", "<limits>", "<type_traits>"}  # nothing of them is left at run time
# What gcc itself puts in place of a loop.
LIBRARY_CALLS = {"memcpy", "memset", "memmove", "memcmp"}

needs_objects = pytest.mark.skipif(not KERNEL_OBJECTS, reason=f"no objects in {BUILD.relative_to(ROOT)}: make build")


def symbols(path, *flags):
    """(letter, name) of every symbol of an object file, as nm gives them."""
    return [tuple(line.split()[-2:]) for line in run("nm", *flags, str(path)).splitlines() if line.strip()]


def includes(path):
    return re.findall(r'^\s*#\s*include\s+([<"][^>"]+[>"])', path.read_text(), re.MULTILINE)


@needs_objects
@pytest.mark.parametrize("path", KERNEL_OBJECTS, ids=lambda path: path.name)
def test_kernel_objects_share_no_code(path):
    found = symbols(path)
    assert found
    # A weak function is one that the linker may replace by another ISA's copy of it.
    assert [name for letter, name in found if letter in "WwVvui"] == []
    assert {name for letter, name in found if letter == "U"} <= LIBRARY_CALLS


@needs_objects
@pytest.mark.parametrize("path", KERNEL_OBJECTS, ids=lambda path: path.name)
def test_kernel_objects_define_hidden_tables_only(path):
    isa = path.name.split(".")[-2]
    defined = [name for letter, name in symbols(path, "-C", "--defined-only") if letter.isupper()]
    assert defined
    assert [name for name in defined if not name.startswith(f"convkit::{isa}::")] == []
    table = run("readelf", "--syms", "--wide", str(path))
    visible = [line.split()[-1] for line in table.splitlines() if " GLOBAL " in line and " UND " not in line]
    hidden = [line.split()[-1] for line in table.splitlines() if " GLOBAL " in line and " HIDDEN " in line]
    assert visible == hidden


@needs_objects
@pytest.mark.skipif("avx2" not in ISAS, reason="not an x86 machine: one ISA only")
@pytest.mark.parametrize("path", KERNEL_OBJECTS, ids=lambda path: path.name)
def test_registers_belong_to_the_isa(path):
    code = run("objdump", "-d", "--no-show-raw-insn", str(path))
    isa = path.name.split(".")[-2]
    assert ("%zmm" in code) == isa.startswith("avx512")
    assert ("vdpbf16ps" in code) == (isa == "avx512_bf16")
    if not isa.startswith("avx512"):  # which may use either
        assert ("%ymm" in code) == (isa == "avx2")


@needs_objects
def test_every_isa_compiles_every_kernel_file():
    expected = {f"csrc.cpu.kernels.{source.name}.{isa}.o" for source in KERNELS.glob("*.cpp") for isa in ISAS}
    assert {path.name for path in KERNEL_OBJECTS} == expected


@needs_objects
def test_no_flag_ties_the_binary_to_this_machine_or_bends_floating_point():
    text = (BUILD / "build.ninja").read_text()
    assert re.findall(r"-m(?:arch|tune)=native|-Ofast|-f\S*(?:fast|unsafe)-math\S*|-ffinite-math-only", text) == []
    assert re.findall(r"-fno-signed-zeros|-fassociative-math|-freciprocal-math|use_fast_math", text) == []


def test_the_extension_exports_its_init_function_only():
    extension = Path(convkit._library._C.__file__)
    exported = [name for letter, name in symbols(extension, "-D", "--defined-only")]
    assert exported == ["PyInit__C"]


def test_the_extension_needs_no_cuda_library():
    needed = re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "-d", convkit._library._C.__file__))
    assert "libtorch_cpu.so" in needed
    assert [name for name in needed if "cuda" in name or "cudart" in name or "python" in name] == []


@pytest.mark.parametrize("path", sorted(KERNELS.glob("*.[chi]*")), ids=lambda path: path.name)
def test_kernels_include_no_torch_and_no_standard_library(path):
    reached, waiting = set(), {path}
    while waiting:
        current = waiting.pop()
        reached.add(current)
        for name in includes(current):
            if name.startswith('"'):
                waiting |= {ROOT / "csrc" / name.strip('"')} - reached
            else:
                assert name in STANDARD_HEADERS, f"{current.relative_to(ROOT)} includes {name}"


@pytest.mark.parametrize("path", sorted((ROOT / "csrc" / "cuda").glob("*.cu*")), ids=lambda path: path.name)
def test_cuda_kernels_include_no_torch(path):
    assert [name for name in includes(path) if "torch" in name or "ATen" in name or "c10" in name] == []


# Each package may import those to its left.
STRATA = ["ops", "nn", "models", "data", "train", "lecture", "demo", "commands"]


@pytest.mark.parametrize("package", [name for name in STRATA if (HOME / "convkit" / name).is_dir()])
def test_a_lower_stratum_imports_no_higher_one(package):
    higher = STRATA[STRATA.index(package) + 1 :]
    for path in (HOME / "convkit" / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                assert not any(name == f"convkit.{h}" or name.startswith(f"convkit.{h}.") for h in higher), path
