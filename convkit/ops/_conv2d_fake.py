"""Fake kernels of the convolution ops: the checks, shapes and strides of the real ones, without data."""

from convkit.ops._arguments import dtype_name, empty, suggests_channels_last
from convkit.ops._conv2d_shape import output_size


def check_same_dtype(op, first_name, first, second_name, second):
    # Making a device's name takes longer than all other checks together.
    if not (first.is_cpu and second.is_cpu) and first.device.type != second.device.type:
        raise RuntimeError(f"{op}: {first_name} and {second_name} must be on the same device")
    if first.dtype != second.dtype:
        raise RuntimeError(
            f"{op}: {first_name} type ({dtype_name(first.dtype)}) and {second_name} type "
            f"({dtype_name(second.dtype)}) should be the same"
        )


def check_bias(op, bias, weight):
    check_same_dtype(op, "weight", weight, "bias", bias)
    if bias.dim() != 1 or bias.shape[0] != weight.shape[0]:
        raise RuntimeError(
            f"{op}: Given weight of size {list(weight.shape)}, expected bias to be 1-dimensional with "
            f"{weight.shape[0]} elements, but got bias of size {list(bias.shape)} instead"
        )


# In the order in which "auto" considers them.
ALGORITHMS = ("auto", "winograd", "depthwise", "grouped", "kn2row", "direct", "generic")
CUDA_ALGORITHMS = ("auto", "winograd", "depthwise", "kn2row", "tf32", "direct", "3xtf32", "grouped", "generic")


def check_activation(op, activation, device=None):
    """``device``: of a convolution, which knows ReLU6 on the CPU; None for ops that do not."""
    known = ("none", "relu", "relu6") if device is not None and device.type != "cuda" else ("none", "relu")
    if activation not in known:
        listed = ", ".join(f"'{name}'" for name in known[:-1])
        raise RuntimeError(f"{op}: activation must be {listed} or '{known[-1]}', but got '{activation}'")


def check_algorithm(op, algorithm, device):
    """Of CUDA there is also "auto_tf32", which conv2d makes of "auto" where float32 may be rounded."""
    names = CUDA_ALGORITHMS if device.type == "cuda" else ALGORITHMS
    if device.type == "cuda" and algorithm == "auto_tf32":
        return
    if algorithm not in names:
        raise ValueError(f"{op}: algorithm must be one of {', '.join(map(repr, names))}, but got '{algorithm}'")


def output_channels_last(input, weight):
    """The format of a convolution's output: the input's or the weight's; contiguous where there is no input."""
    return input.numel() != 0 and (suggests_channels_last(input) or suggests_channels_last(weight))


def fake_output(op, input, weight, bias, geometry):
    """What a convolution of these tensors returns, or its error. ``geometry``: stride, padding, dilation, groups."""
    sizes = output_size(op, input.shape, weight.shape, *geometry)
    check_same_dtype(op, "input", input, "weight", weight)
    if bias is not None:
        check_bias(op, bias, weight)
    return empty(sizes, output_channels_last(input, weight), input)


def _check_grad_output(op, grad_output, sizes):
    if list(grad_output.shape) != list(sizes):
        raise RuntimeError(f"{op}: expected grad_output of size {list(sizes)}, but got {list(grad_output.shape)}")


def conv2d(input, weight, bias, stride, padding, dilation, groups, activation, algorithm):
    output = fake_output("conv2d", input, weight, bias, (stride, padding, dilation, groups))
    check_activation("conv2d", activation, input.device)
    check_algorithm("conv2d", algorithm, input.device)
    return output


def conv2d_backward_input(grad_output, weight, input_size, channels_last, stride, padding, dilation, groups, algorithm):
    op = "conv2d_backward_input"
    sizes = output_size(op, input_size, weight.shape, stride, padding, dilation, groups)
    check_same_dtype(op, "grad_output", grad_output, "weight", weight)
    _check_grad_output(op, grad_output, sizes)
    check_algorithm(op, algorithm, weight.device)
    return empty(input_size, channels_last, weight)


def conv2d_backward_weight(
    grad_output, input, weight_size, channels_last, stride, padding, dilation, groups, algorithm
):
    op = "conv2d_backward_weight"
    sizes = output_size(op, input.shape, weight_size, stride, padding, dilation, groups)
    check_same_dtype(op, "grad_output", grad_output, "input", input)
    _check_grad_output(op, grad_output, sizes)
    check_algorithm(op, algorithm, input.device)
    return empty(weight_size, channels_last, input)


def conv2d_backward_bias(grad_output):
    if grad_output.dim() != 4:
        raise RuntimeError(f"conv2d_backward_bias: expected a 4D grad_output, but got size {list(grad_output.shape)}")
    return grad_output.new_empty([grad_output.shape[1]])
