"""convkit.explain: which algorithm each op of a call takes, and why."""

from dataclasses import dataclass, field

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from convkit._library import _C
from convkit._text import counted

_DIRECTIONS = {
    "conv2d": "forward",
    "conv2d_max_pool2d": "forward",
    "conv2d_packed": "forward",
    "conv2d_backward_input": "backward_input",
    "conv2d_backward_weight": "backward_weight",
}
_CUDA = bool(_C.build_info()["cuda_archs"])


@dataclass(frozen=True)
class OpPlan:
    """How one op of a call runs. ``tile`` is (pixels, output channels) of the register tile, bytes are of one task.

    Of a call on CUDA, ``algorithm`` and ``passed_over`` are all there is.
    """

    op: str
    sizes: tuple
    dtype: str
    device: str
    algorithm: str | None = None
    isa: str | None = None
    threads: int = 1
    tile: tuple[int, int] | None = None
    tasks: int = 0
    workspace_bytes: int = 0
    packed_bytes: int = 0
    passed_over: dict = field(default_factory=dict)

    def __str__(self):
        sizes = ", ".join("x".join(map(str, size)) for size in self.sizes)
        lines = [f"{self.op}({sizes}) {self.dtype} on {self.device}"]
        if self.algorithm is None:
            return f"{lines[0]}: one kernel" + (f", {self.isa}, {counted(self.threads, 'thread')}" if self.isa else "")
        lines.append(f"  algorithm     {self.algorithm}")
        if self.isa:
            lines.append(f"  isa, threads  {self.isa}, {self.threads}")
        if self.tasks:
            lines.append(f"  tile          {self.tile[0]} pixels x {self.tile[1]} channels in registers")
            lines.append(f"  tasks         {self.tasks}")
            lines.append(
                f"  workspace     {self.workspace_bytes:,} bytes a task, {self.packed_bytes:,} of packed weights"
            )
        lines += [f"  not {name}: {reason}" for name, reason in self.passed_over.items()]
        return "\n".join(lines)


@dataclass(frozen=True)
class Plan:
    """The plans of every convkit op that a call ran, in order; prints as text."""

    ops: tuple[OpPlan, ...]

    def __str__(self):
        return "\n".join(map(str, self.ops)) or "no convkit op ran"


def _conv2d_plan(name, args, device):
    """The planner's answer for one convolution op, from the arguments of its schema."""
    from convkit.ops._conv2d_fake import output_channels_last
    from convkit.ops._conv2d_shape import output_size

    direction = _DIRECTIONS[name]
    if direction == "forward":
        if name == "conv2d_packed":
            args = args[:3] + args[4:]
        input, weight, _bias, stride, padding, dilation, groups, *_rest, algorithm = args
        input_size, weight_size = list(input.shape), list(weight.shape)
        channels_last = output_channels_last(input, weight)
    elif direction == "backward_input":
        input, weight, input_size, channels_last, stride, padding, dilation, groups, algorithm = args
        weight_size = list(weight.shape)
    else:
        grad, input, weight_size, _channels_last, stride, padding, dilation, groups, algorithm = args
        input_size = list(input.shape)
        channels_last = output_channels_last(input, grad)
    output = output_size(name, input_size, weight_size, stride, padding, dilation, groups)
    window = [*weight_size[2:], *stride, padding[0], padding[2], *dilation, groups]
    dtype = str(input.dtype).removeprefix("torch.")
    problem = (direction, [*input_size, *output[1:], *window], dtype, algorithm)
    return _C.conv2d_plan(*problem, channels_last) if device == "cpu" else _C.cuda_conv2d_plan(*problem)


class _Recorder(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.plans = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "convkit":
            name = func._opname
            tensors = [a for a in args if isinstance(a, torch.Tensor)]
            device = tensors[0].device.type
            planned = name in _DIRECTIONS and (device == "cpu" or (device == "cuda" and _CUDA))
            extra = _conv2d_plan(name, args, device) if planned else {}
            self.plans.append(
                OpPlan(
                    op=name,
                    sizes=tuple(tuple(t.shape) for t in tensors),
                    dtype=str(tensors[0].dtype).removeprefix("torch."),
                    device=device,
                    isa=_C.isa() if device == "cpu" else None,
                    threads=torch.get_num_threads(),
                    **extra,
                )
            )
        return func(*args, **(kwargs or {}))


def explain(call, *args, **kwargs):
    """Run ``call(*args, **kwargs)`` and tell how each convkit op in it was computed.

    Args:
        call: a function of convkit, a model, or any callable; backward ops are recorded too if it runs them.

    Returns:
        Plan: ``print`` it for text (algorithm, ISA, register tile, threads, tasks, bytes of workspace and packed
        weights, and why each other algorithm was passed over); ``plan.ops`` is the same as data.
    """
    if not callable(call):
        raise TypeError(f"explain: call must be callable, but got {call!r}")
    with _Recorder() as recorder:
        call(*args, **kwargs)
    return Plan(tuple(recorder.plans))
