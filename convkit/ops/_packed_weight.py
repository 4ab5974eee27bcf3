"""Packed weights: what conv2d makes of a weight in each call, made once on request. csrc/cpu/conv2d_packed.cpp.

conv2d keeps nothing by itself: no version counter, address or object tells that a weight has not changed, since fused
optimizers, writes through ``.data`` and swaps of it change one unseen, and a checksum takes longer than packing again.
"""

import functools
from dataclasses import dataclass, field

import torch

from convkit._library import _C
from convkit.ops import _pool2d_shape
from convkit.ops._arguments import dtype_name, empty
from convkit.ops._autograd import define_without_gradient, needs_grad
from convkit.ops._conv2d_fake import check_activation, check_algorithm, fake_output, output_channels_last
from convkit.ops._conv2d_shape import output_size
from convkit.ops._torch_internals import autocast_active, below_autograd, transforms_active

# A frozen weight is packed for images of few pixels: with 4x4 and 512 channels a 3x3 call takes 0.53 ms with a packed
# weight and 0.66 without, with 7x7 1.10 and 1.05 (one thread of an AMD Zen 5).
FEW_PIXELS = 64
# A smaller weight is packed in less time than it takes to look for it.
LEAST_BYTES = 1 << 16


def _fake(input, weight, bias, packed_weight, *arguments):
    *geometry, activation, max_pool, algorithm = arguments
    op = "conv2d_packed"
    output = fake_output(op, input, weight, bias, geometry)
    if input.dtype != torch.float32:
        raise RuntimeError(f"{op}: packed weights are float32, but input has dtype {dtype_name(input.dtype)}")
    check_activation(op, activation, None if max_pool else input.device)
    check_algorithm(op, algorithm, input.device)
    if not max_pool:
        return output
    pool = (max_pool[:2], max_pool[2:4], max_pool[4:])
    sizes = _pool2d_shape.output_size(op, output.shape, *pool, [1, 1], False)
    return empty(sizes, output_channels_last(input, weight), input)


conv2d_packed = define_without_gradient("conv2d_packed", fake=_fake)


@functools.lru_cache(4096)
def _shape(input_size, weight_size, stride, padding, dilation, groups):
    """What csrc/common/conv2d_shape.h holds, as a tuple of ints."""
    output = output_size("conv2d", input_size, weight_size, stride, padding, dilation, groups)
    return (*input_size, *output[1:], *weight_size[2:], *stride, padding[0], padding[2], *dilation, groups)


@functools.lru_cache(4096)
def _algorithm(shape, algorithm, _float32_algorithm):
    """The algorithm that a float32 forward call takes, by name; None if it packs no weight."""
    chosen = _C.conv2d_plan("forward", shape, "float32", algorithm, False)["algorithm"]
    return chosen if _C.packed_weight_bytes(shape, chosen) else None


def _pack(weight, shape, algorithm):
    """-> uint8 [bytes]: a header that names what it was made for, and the blocks that the kernels read."""
    packed = torch.empty(_C.packed_weight_bytes(shape, algorithm), dtype=torch.uint8)
    _C.pack_weight(shape, algorithm, weight.data_ptr(), weight.stride(), packed.data_ptr())
    return packed


@dataclass
class FrozenWeight:
    """A weight that is taken not to change, and what was packed of it; stands for the weight in calls of conv2d.

    Attributes:
        last: what the last call passed as arguments, and as conv2d had checked and normalised them.
    """

    weight: torch.Tensor
    packed: dict = field(default_factory=dict)
    last: tuple = (None, None)

    def __getstate__(self):
        return {"weight": self.weight, "packed": {}, "last": (None, None)}  # another machine may pack another way

    def run_again(self, input, bias, arguments):
        """conv2d of plain images on the CPU with the arguments of the last call, unchecked; None where that is not the
        call or a packed weight may serve it. In a network of many small layers the checks take longer than some of
        them."""
        asked, normalised = self.last
        if (
            asked != arguments
            or type(input) is not torch.Tensor
            or not input.is_cpu
            or input.dim() != 4
            or self.pays(input, normalised[0])
            or torch.is_grad_enabled()
            or torch.compiler.is_compiling()
            or transforms_active()
            or autocast_active()
        ):
            return None
        with below_autograd():
            return torch.ops.convkit.conv2d.default(input, self.weight, bias, *normalised)

    def pays(self, input, stride):
        """Whether a packed weight takes less time for images of this size."""
        few = input.numel() <= FEW_PIXELS * stride[0] * stride[1] * input.shape[1]
        return few and self.weight.numel() * 4 >= LEAST_BYTES

    def packed_for(self, shape, algorithm):
        if algorithm not in self.packed:
            self.packed[algorithm] = _pack(self.weight, shape, algorithm)
        return self.packed[algorithm]


@dataclass(frozen=True, eq=False)
class PackedWeight:
    """What :func:`prepack` returns; can be pickled and copied.

    Attributes:
        weight, bias: the originals, detached; bias may be None.
        stride, padding, dilation, groups: of the calls that it serves; padding is (top, bottom, left, right).
        algorithm: the one that it was packed for; of a weight that is not on the CPU, the one that was asked for.
        isa: the instruction set that it was packed for; on another one calls pack ``weight`` themselves.
        packed: uint8 bytes, or None where the algorithm packs nothing.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    stride: tuple
    padding: tuple
    dilation: tuple
    groups: int
    algorithm: str
    isa: str
    packed: torch.Tensor | None

    def bytes_for(self, input, weight, bias):
        """The packed bytes if a call can take them, else None."""
        return self.packed if self.isa == _C.isa() and serves(input, weight, bias) else None

    def check(self, stride, padding, dilation, groups, algorithm):
        """ValueError where a call differs from what the weight was packed for."""
        asked = {"stride": tuple(stride), "padding": tuple(padding), "dilation": tuple(dilation), "groups": groups}
        if algorithm != "auto":
            asked["algorithm"] = algorithm
        for name, value in asked.items():
            if value != getattr(self, name):
                raise ValueError(
                    f"conv2d: {name}={value}, but the packed weight was made for {name}={getattr(self, name)}"
                )


def prepack_arguments(weight, bias, stride, padding, dilation, groups, input_size, algorithm):
    """`convkit.prepack` with arguments that are checked and normalised."""
    weight, bias = weight.detach(), None if bias is None else bias.detach()
    shape = _shape((1, weight.shape[1] * groups, *input_size), tuple(weight.shape), stride, padding, dilation, groups)
    on_cpu = weight.device.type == "cpu"  # elsewhere each call chooses, and packs in its stream
    if on_cpu:
        dtype = str(weight.dtype).removeprefix("torch.")
        algorithm = _C.conv2d_plan("forward", shape, dtype, algorithm, False)["algorithm"]
    packs = on_cpu and weight.dtype == torch.float32 and _C.packed_weight_bytes(shape, algorithm)
    packed = _pack(weight, shape, algorithm) if packs else None
    return PackedWeight(weight, bias, stride, padding, dilation, groups, algorithm, _C.isa(), packed)


def find(frozen, input, bias, stride, padding, dilation, groups, algorithm):
    """(what is packed of a frozen weight for a call, algorithm); the first is None where that does not pay."""
    weight = frozen.weight
    if (
        not frozen.pays(input, stride)
        or not serves(input, weight, bias)
        or not (weight.is_contiguous() or weight.is_contiguous(memory_format=torch.channels_last))
    ):
        return None, algorithm
    geometry = (tuple(stride), tuple(padding), tuple(dilation), groups)
    shape = _shape(tuple(input.shape), tuple(weight.shape), *geometry)
    chosen = _algorithm(shape, algorithm, _C.get_float32_algorithm())
    return (None, algorithm) if chosen is None else (frozen.packed_for(shape, chosen), chosen)


def serves(input, weight, bias):
    """Whether a call can take packed weights at all: float32 on the CPU, nobody records or transforms it."""
    return (
        not torch.compiler.is_compiling()
        and type(weight) in (torch.Tensor, torch.nn.Parameter)
        and type(input) in (torch.Tensor, torch.nn.Parameter)
        and weight.dtype == torch.float32
        and weight.device.type == input.device.type == "cpu"
        and not needs_grad((input, weight, bias))
        and not transforms_active()
        and not autocast_active()
    )
