"""torch.library.opcheck for every op that is registered, and the fake kernels' errors beside the real ones'."""

import pytest
import torch

import convkit
from convkit.testing.shapes import LAYOUTS, random
from tests._devices import DEVICES

GEOMETRY = ([2, 1], [1, 0, 2, 1], [1, 2], 1)  # stride, padding (top, bottom, left, right), dilation, groups
POOL = ([3, 2], [2, 1], [1, 1], [1, 1])  # kernel_size, stride, padding, dilation


def conv_tensors(dtype, layout):
    """Input, weight, bias and a gradient of the output for GEOMETRY."""
    sizes = [(2, 3, 7, 8), (4, 3, 3, 2), (4,), (2, 4, 3, 9)]
    tensors = [random(size, dtype, seed=i) for i, size in enumerate(sizes)]
    return [LAYOUTS[layout](t) if t.dim() == 4 else t for t in tensors]


def taps_of(input):
    """Winning positions of POOL for an input, as the op gives them."""
    return torch.ops.convkit.max_pool2d_with_taps(input, *POOL, False)


def packed(weight):
    """A packed weight for GEOMETRY, which only float32 has."""
    stride, (top, _bottom, left, _right), dilation, groups = GEOMETRY
    return convkit.prepack(weight.float(), None, stride, (top, left), dilation, groups, algorithm="direct").packed


def samples(name, dtype, layout):
    """Arguments of one call of an op; adding an op means adding its line here."""
    input, weight, bias, grad = conv_tensors(dtype, layout)
    last = layout == "channels_last"
    sizes = [list(input.shape), last], [list(weight.shape), last]
    table = {
        "relu": lambda: [input],
        "relu_": lambda: [input],
        "relu_backward": lambda: [input, input.clone()],
        "conv2d": lambda: [input, weight, bias, *GEOMETRY, "relu", "auto"],
        "conv2d_backward_input": lambda: [grad, weight, *sizes[0], *GEOMETRY, "auto"],
        "conv2d_backward_weight": lambda: [grad, input, *sizes[1], *GEOMETRY, "auto"],
        "conv2d_backward_bias": lambda: [grad],
        "conv2d_max_pool2d": lambda: [input, weight, None, *GEOMETRY, "relu", [2, 2], [1, 2], [0, 1], True, "auto"],
        "conv2d_packed": lambda: [input, weight, bias, packed(weight), *GEOMETRY, "relu", [2, 2, 1, 2, 0, 1], "direct"],
        "max_pool2d": lambda: [input, *POOL, True],
        "max_pool2d_with_taps": lambda: [input, *POOL, False],
        "max_pool2d_indices": lambda: [taps_of(input)[1], list(input.shape), *POOL],
        "max_pool2d_backward": lambda: [*taps_of(input), list(input.shape), last, *POOL],
        "max_pool2d_gather": lambda: [input, taps_of(input)[1], *POOL],
        "linear": lambda: [input[0, 0], random((5, 8), dtype), random((5,), dtype), "relu"],
    }
    return table[name]()


NAMES = sorted(n.split("::")[1] for n in torch._C._dispatch_get_all_op_names() if n.startswith("convkit::"))
NOT_DIFFERENTIABLE = ("max_pool2d_indices", "conv2d_packed")


def op_of(name):
    return getattr(torch.ops.convkit, name).default


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "sliced"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", NAMES)
@DEVICES
def test_opcheck(name, dtype, layout, device):
    if name == "conv2d_packed" and (dtype != torch.float32 or device != "cpu"):
        pytest.skip("packed weights are float32 on the CPU")
    arguments = [a.to(device) if isinstance(a, torch.Tensor) else a for a in samples(name, dtype, layout)]
    torch.library.opcheck(op_of(name), arguments)
    if name == "relu_" or name in NOT_DIFFERENTIABLE:
        return  # relu_ as a raw op refuses to record a gradient
    floating = [isinstance(a, torch.Tensor) and a.is_floating_point() for a in arguments]
    leaves = [a.detach().requires_grad_() if f else a for a, f in zip(arguments, floating, strict=True)]
    torch.library.opcheck(op_of(name), leaves)


def meta_like(tensor):
    """A tensor without data of the same strides, whatever they are."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def significant_strides(tensor):
    """Those that matter: torch's own fake tensors differ from real ones in the others."""
    return [stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size > 1 and tensor.numel()]


@pytest.mark.parametrize("layout", [*LAYOUTS])
@pytest.mark.parametrize("size", [(2, 3, 7, 8), (0, 3, 7, 8), (1, 1, 7, 8), (2, 3, 7, 2), (1, 3, 7, 1)], ids=str)
def test_fake_output_has_the_real_strides(size, layout):
    """Ambiguous strides (one channel, one pixel, no image) included."""
    arrange = LAYOUTS[layout]
    input, pool = arrange(random(size)), ([2, 1], [2, 1], [0, 0], [1, 1], False)
    weight = arrange(random((4, size[1], 3, 1)))
    calls = {
        "relu": [input],
        "conv2d": [input, weight, None, [1, 1], [1, 1, 0, 0], [1, 1], 1, "none", "auto"],
        "max_pool2d": [input, *pool],
        "max_pool2d_with_taps": [input, *pool],
    }
    for name, arguments in calls.items():
        meta = [meta_like(a) if isinstance(a, torch.Tensor) else a for a in arguments]
        real, fake = op_of(name)(*arguments), op_of(name)(*meta)
        for one, other in zip(*[r if isinstance(r, tuple) else (r,) for r in (real, fake)], strict=True):
            assert (one.shape, one.dtype) == (other.shape, other.dtype), name
            assert significant_strides(one) == significant_strides(other), name


# name of the op -> changes of one argument of its sample that must be refused, by position
WRONG = {
    "relu_backward": {0: [torch.ones(2, 3)]},
    "conv2d": {
        0: [torch.ones(2, 4, 7, 8), torch.ones(3, 7, 8), torch.ones(2, 3, 7, 8).double(), torch.ones(2, 3, 0, 8)],
        1: [torch.ones(4, 3, 3), torch.ones(4, 3, 0, 2), torch.ones(0, 3, 3, 2), torch.ones(4, 3, 99, 2)],
        2: [torch.ones(5), torch.ones(4, 1), torch.ones(4).double()],
        3: [[0, 1], [1], [-1, 1], [1, 1, 1]],
        4: [[-1, 0, 0, 0], [1, 1], [2**62, 2**62, 2**62, 0]],
        5: [[0, 1], [1, -1], [2**62, 1], [1]],
        6: [0, -1, 2, 3, 2**62],
        7: ["tanh"],
        8: ["fastest"],
    },
    "conv2d_backward_input": {
        0: [torch.ones(2, 4, 3, 8), torch.ones(4, 3, 9), torch.ones(2, 4, 3, 9).double()],
        1: [torch.ones(4, 2, 3, 2)],
        2: [[2, 3, 7], [2, 3, 7, 9], [2, 2, 7, 8], [-2, 3, 7, 8]],
        4: [[0, 1]],
        5: [[-9, 0, 0, 0]],
    },
    "conv2d_backward_weight": {
        0: [torch.ones(2, 4, 3, 8), torch.ones(2, 5, 3, 9)],
        1: [torch.ones(2, 2, 7, 8)],
        2: [[4, 3, 3], [4, 3, 9, 9], [4, 2, 3, 2], [-4, 3, 3, 2]],
        7: [0],
    },
    "conv2d_backward_bias": {0: [torch.ones(3), torch.ones(2, 3, 4)]},
    "linear": {
        0: [torch.ones(7), torch.ones(7, 9), torch.ones(7, 8).double()],
        1: [torch.ones(5), torch.ones(5, 9)],
        2: [torch.ones(4), torch.ones(1, 5)],
        3: ["tanh"],
    },
}
CHANGES = [(op, at, i) for op, changes in WRONG.items() for at, values in changes.items() for i in range(len(values))]


def raised(op, arguments):
    with pytest.raises(Exception, match=r".+") as caught:
        op(*arguments)
    return type(caught.value), str(caught.value).splitlines()[0]


@pytest.mark.parametrize(("name", "position", "which"), CHANGES)
def test_fake_and_real_refuse_alike(name, position, which):
    arguments = samples(name, torch.float32, "contiguous")
    arguments[position] = WRONG[name][position][which]
    meta = [a.to("meta") if isinstance(a, torch.Tensor) else a for a in arguments]
    real = raised(op_of(name), arguments)
    assert raised(op_of(name), meta) == real
    assert issubclass(real[0], (RuntimeError, ValueError))
    assert name in real[1]
