"""Arguments as PyTorch users write them, made into what the ops take; each complaint names op, argument and value."""

import torch

FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
REAL = (*FLOATING, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def check_tensor(op, name, value):
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{op}(): argument '{name}' must be Tensor, not {type(value).__name__}")


def check_dtype(op, tensor, dtypes):
    """NotImplementedError in torch's words unless the tensor's dtype is one of these."""
    if tensor.dtype not in dtypes:
        raise NotImplementedError(f"\"{op}\" not implemented for '{dtype_name(tensor.dtype)}' ({tensor.dtype})")


def dtype_name(dtype):
    """torch's name of a dtype in its messages: 'Float', 'BFloat16'."""
    names = {
        torch.float32: "Float", torch.float64: "Double", torch.bfloat16: "BFloat16", torch.float16: "Half",
        torch.uint8: "Byte", torch.int8: "Char", torch.int16: "Short", torch.int32: "Int", torch.int64: "Long",
        torch.bool: "Bool", torch.complex64: "ComplexFloat", torch.complex128: "ComplexDouble",
    }  # fmt: skip
    return names.get(dtype, str(dtype).removeprefix("torch."))


def pair(op, name, value):
    """An int or a sequence of one or two ints -> [height, width]."""
    if type(value) is int and -(2**63) <= value < 2**63:
        return [value, value]
    plain = type(value) is tuple and len(value) == 2 and type(value[0]) is type(value[1]) is int
    if plain and -(2**63) <= min(value) <= max(value) < 2**63:
        return list(value)
    values = list(value) if isinstance(value, (tuple, list)) else [value]
    for v in values:
        if isinstance(v, (bool, float)) or not isinstance(v, (int, torch.SymInt)):
            raise TypeError(f"{op}(): argument '{name}' must be an int or a tuple of ints, but got {value!r}")
    if len(values) not in (1, 2):
        raise RuntimeError(
            f"{op}: expected {name} to be a single integer value or a list of 2 values to match the convolution "
            f"dimensions, but got {name}={values}"
        )
    for v in values:
        check_int64(op, name, v)
    return values * 2 if len(values) == 1 else values


def check_int64(op, name, value):
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{op}: Overflow when unpacking long long: {name}={value}")


def suggests_channels_last(tensor):
    """Whether torch would give the result of an op on this 4-D tensor the channels_last format."""
    if tensor.dim() != 4 or tensor.stride(1) == 0:
        return False
    (n, c, h, w), (stride_n, stride_c, stride_h, stride_w) = tensor.shape, tensor.stride()
    least = 0
    for size, stride in ((c, stride_c), (w, stride_w), (h, stride_h)):
        if size == 0 or stride < least:
            return False
        least = stride * size if size > 1 else stride
    return n != 0 and stride_n >= least and least != stride_c


def empty(sizes, channels_last, like, dtype=None):
    """An uninitialised tensor as the C++ ops allocate it, for fake kernels."""
    strides, stride = [0] * len(sizes), 1
    for d in (1, 3, 2, 0) if channels_last else range(len(sizes) - 1, -1, -1):
        strides[d] = stride
        stride = stride * torch.sym_max(sizes[d], 1)
    return like.new_empty_strided(sizes, strides, dtype=dtype or like.dtype)
