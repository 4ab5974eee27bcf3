"""What ptxas made of the CUDA kernels: opcodes, registers and shared memory, on every architecture built for.

Reads the objects of `make cuda-check`; the disassembler comes with the CUDA toolkit or with the extra `cuda-check`.
"""

import re
import shutil
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests._tree import BUILD, ROOT, run

OBJECTS = sorted(BUILD.glob("csrc.cuda.*.cu.o"))
# Of the package nvidia-cuda-cuobjdump, which finds nvdisasm beside it.
PACKAGED = sorted(Path(sysconfig.get_path("purelib")).glob("nvidia/*/bin/cuobjdump"))
CUOBJDUMP = shutil.which("cuobjdump") or (str(PACKAGED[-1]) if PACKAGED else None)

pytestmark = [
    pytest.mark.skipif(not OBJECTS, reason=f"no CUDA objects in {BUILD.relative_to(ROOT)}: make cuda-check"),
    pytest.mark.skipif(not CUOBJDUMP, reason="there is no cuobjdump: pip install 'convkit[cuda-check]'"),
]

# Bytes that a block may ask for, by architecture (CUDA C++ programming guide, compute capabilities).
KIB = 1024
SHARED_LIMIT = {75: 64 * KIB, 80: 163 * KIB, 86: 99 * KIB, 89: 99 * KIB, 90: 227 * KIB, 100: 227 * KIB, 120: 99 * KIB}
STATIC_SHARED_LIMIT = 48 * KIB
REGISTERS = 65536  # of a multiprocessor, and so of a block


@dataclass(frozen=True)
class Kernel:
    """What must hold of the kernels of one name, whatever their template arguments."""

    threads: int = 256  # a block
    blocks: int = 1  # that fit a multiprocessor together, by their registers
    opcodes: tuple = ()  # regular expressions that one instruction of each instance matches
    except_for: str = ""  # instances, by a regular expression of their names, that need no opcodes


VECTORS = (r"LDG\.E\.(?:\w+\.)*128", r"STG\.E\.(?:\w+\.)*128")

KERNELS = {
    "relu_kernel": Kernel(blocks=4, opcodes=VECTORS),
    "relu_backward_kernel": Kernel(blocks=4, opcodes=VECTORS),
}


@dataclass(frozen=True)
class Instance:
    """A kernel in machine code."""

    name: str  # as in KERNELS
    signature: str
    arch: int
    registers: int
    shared: int  # static, bytes
    local: int  # stack and local memory, bytes
    opcodes: tuple

    def __str__(self):
        return f"sm_{self.arch} {self.signature}"


def demangle(text):
    return run("c++filt", *text.split())


@cache
def instances():
    """Every kernel of every object."""
    usage, code = {}, {}
    for path in OBJECTS:
        arch = function = None
        for line in run(CUOBJDUMP, "--dump-resource-usage", str(path)).splitlines():
            if found := re.match(r"arch = sm_(\d+)", line):
                arch = int(found[1])
            elif found := re.match(r" Function (\S+):", line):
                function = found[1]
            elif "REG:" in line:
                usage[arch, function] = {key: int(value) for key, value in re.findall(r"(\w+):(\d+)", line)}
        for line in run(CUOBJDUMP, "--dump-sass", str(path)).splitlines():
            if found := re.search(r"arch = sm_(\d+)", line):
                arch = int(found[1])
            elif found := re.search(r"Function : (\S+)", line):
                code[arch, found[1]] = opcodes = set()
            elif found := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?\s*([A-Z][\w.]*)", line):
                opcodes.add(found[1])
    assert usage.keys() == code.keys()
    mangled = sorted({function for _, function in usage})
    signatures = dict(zip(mangled, demangle("\n".join(mangled)).splitlines(), strict=True))
    found = []
    for (arch, function), use in usage.items():
        signature = signatures[function].replace("(anonymous namespace)::", "")
        name = re.search(r"(\w+)(?:<.*>)?\(", signature)[1]
        local = use["STACK"] + use["LOCAL"]
        found.append(Instance(name, signature, arch, use["REG"], use["SHARED"], local, tuple(code[arch, function])))
    return found


def test_the_table_names_every_kernel():
    assert {instance.name for instance in instances()} == set(KERNELS)


@pytest.mark.parametrize("name", KERNELS)
def test_registers_allow_the_blocks_that_should_share_a_multiprocessor(name):
    kernel = KERNELS[name]
    for instance in instances():
        if instance.name == name:
            allocated = (instance.registers + 7) // 8 * 8 * kernel.threads  # registers come in eights a thread
            assert allocated * kernel.blocks <= REGISTERS, instance


@pytest.mark.parametrize("name", KERNELS)
def test_static_shared_memory_is_within_the_limit_and_there_is_no_local_memory(name):
    for instance in instances():
        if instance.name == name:
            assert instance.shared <= min(STATIC_SHARED_LIMIT, SHARED_LIMIT[instance.arch]), instance
            assert instance.local == 0, instance


@pytest.mark.parametrize("name", KERNELS)
def test_opcodes(name):
    kernel = KERNELS[name]
    for instance in instances():
        if instance.name == name and not (kernel.except_for and re.search(kernel.except_for, instance.signature)):
            for pattern in kernel.opcodes:
                assert any(re.fullmatch(pattern, opcode) for opcode in instance.opcodes), (str(instance), pattern)
            assert not {opcode for opcode in instance.opcodes if opcode.startswith(("LDL", "STL"))}, instance
