"""convkit.optimize: a model's torch.nn modules exchanged for convkit's, runs of them fused.

A module changes its class and keeps its place, its parameters and its name. torch.fx only says which module's result
goes where, so that a run convolution, BatchNorm, ReLU, max-pooling is fused exactly if each of its modules is called
once and nobody else sees what lies between them. Where functions are called instead of modules, or a module more than
once, the code of that forward is rewritten (``_optimize_calls.py``).
"""

import copy
from collections import Counter
from dataclasses import dataclass, field

import torch
from torch import fx, nn
from torch.nn.modules.utils import _pair
from torch.nn.utils import parametrize

from convkit._optimize_calls import RELU6_ALONE, is_relu6, rewrite_calls
from convkit._text import counted
from convkit.nn import fused, modules
from convkit.nn.rewritten import Rewritten, is_hooked

SWAPS = {
    nn.Conv2d: modules.Conv2d,
    nn.Linear: modules.Linear,
    nn.MaxPool2d: modules.MaxPool2d,
    nn.ReLU: modules.ReLU,
}
KNOWN = (*SWAPS, nn.BatchNorm2d, nn.ReLU6, nn.Hardtanh)
LARGEST_FUSED_WINDOW = 254  # positions of a pooling window whose winner fits a byte, beside the mark of none


@dataclass
class Report:
    """What :func:`optimize` did; ``print`` it for text. Modules go by their names in ``model.named_modules()``.

    Attributes:
        swapped: name -> class that the module has now.
        fused: runs of names that became one op: a convolution and what follows it.
        left: name -> why a module stays as it is, or why its part of the model could not be searched for runs.
    """

    swapped: dict = field(default_factory=dict)
    fused: list = field(default_factory=list)
    left: dict = field(default_factory=dict)

    def __str__(self):
        swapped, fused = counted(len(self.swapped), "module"), counted(len(self.fused), "run")
        lines = [f"{swapped} swapped, {fused} fused, {len(self.left)} left"]
        lines += [f"  fused: {' + '.join(run)}" for run in self.fused]
        lines += [f"  left: {name or 'the model'}: {reason}" for name, reason in self.left.items()]
        return "\n".join(lines)


def _is_known(module):
    return isinstance(module, KNOWN) and (is_relu6(module) or not isinstance(module, nn.Hardtanh))


def _reason_to_leave(module, places):
    """Why a module must not change its class, or None."""
    base = next(base for base in KNOWN if isinstance(module, base))
    if parametrize.is_parametrized(module):
        return "it is parametrized"
    if isinstance(module, (fused.FusedConv2d, fused.FoldedBatchNorm2d)):
        return "it is fused already"
    if type(module) not in (base, SWAPS.get(base)):
        return f"{type(module).__name__} is a subclass of torch.nn.{base.__name__}"
    if "forward" in vars(module):
        return "its forward was replaced"
    if is_hooked(module):
        return "it has hooks"
    if places > 1:
        return f"it is shared: the model has it at {places} places"
    if isinstance(module, nn.Conv2d) and module.padding_mode != "zeros":
        return f"padding_mode={module.padding_mode!r}"
    for name, parameter in module.named_parameters():
        if parameter.device.type not in ("cpu", "meta"):
            return f"its {name} is on {parameter.device}, where convkit has no such kernel yet"
        if parameter.dtype not in (torch.float32, torch.bfloat16):
            return f"its {name} is {parameter.dtype}, for which convkit has no fast kernel yet"
    return None


def _is_exported(module):
    """Whether torch.export made the module: its graph calls aten's operators where there were modules."""
    nodes = module.graph.nodes if isinstance(module, fx.GraphModule) else ()
    return any(getattr(node.target, "namespace", None) == "aten" for node in nodes)


class _Tracer(fx.Tracer):
    """Looks into every module but torch.nn's own, convkit's and those of ``opaque``."""

    def __init__(self, opaque):
        super().__init__()
        self.opaque = opaque

    def is_leaf_module(self, module, name):
        return module in self.opaque or isinstance(module, KNOWN) or super().is_leaf_module(module, name)


def _visible(module, opaque):
    """A module and its parts, without the parts of those that are opaque."""
    yield module
    for child in module.children():
        if child not in opaque:
            yield from _visible(child, opaque)


def _graphs(model, report):
    """[(prefix, module, graph)] of the largest parts of the model that torch.fx can trace."""
    names = {module: name for name, module in model.named_modules()}
    opaque = {module for module in names if is_hooked(module)}  # their hooks would be called with proxies
    graphs = {}
    for module in reversed(list(names)):  # parts come before the whole
        if isinstance(module, KNOWN) or type(module).forward is nn.Module.forward or not list(module.children()):
            continue
        if isinstance(module, Rewritten):
            opaque.add(module)
            report.left[names[module]] = "its calls are rewritten already"
            continue
        try:
            graphs[module] = _Tracer(opaque).trace(module)
        except Exception as error:  # whatever a forward raises when it meets a proxy
            opaque.add(module)
            reason = str(error) or repr(error)
            report.left[names[module]] = f"torch.fx cannot trace it: {reason.splitlines()[0]}"
    covered, found = set(), []
    for module, name in names.items():
        if module in graphs and module not in covered:
            covered.update(_visible(module, opaque))
            found.append((name, module, graphs[module]))
    return found


def _steps(node, owner, prefix, calls):
    """The modules that one node after the other calls from ``node`` on, as long as nobody else takes their results."""
    while node.op == "call_module" and len(node.args) == 1 and not node.kwargs:
        module = owner.get_submodule(node.target)
        if calls[module] > 1 or is_hooked(module):
            return
        yield prefix + node.target, module
        if len(node.users) != 1:
            return
        (node,) = node.users


def _is_fusible_pool(pool):
    """``pool``: the arguments of a max-pooling by their names."""
    kernel_size = _pair(pool["kernel_size"])
    plain = not pool["return_indices"] and not pool["ceil_mode"] and _pair(pool["dilation"]) == (1, 1)
    return plain and len(kernel_size) == 2 and kernel_size[0] * kernel_size[1] <= LARGEST_FUSED_WINDOW


def _runs(owner, prefix, graph, left):
    """Runs [(name, module), ...] of at least two: a convolution, then BatchNorm, ReLU and max-pooling, if they come."""
    calls = Counter(owner.get_submodule(n.target) for n in graph.nodes if n.op == "call_module")
    prefix = f"{prefix}." if prefix else ""
    found = []
    for node in graph.nodes:
        steps = list(_steps(node, owner, prefix, calls))
        if not steps or not isinstance(steps[0][1], nn.Conv2d) or steps[0][0] in left:
            continue
        run, steps = steps[:1], steps[1:]
        for kind in (nn.BatchNorm2d, (nn.ReLU, nn.Hardtanh), nn.MaxPool2d):
            if not steps or not isinstance(steps[0][1], kind) or steps[0][0] in left:
                continue
            module = steps[0][1]
            if isinstance(module, nn.Hardtanh) and not is_relu6(module):
                break
            if kind is nn.MaxPool2d and not _is_fusible_pool(vars(module)):
                continue
            if kind is nn.BatchNorm2d and module.running_mean is None:
                break
            run.append(steps.pop(0))
        if len(run) > 1:
            found.append(run)
    return found


def _in_mode(model, training, report):
    """The runs of the model in training or in evaluation mode, as lists of names."""
    modes = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        graphs = _graphs(model, report)
    finally:
        for module, mode in modes.items():
            module.training = mode
    return [run for prefix, owner, graph in graphs for run in _runs(owner, prefix, graph, report.left)]


def _fuse(run):
    conv, norm, relu, pool = run[0], None, None, None
    for module in run[1:]:
        if isinstance(module, nn.BatchNorm2d):
            norm = module
        elif isinstance(module, (nn.ReLU, nn.Hardtanh)):
            relu = module
        else:
            pool = module
    max_pool = (pool.kernel_size, pool.stride, pool.padding) if pool else None
    activation = "relu6" if isinstance(relu, nn.Hardtanh) else "relu" if relu else None
    epilogue = {"activation": activation, "max_pool": max_pool}
    conv.__class__ = fused.FusedConv2d
    conv.fuse(norm, **epilogue)
    if norm:
        norm.__class__ = fused.FoldedBatchNorm2d
        norm.fuse(**epilogue)
    for module in (relu, pool):
        if module:
            module.__class__ = nn.Identity


def optimize(model):
    """A copy of a model that computes with convkit, and a report of what was changed.

    The copy shares the parameters and buffers of ``model``, the same objects under the same ``state_dict`` keys, so
    either can be trained, loaded and saved; ``model`` itself is left alone. :class:`torch.nn.Conv2d`, ``Linear``,
    ``MaxPool2d`` and ``ReLU`` become convkit's. A run of convolution, ``BatchNorm2d``, ``ReLU`` or ``ReLU6`` and
    ``MaxPool2d`` (each but the first may be absent) becomes one op where nobody else sees what lies between, whether a
    ``forward`` calls modules or ``F.relu``, ``torch.relu``, ``x.relu()``, ``F.relu6`` and ``F.max_pool2d``, and
    wherever it calls a module again. ``Hardtanh`` and ``F.hardtanh`` from 0 to 6 are ReLU6, and so are ``torch.clamp``
    and ``x.clamp`` where no gradient is recorded. ``BatchNorm2d`` is folded into the convolution's weight
    while it is in evaluation mode: at each call, or, if ``model`` is in evaluation mode, here and now for all calls
    without gradient. Such a copy need not see later changes of the weights, until ``train()``, ``to()`` or
    ``load_state_dict()`` is called on it. ``train()`` and ``eval()`` work as before.

    What convkit does not know stays as it is and is listed with the reason: modules with hooks, subclasses,
    parametrized or shared modules, padding modes other than zeros, parameters that are not float32 or bfloat16 on the
    CPU. Parts that torch.fx cannot trace are swapped but not fused. A ``forward`` whose calls are rewritten runs as it
    is written for other than tensors, and after one of the module's plain attributes or of the children that it calls
    has changed. Tracing calls ``forward`` with proxies. A run is fused for the forward of the whole model: code that
    calls its modules one by one, hooks that are added later included, sees the fused result from the convolution on.

    Args:
        model: a :class:`torch.nn.Module` that can be deep-copied.

    Returns:
        (model, :class:`Report`)

    Raises:
        TypeError: ``model`` is not a module, or a part of it is a :class:`torch.jit.ScriptModule`.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"optimize: model must be a torch.nn.Module, but got {type(model).__name__}")
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            what = f"has a {type(module).__name__} at {name}" if name else f"is a {type(module).__name__}"
            raise TypeError(f"optimize: model {what}, whose code is not Python's: optimize before torch.jit compiles")
    kept = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    model = copy.deepcopy(model, kept)
    report = Report()
    places = Counter(module for _, module in model.named_modules(remove_duplicate=False))
    known = {name: module for name, module in model.named_modules() if _is_known(module)}
    for name, module in known.items():
        if (reason := _reason_to_leave(module, places[module])) is not None:
            report.left[name] = reason
    exported = [name for name, module in model.named_modules() if _is_exported(module)]
    report.left |= dict.fromkeys(exported, "it calls aten's operators, as torch.export has it: optimize before that")
    in_training = _in_mode(model, True, report)
    runs = [run for run in _in_mode(model, False, report) if run in in_training]
    norms = {run[0][0]: run[1][0] for run in runs if isinstance(run[1][1], nn.BatchNorm2d)}
    rewritten = rewrite_calls(model, KNOWN, report, norms, _is_fusible_pool)
    runs = [
        run[:2] if run[0][0] in rewritten else run for run in runs if run[0][0] not in rewritten or run[0][0] in norms
    ]
    for name, module in known.items():
        if name not in report.left and type(module) in SWAPS:
            module.__class__ = SWAPS[type(module)]
            report.swapped[name] = type(module)
    for run in runs:
        _fuse([module for _, module in run])
        if run[0][0] not in rewritten:
            report.fused.append(tuple(name for name, _ in run))
        report.swapped.update({name: type(module) for name, module in run})
    in_runs = {name for run in report.fused for name in run}
    for name, module in known.items():
        if is_relu6(module) and name not in in_runs:
            report.left.setdefault(name, RELU6_ALONE)
        if not model.training and isinstance(module, modules.Conv2d):
            module.freeze()
    for module in model.modules():
        if isinstance(module, Rewritten):
            module.seal()
    return model, report
