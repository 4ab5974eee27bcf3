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

    threads: int = 256  # a block, at most
    blocks: int = 1  # that fit a multiprocessor together, by their registers
    opcodes: tuple = ()  # regular expressions: each matches an instruction of every instance
    only: str = ""  # the instances that need the opcodes, by a regular expression of their signatures
    least_arch: int = 0  # where they need them
    most_arch: int = 1000


VECTORS = (r"LDG\.E\.(?:\w+\.)*128(?:\.\w+)*", r"STG\.E\.(?:\w+\.)*128(?:\.\w+)*")
# Shared memory read 16 bytes at a time, multiply-adds, copies past the registers.
FFMA = (r"LDS\.128", r"FFMA")
COPIES = (r"LDGSTS\.E\.(?:\w+\.)*128(?:\.\w+)*",)
# Products of a warpgroup, copies of many bytes by one instruction.
HOPPER = (r"HGMMA\.64x\d+x\d+\.F32(?:\.BF16|\.TF32)?", r"UBLKCP[\w.]*", *COPIES)
MATRICES = (r"HMMA\.1\w+\.F32(?:\.BF16|\.TF32)?", *COPIES)

# "file/kernel"
KERNELS = {
    "bias/add_parts_kernel": Kernel(),
    "bias/channel_sums_channels_last_kernel": Kernel(),
    "bias/channel_sums_kernel": Kernel(),
    "channels_last/channels_last_kernel": Kernel(opcodes=VECTORS[1:]),
    "conv2d_depthwise/depthwise_kernel": Kernel(),
    "conv2d_depthwise_backward_weight/add_parts_kernel": Kernel(),
    "conv2d_depthwise_backward_weight/backward_weight_kernel": Kernel(),
    "conv2d_ffma/conv2d_ffma_kernel": Kernel(threads=128, blocks=3, opcodes=(*FFMA, *COPIES), least_arch=80),
    "conv2d_ffma_backward_weight/conv2d_ffma_backward_weight_kernel": Kernel(blocks=2, opcodes=FFMA, least_arch=80),
    "conv2d_generic/backward_input_kernel": Kernel(),
    "conv2d_generic/backward_weight_kernel": Kernel(),
    "conv2d_generic/conv2d_kernel": Kernel(),
    "conv2d_generic/conv2d_max_pool2d_kernel": Kernel(),
    "conv2d_grouped/conv2d_grouped_kernel": Kernel(
        blocks=2, opcodes=(*FFMA, *VECTORS), only="<float, true,", least_arch=80
    ),
    "conv2d_grouped_backward_weight/conv2d_grouped_backward_weight_kernel": Kernel(
        blocks=2, opcodes=(r"FFMA", VECTORS[0]), only="<float, true,"
    ),
    "conv2d_mma/conv2d_mma_kernel": Kernel(opcodes=MATRICES, least_arch=80),
    "conv2d_mma_backward_weight/conv2d_mma_backward_weight_kernel": Kernel(opcodes=MATRICES[:1], least_arch=80),
    "conv2d_prepare/conv2d_prepare_kernel": Kernel(blocks=4),
    "conv2d_prepare/conv2d_sum_splits_kernel": Kernel(blocks=4),
    "conv2d_wgmma/conv2d_wgmma_kernel": Kernel(threads=128, blocks=2, opcodes=HOPPER, least_arch=90, most_arch=90),
    "device/any_kernel": Kernel(),
    "max_pool2d/forward_channels_last_kernel": Kernel(opcodes=VECTORS),
    "max_pool2d/forward_channels_last_square_kernel": Kernel(blocks=2, opcodes=VECTORS),
    "max_pool2d/forward_kernel": Kernel(),
    "max_pool2d/forward_planes_kernel": Kernel(),
    "max_pool2d/forward_strips_kernel": Kernel(blocks=2),
    "max_pool2d/forward_tiled_kernel": Kernel(opcodes=VECTORS[:1]),
    "max_pool2d_backward/backward_channels_last_blocks_kernel": Kernel(blocks=2, opcodes=VECTORS[1:]),
    "max_pool2d_backward/backward_channels_last_kernel": Kernel(),
    "max_pool2d_backward/backward_kernel": Kernel(),
    "max_pool2d_backward/backward_planes_kernel": Kernel(),
    "max_pool2d_backward/backward_strips_kernel": Kernel(blocks=2),
    "max_pool2d_backward/backward_tiled_kernel": Kernel(),
    "max_pool2d_taps/gather_kernel": Kernel(),
    "max_pool2d_taps/indices_kernel": Kernel(),
    "relu/relu_backward_kernel": Kernel(blocks=4, opcodes=VECTORS),
    "relu/relu_kernel": Kernel(blocks=4, opcodes=VECTORS),
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
    opcodes: set

    def __str__(self):
        return f"sm_{self.arch} {self.signature}"


def resource_usage(path):
    """{(architecture, mangled name): {"REG": registers, ...}} of an object."""
    usage, arch, function = {}, 0, ""
    for line in run(CUOBJDUMP, "--dump-resource-usage", str(path)).splitlines():
        if found := re.match(r"arch = sm_(\d+)", line):
            arch = int(found[1])
        elif found := re.match(r" Function (\S+):", line):
            function = found[1]
        elif "REG:" in line:
            usage[arch, function] = {key: int(value) for key, value in re.findall(r"(\w+):(\d+)", line)}
    return usage


def opcodes(path):
    """{(architecture, mangled name): the opcodes} of an object."""
    code, arch, current = {}, 0, set()
    for line in run(CUOBJDUMP, "--dump-sass", str(path)).splitlines():
        if found := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?\s*([A-Z][\w.]*)", line):
            current.add(found[1])
        elif found := re.search(r"arch = sm_(\d+)", line):
            arch = int(found[1])
        elif found := re.search(r"Function : (\S+)", line):
            current = code[arch, found[1]] = set()
    return code


@cache
def instances():
    """Every kernel of every object."""
    found = []
    for path in OBJECTS:
        usage, file = resource_usage(path), path.name.removeprefix("csrc.cuda.").removesuffix(".cu.o")
        asked = any(kernel.opcodes for name, kernel in KERNELS.items() if name.startswith(f"{file}/"))
        code = opcodes(path) if asked else {}  # disassembling takes a while
        mangled = sorted({function for _, function in usage})
        demangled = run("c++filt", *mangled).splitlines() if mangled else []
        signatures = dict(zip(mangled, demangled, strict=True))
        for (arch, function), use in usage.items():
            signature = signatures[function].replace("(anonymous namespace)::", "")
            kernel = re.search(r"(\w+)(?:<.*>)?\(", signature)[1]
            local, instructions = use["STACK"] + use["LOCAL"], code.get((arch, function), set())
            found.append(Instance(f"{file}/{kernel}", signature, arch, use["REG"], use["SHARED"], local, instructions))
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
        if (
            instance.name == name
            and kernel.least_arch <= instance.arch <= kernel.most_arch
            and re.search(kernel.only, instance.signature)
        ):
            for pattern in kernel.opcodes:
                assert any(re.fullmatch(pattern, opcode) for opcode in instance.opcodes), (str(instance), pattern)
