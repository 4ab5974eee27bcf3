"""The geometry of a convolution for fake kernels: the checks and texts of csrc/common/conv2d_check.cpp, on sizes that
may be symbolic."""


def _check(condition, text):
    if not condition:
        raise RuntimeError(text)


def _check_list(op, name, values, count, least, complaint):
    _check(len(values) == count, f"{op}: {name} must have {count} values, but got {list(values)}")
    for value in values:
        _check(value >= least, f"{op}: {complaint}, but got {name}={list(values)}")


def _multiply(op, a, b):
    _check(a * b < 2**63, f"{op}: a size of {a} * {b} overflows")
    return a * b


def _extent(op, input, before, after, kernel, dilation):
    """Sizes of the padded input and of the dilated kernel along one dimension."""
    padded, window = input + before + after, dilation * (kernel - 1) + 1
    _check(padded < 2**63, f"{op}: padding=[{before}, {after}] overflows")
    _check(window < 2**63, f"{op}: dilation={dilation} of a kernel of {kernel} overflows")
    return padded, window


def convolved_size(input, weight, stride, padding, dilation):
    """[n, oc, oh, ow], of arguments that have been checked."""
    top, bottom, left, right = padding
    h = (input[2] + top + bottom - dilation[0] * (weight[2] - 1) - 1) // stride[0] + 1
    w = (input[3] + left + right - dilation[1] * (weight[3] - 1) - 1) // stride[1] + 1
    return [input[0], weight[0], h, w]


def output_size(op, input, weight, stride, padding, dilation, groups):
    """[n, oc, oh, ow] of a convolution of an input with a weight of these sizes.

    ``padding`` is (top, bottom, left, right).

    Raises:
        RuntimeError: in torch's words, with the op's name.
    """
    _check(len(weight) == 4, f"{op}: Expected 4D weight, but got weight of size: {list(weight)}")
    _check(len(input) == 4, f"{op}: Expected 4D (batched) input, but got input of size: {list(input)}")
    _check_list(op, "stride", stride, 2, 1, "non-positive stride is not supported")
    _check_list(op, "padding", padding, 4, 0, "negative padding is not supported")
    _check_list(op, "dilation", dilation, 2, 1, "dilation should be greater than zero")
    _check(groups > 0, f"{op}: non-positive groups is not supported, but got groups={groups}")
    for wrong, complaint in (
        (weight[0] < groups, f"be at least {groups}"),
        (weight[0] % groups != 0, f"be divisible by {groups}"),
    ):
        _check(
            not wrong,
            f"{op}: Given groups={groups}, expected weight to {complaint} at dimension 0, but got weight of size "
            f"{list(weight)} instead",
        )
    _check(
        input[1] == _multiply(op, weight[1], groups),
        f"{op}: Given groups={groups}, weight of size {list(weight)}, expected input{list(input)} to have "
        f"{weight[1] * groups} channels, but got {input[1]} channels instead",
    )
    _check(
        weight[2] > 0 and weight[3] > 0, f"{op}: kernel size must be positive, but got weight of size {list(weight)}"
    )
    extents = [
        _extent(op, input[2 + i], padding[2 * i], padding[2 * i + 1], weight[2 + i], dilation[i]) for i in range(2)
    ]
    padded, kernel = zip(*extents, strict=True)
    _check(
        padded[0] >= kernel[0] and padded[1] >= kernel[1],
        f"{op}: Calculated padded input size per channel: ({padded[0]} x {padded[1]}). Kernel size: ({kernel[0]} x "
        f"{kernel[1]}). Kernel size can't be greater than actual input size",
    )
    n, oc, h, w = convolved_size(input, weight, stride, padding, dilation)
    _multiply(op, _multiply(op, _multiply(op, n, oc), _multiply(op, h, w)), 8)  # bytes
    return [n, oc, h, w]
