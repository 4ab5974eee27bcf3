"""The geometry of a pooling for fake kernels: the checks and texts of csrc/common/pool2d_check.cpp, on sizes that may
be symbolic."""

import torch

BYTE_AREA = 255  # windows of up to so many positions have taps of one byte


def tap_dtype(kernel_size):
    return torch.uint8 if kernel_size[0] * kernel_size[1] <= BYTE_AREA else torch.int32


def _check_pair(op, name, values, least, complaint):
    if len(values) != 2:
        raise RuntimeError(f"{op}: {name} must either be a single int, or a tuple of two ints, but got {list(values)}")
    for value in values:
        if value < least:
            raise RuntimeError(f"{op}: {complaint}, but got {name}={list(values)}")


def _window(op, kernel, pad, dilation):
    """The span of a dilated kernel, within which the padding must stay."""
    window = dilation * (kernel - 1) + 1
    if window >= 2**63:
        raise RuntimeError(f"{op}: kernel_size={kernel} with dilation={dilation} overflows")
    if pad > window // 2:
        raise RuntimeError(
            f"{op}: pad should be at most half of effective kernel size, but got pad={pad}, kernel_size={kernel} and "
            f"dilation={dilation}"
        )
    if pad > kernel // 2:
        raise RuntimeError(
            f"{op}: pad should be smaller than or equal to half of kernel size, but got pad={pad} and "
            f"kernel_size={kernel}"
        )
    return window


def _extent(size, window, stride, pad, ceil_mode):
    room = size + 2 * pad - window
    out = (room + (stride - 1 if ceil_mode else 0)) // stride + 1
    # The last window must start inside the input or its left padding.
    if ceil_mode and (out - 1) * stride >= size + pad:
        out -= 1
    return out


def windows(op, kernel_size, stride, padding, dilation):
    """The spans of a window, [height, width]; RuntimeError in torch's words, with the op's name, if there is none."""
    _check_pair(op, "kernel_size", kernel_size, 1, "kernel size should be greater than zero")
    _check_pair(op, "stride", stride, 1, "stride should be greater than zero")
    _check_pair(op, "padding", padding, 0, "pad must be non-negative")
    _check_pair(op, "dilation", dilation, 1, "dilation should be greater than zero")
    return [_window(op, *argument) for argument in zip(kernel_size, padding, dilation, strict=True)]


def output_size(op, input, kernel_size, stride, padding, dilation, ceil_mode):
    """[n, c, oh, ow] of pooling an input of size [n, c, h, w].

    Raises:
        RuntimeError: in torch's words, with the op's name.
    """
    spans = windows(op, kernel_size, stride, padding, dilation)
    if len(input) != 4 or any(size == 0 for size in input[1:]):
        raise RuntimeError(
            f"{op}: Expected 3D or 4D (batch mode) tensor with optional 0 dim batch size for input, but got: "
            f"{list(input)}"
        )
    h, w = (_extent(*extent, ceil_mode) for extent in zip(input[2:], spans, stride, padding, strict=True))
    if h <= 0 or w <= 0:
        c = input[1]
        raise RuntimeError(
            f"{op}: Given input size: ({c}x{input[2]}x{input[3]}). Calculated output size: ({c}x{h}x{w}). Output size "
            "is too small"
        )
    return [input[0], input[1], h, w]


def check_taps(op, taps, input_size, *arguments):
    """RuntimeError unless taps have the size (with or without ceil_mode) and the dtype that belong to the pooling."""
    sizes = []
    for ceil_mode in (True, False):
        try:
            sizes.append(output_size(op, input_size, *arguments, ceil_mode))
        except RuntimeError:
            if ceil_mode:
                raise
    if all(list(taps.shape) != size for size in sizes):
        raise RuntimeError(f"{op}: expected taps of size {sizes[0]}, but got {list(taps.shape)}")
    if taps.dtype != tap_dtype(arguments[0]):
        raise RuntimeError(f"{op}: taps must have type {tap_dtype(arguments[0])}, but got {taps.dtype}")
