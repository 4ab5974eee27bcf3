"""The numerics contract: how far a result may be from the exact one. Nothing else sets a tolerance.

The exact result is the same call in float64. An error is measured against the largest *magnitude*, the same sum over
absolute values: rounding is proportional to it, however much of it cancels. So

    max|error| <= c * eps * max(magnitude)

with ``eps`` of the output's dtype. 16-bit types accumulate in float32 and round once.
"""

import contextlib

import torch

FACTOR = {
    "direct": 12,
    "depthwise": 12,
    "grouped": 12,
    "kn2row": 12,
    "generic": 12,
    "winograd": 50,
}  # c, for float32 and float64
FACTOR_16_BIT = 1  # beside float32's own error
EPS_TF32 = 2.0**-10  # to which "tf32" rounds both operands: half of it each, beside float32's own error
# The relative L2 error of Winograd may be so many times that of direct sums, by window. Direct sums of 5x5 windows are
# summed row by row from 21 channels on, which makes them more accurate: 4.4 without fused multiply-adds, 4.1 with.
WINOGRAD_TIMES_DIRECT = {3: 3, 5: 4.5}
# The gradient of its weight where half of input and grad_output are zeros: direct sums round only half of their terms.
# 4.7 without fused multiply-adds (3x3 windows, 12x12 pixels), 4.4 with.
WINOGRAD_SPARSE_WEIGHT_TIMES_DIRECT = 4.75
# Direct float32 is also compared with torch in the same dtype.
TIMES_TORCH, PLUS_EPS = 2, 4
HALF_TYPES = (torch.bfloat16, torch.float16)


def reference(function, tensors, grad_output=None):
    """The exact results of ``function(*tensors)``, each as a pair (exact, magnitude) in float64.

    Args:
        function: a sum of products, such as a convolution; it is called with torch tensors.
        tensors: its tensor arguments; None is passed on.
        grad_output: if given, the gradients of all tensors follow the output.
    """
    exact = _in_float64(function, tensors, grad_output, lambda t: t)
    return list(zip(exact, _in_float64(function, tensors, grad_output, torch.abs), strict=True))


def in_own_dtype(function, tensors, grad_output=None):
    """``function(*tensors)`` as it is, and the gradients of its tensors if there is a ``grad_output``."""
    leaves = [t if t is None else t.detach().requires_grad_(grad_output is not None) for t in tensors]
    output = function(*leaves)
    if grad_output is None:
        return [output]
    return [output.detach(), *torch.autograd.grad(output, [t for t in leaves if t is not None], grad_output)]


def _in_float64(function, tensors, grad_output, of):
    copies = [t if t is None else of(t.detach().double().contiguous()) for t in tensors]
    return in_own_dtype(function, copies, None if grad_output is None else of(grad_output.double().contiguous()))


def bound(magnitude, dtype, algorithm="direct"):
    """The largest error that the contract accepts."""
    largest = magnitude.max().item() if magnitude.numel() else 0.0
    if dtype in HALF_TYPES:
        own = FACTOR_16_BIT * torch.finfo(dtype).eps
        return (own + FACTOR[algorithm] * torch.finfo(torch.float32).eps) * largest
    if algorithm == "tf32":
        return (EPS_TF32 + FACTOR["direct"] * torch.finfo(dtype).eps) * largest
    return FACTOR[algorithm] * torch.finfo(dtype).eps * largest


def largest_error(actual, exact):
    """``max|actual - exact|``; not finite if ``actual`` is not."""
    if actual.numel() == 0:
        return 0.0
    return (actual.double() - exact).abs().max().item()


def assert_close(actual, exact, magnitude, algorithm="direct", what="result"):
    """Hold a result to the contract."""
    assert actual.shape == exact.shape, f"{what}: size {list(actual.shape)}, expected {list(exact.shape)}"
    error, limit = largest_error(actual, exact), bound(magnitude, actual.dtype, algorithm)
    assert error <= limit, f"{what}: error {error:.3g} is above {limit:.3g} ({algorithm}, {actual.dtype})"


def relative_error(actual, exact):
    """``|actual - exact| / |exact|`` in the L2 norm."""
    return ((actual.double() - exact).norm() / exact.norm()).item()


def assert_not_worse_than_torch(actual, torchs, exact, what="result"):
    """Hold a direct float32 result to torch's own error on the same data."""
    largest = exact.abs().max().item() if exact.numel() else 0.0
    limit = TIMES_TORCH * largest_error(torchs, exact) + PLUS_EPS * torch.finfo(torch.float32).eps * largest
    error = largest_error(actual, exact)
    assert error <= limit, f"{what}: error {error:.3g} is above {limit:.3g}, which torch's own error allows"


class Contract:
    """The exact results of one call, to which any algorithm's results are held.

    Args:
        torch_function: torch's convolution or linear map, of ``tensors``.
        tensors: its tensor arguments; those that are None have no gradient.
        grad_output: if given, the gradients of all tensors are held to the contract too.
    """

    def __init__(self, torch_function, tensors, grad_output=None):
        self.tensors, self.grad_output = tensors, grad_output
        with one_thread():  # starting threads for such small sums takes longer than the sums
            self.expected = reference(torch_function, tensors, grad_output)
            self.torchs = [None] * len(self.expected)
            if tensors[0].dtype == torch.float32:
                self.torchs = in_own_dtype(torch_function, tensors, grad_output)
        self.names = ["output"]
        if grad_output is not None:
            self.names += [f"gradient of tensor {i}" for i, t in enumerate(tensors) if t is not None]

    def hold(self, function, algorithm="direct"):
        """Call ``function`` on the tensors, compare, and return its results: the output, then the gradients."""
        results = in_own_dtype(function, self.tensors, self.grad_output)
        self.hold_results(results, algorithm)
        return results

    def hold_results(self, results, algorithm="direct"):
        """Compare results that begin with the output; gradients may be left out."""
        for what, actual, torchs, (exact, magnitude) in zip(
            self.names, results, self.torchs, self.expected, strict=False
        ):
            assert_close(actual, exact, magnitude, algorithm, what)
            if torchs is not None and algorithm == "direct":
                assert_not_worse_than_torch(actual, torchs, exact, what)


@contextlib.contextmanager
def one_thread():
    """Run torch on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
