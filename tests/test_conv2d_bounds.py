"""conv2d reads and writes nothing beyond its tensors: each ends where a page that may not be touched begins."""

import itertools

import pytest
from _isolated import outcomes

GUARDED = """
import ctypes, mmap
import torch.nn.functional as F
import convkit

libc = ctypes.CDLL(None, use_errno=True)

def guarded(tensor):
    '''The tensor, dense in its own order of dimensions, with its last byte at the end of the last page that exists.'''
    size = tensor.nbytes
    pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, pages + mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert libc.mprotect(ctypes.c_void_p(address + pages), mmap.PAGESIZE, 0) == 0
    flat = torch.frombuffer(memory, dtype=tensor.dtype, count=tensor.numel(), offset=pages - size)
    return flat.as_strided(tensor.shape, tensor.stride()).copy_(tensor)

def check(sizes, memory_format, dtype, algorithm, **arguments):
    input, weight = (torch.randn(size).to(dtype, memory_format=memory_format) for size in sizes)
    exact = F.conv2d(input.double(), weight.double(), **arguments)
    grad = torch.randn(exact.shape).to(dtype, memory_format=memory_format)
    leaves = [guarded(t).requires_grad_() for t in (input, weight)]
    output = convkit.conv2d(*leaves, **arguments, algorithm=algorithm)
    rtol = 1e-3 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(output.double(), exact, atol=10 * rtol, rtol=rtol)
    torch.autograd.grad(output, leaves, guarded(grad))
"""

# n, in_channels, height, width; out_channels, in_channels / groups, kh, kw; arguments
CALLS = {
    "half a tile of channels": ((1, 8, 5, 5), (80, 8, 3, 3), {"padding": 1}),
    "a vector and a half": ((1, 8, 5, 5), (72, 8, 3, 3), {}),
    "first layer": ((2, 3, 6, 6), (80, 3, 3, 3), {"padding": 1}),
    "pointwise": ((1, 33, 5, 7), (272, 33, 1, 1), {}),
    "few outputs": ((1, 33, 9, 35), (3, 33, 3, 3), {"padding": 1}),
    "few outputs of one input": ((2, 1, 9, 35), (5, 1, 5, 5), {"padding": 2}),
    "few outputs, tail": ((1, 2, 5, 31), (3, 2, 3, 3), {}),
    "one vector of outputs": ((2, 3, 7, 9), (16, 3, 3, 3), {}),
    "winograd": ((1, 40, 13, 15), (56, 40, 3, 3), {"padding": 1}),
    "winograd of many": ((1, 136, 5, 6), (136, 136, 3, 3), {"padding": 1}),
    "groups": ((1, 16, 6, 5), (160, 8, 3, 3), {"groups": 2}),
    "groups of four": ((1, 20, 6, 5), (20, 4, 3, 3), {"padding": 1, "groups": 5}),
    "groups of few, strided": ((1, 9, 7, 9), (18, 1, 3, 3), {"padding": 1, "stride": 2, "groups": 9}),
    "groups, pointwise": ((1, 20, 6, 5), (20, 4, 1, 1), {"groups": 5}),
    "depthwise": ((1, 41, 7, 9), (41, 1, 3, 3), {"padding": 1, "groups": 41}),
    "strided": ((1, 5, 11, 9), (24, 5, 5, 3), {"stride": 2, "padding": 2}),
}


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512", "avx512_bf16"])
def test_nothing_beyond_a_tensor_is_touched(isa):
    from convkit._library import _C

    if isa not in _C.supported_isas():
        pytest.skip(f"this machine does not run {isa}")
    cases = {}
    for name, (input_size, weight_size, arguments) in CALLS.items():
        for memory_format in ("contiguous_format", "channels_last"):
            for algorithm, dtype in itertools.product(("auto", "direct"), ("float32", "bfloat16")):
                formats = f"torch.{memory_format}, torch.{dtype}"
                call = f"check({(input_size, weight_size)}, {formats}, {algorithm!r}, **{arguments})"
                cases[f"{name}, {memory_format}, {algorithm}, {dtype}"] = GUARDED + call
    results = outcomes(cases, environment={"CONVKIT_ISA": isa})
    assert {name: result for name, result in results.items() if result[0] != "returned"} == {}


# Against torch, an empty output or gradient; torch refuses an image of no width, of which convkit gives zeros.
EMPTY = {
    "no input channels": "result = [list(t.shape) for t in gradients((1, 0, 9, 9), (8, 0, 3, 3))]",
    "no width": "result = convkit.conv2d(torch.randn(1, 32, 4, 0), torch.randn(2, 32, 3, 3), padding=2).abs().sum()",
    "no images": "result = [list(t.shape) for t in gradients((0, 32, 9, 9), (2, 32, 3, 3))]",
}
GRADIENTS = """
import convkit
def gradients(*sizes):
    leaves = [torch.randn(size, requires_grad=True) for size in sizes]
    return torch.autograd.grad(convkit.conv2d(*leaves).sum(), leaves)
"""


def test_empty_tensors():
    results = outcomes({name: GRADIENTS + code for name, code in EMPTY.items()})
    assert results == {
        "no input channels": ("returned", "[[1, 0, 9, 9], [8, 0, 3, 3]]"),
        "no width": ("returned", "tensor(0.)"),
        "no images": ("returned", "[[0, 32, 9, 9], [2, 32, 3, 3]]"),
    }
