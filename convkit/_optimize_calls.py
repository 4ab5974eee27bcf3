"""The part of convkit.optimize for a ``forward`` that calls functions, or one ReLU or pooling module several times.

Such a forward is traced by torch.fx, its children as they are, once in each mode; in the graph, runs of convolution,
BatchNorm, ReLU and max-pooling become calls of ``run_block``, and what is left of ReLU and max-pooling convkit's. The
module then runs the code of that graph as long as nothing has changed that the trace was made for.
"""

import dis
import inspect
import sys
import types
from collections import Counter
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import fx, nn

from convkit.nn.rewritten import PLAIN, Rewrite, Rewritten, rewritten, run_block
from convkit.ops.max_pool2d import max_pool2d
from convkit.ops.relu import relu

RELUS = {F.relu: False, torch.relu: False, "relu": False, F.relu_: True, torch.relu_: True, "relu_": True}
RELU6S = (F.relu6, F.hardtanh, F.hardtanh_)  # the latter two with limits of 0 and 6
CLAMPS = (torch.clamp, torch.clip, torch.clamp_, torch.clip_, "clamp", "clip", "clamp_", "clip_")  # the same limits
POOLS = (F.max_pool2d, torch.max_pool2d)
POOL_ARGUMENTS = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
REWRITTEN = {"relu", "relu_", "relu6", "hardtanh", "hardtanh_", "max_pool2d"}  # names in code that calls any of these
RELU6_ALONE = "convkit has ReLU6 only behind a convolution of its own"
# What a trace cannot follow: it sees one answer for good.
UNTRACED = {"isinstance", "type", "hasattr", "issubclass", "is_grad_enabled", "is_inference_mode_enabled", "print"}
UNTRACED |= {"random", "rand", "randn", "randint", "randperm", "item", "time", "is_tensor", "__class__", "checkpoint"}
CHANGES = {"STORE_ATTR", "DELETE_ATTR", "STORE_GLOBAL", "STORE_SUBSCR", "DELETE_SUBSCR"}
TORCH = str(Path(torch.__file__).parent)


def is_relu6(module):
    """Whether a module is nn.ReLU6 or a Hardtanh, its base, with the same limits."""
    return isinstance(module, nn.Hardtanh) and (module.min_val, module.max_val) == (0, 6)


def _modes():
    """What a ``with`` or a decorator may change around a call: a graph does not have it."""
    autocast = [(torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in ("cpu", "cuda")]
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), autocast


class _Tracer(fx.Tracer):
    def __init__(self):
        super().__init__()
        self.modes = _modes()

    def is_leaf_module(self, module, name):
        return True

    def create_node(self, *args, **kwargs):
        if _modes() != self.modes:
            raise ValueError("it computes in a grad, inference or autocast mode of its own")
        return super().create_node(*args, **kwargs)


def _refuse_other_state(module, code, names):
    """Raise where code reads what may change though the module's plain attributes and the arguments stay as they are:
    attributes of other objects or of its class, and globals that are data. ``names``: the code's globals."""
    instructions = list(dis.get_instructions(code))
    own = code.co_varnames[0] if code is type(module).forward.__code__ else "self"
    for at, instruction in enumerate(instructions):
        if instruction.opname == "LOAD_GLOBAL":
            value = names.get(instruction.argval, len)  # what is not there is built in
            if not callable(value) and not isinstance(value, types.ModuleType):
                raise ValueError(f"{code.co_name} asks the global {instruction.argval}")
        if not instruction.opname.startswith(("LOAD_FAST", "LOAD_DEREF")) or instruction.argval != own:
            continue
        value, path = module, "self"
        for following in instructions[at + 1 :]:
            if following.opname not in ("LOAD_ATTR", "LOAD_METHOD") or isinstance(value, torch.Tensor):
                break
            owner, path = value, f"{path}.{following.argval}"
            value = getattr(owner, following.argval, None)
            if owner is module and following.argval in vars(module) and isinstance(value, PLAIN):
                break
            if not isinstance(value, (nn.Module, torch.Tensor)) and not callable(value):
                raise ValueError(f"{code.co_name} asks {path}")


def _trace(module, codes):
    """The graph of a module's own forward, and how many arguments that has; raises if the graph may not be the same for
    every input. ``codes``: gets the code of the forward and of the functions that it calls, but for torch's, and the
    globals of each."""
    codes[type(module).forward.__code__] = type(module).forward.__globals__
    parameters = list(inspect.signature(type(module).forward).parameters.values())[1:]
    if any(p.kind != p.POSITIONAL_OR_KEYWORD or p.default is not p.empty for p in parameters):
        raise ValueError("its forward has optional arguments")

    def note(frame, event, argument):
        called = event == "call" and frame.f_back is not None and frame.f_back.f_code in codes
        if called and not frame.f_code.co_filename.startswith(TORCH):
            codes[frame.f_code] = frame.f_globals

    profile = sys.getprofile()
    sys.setprofile(note)
    try:
        graph = _Tracer().trace(module)
    finally:
        sys.setprofile(profile)
    for constant in [n.target for n in graph.nodes if n.op == "get_attr" and n.target.startswith("_tensor_constant")]:
        delattr(module, constant)
        raise ValueError("it makes a tensor of its own")
    for code, names in codes.items():
        _refuse_other_state(module, code, names)
        for instruction in dis.get_instructions(code):
            if instruction.opname in CHANGES:
                raise ValueError(f"{code.co_name} changes objects")
            if instruction.argval in UNTRACED and instruction.opname.startswith("LOAD"):
                raise ValueError(f"{code.co_name} asks {instruction.argval}")
    return graph, len(parameters)


class _Forward:
    """One traced forward, while it is rewritten. ``name`` is the module's, ``left`` what must not be swapped, ``norms``
    which BatchNorm is fused with which convolution, by names."""

    def __init__(self, module, name, graph, left, norms):
        self.module, self.graph, self.left, self.norms = module, graph, left, norms
        self.prefix = f"{name}." if name else ""
        self.calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
        self.fused, self.swapped = [], {}

    def called(self, node, kind):
        """The module of this kind that a node calls with nothing but its input, or None."""
        if node.op != "call_module" or len(node.args) != 1 or node.kwargs or self.prefix + node.target in self.left:
            return None
        module = self.module.get_submodule(node.target)
        return module if isinstance(module, kind) else None

    def relu_of(self, node):
        """Whether the ReLU that a node is works in place; None: it is no ReLU."""
        if (module := self.called(node, nn.ReLU)) is not None:
            return module.inplace
        if node.op not in ("call_function", "call_method") or node.target not in RELUS:
            return None
        if len(node.args) not in (1, 2) or not isinstance(node.args[0], fx.Node):
            return None
        inplace = node.args[1] if len(node.args) == 2 else node.kwargs.get("inplace", RELUS[node.target])
        return inplace if isinstance(inplace, bool) else None

    def is_relu6(self, node):
        if node.op != "call_function" or node.target not in RELU6S:
            return is_relu6(self.called(node, nn.Hardtanh))
        given = {**dict(zip(("input", "min_val", "max_val", "inplace"), node.args, strict=False)), **node.kwargs}
        return node.target is F.relu6 or (given.get("min_val"), given.get("max_val")) == (0, 6)

    def is_clamp(self, node):
        if node.op not in ("call_function", "call_method") or node.target not in CLAMPS:
            return False
        given = {**dict(zip(("input", "min", "max"), node.args, strict=False)), **node.kwargs}
        limits = given.get("min"), given.get("max")
        return "out" not in given and all(isinstance(v, int | float) for v in limits) and limits == (0, 6)

    def activation_of(self, node):
        kinds = {"relu": self.relu_of(node) is not None, "relu6": self.is_relu6(node), "clamp": self.is_clamp(node)}
        return next((kind for kind, holds in kinds.items() if holds), None)

    def pool_of(self, node):
        """The arguments of the max-pooling that a node is, None if it is none."""
        if (module := self.called(node, nn.MaxPool2d)) is not None:
            return {name: getattr(module, name) for name in POOL_ARGUMENTS[1:]}
        if node.op != "call_function" or node.target not in POOLS or "input" in node.kwargs:
            return None
        given = {**dict(zip(POOL_ARGUMENTS, node.args, strict=False)), **node.kwargs}
        given.pop("input")
        defaults = {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False, "return_indices": False}
        return {**defaults, **given} if len(node.all_input_nodes) == 1 else None

    def name_of(self, node):
        return self.prefix + (node.target if node.op == "call_module" else f"{node.name}()")

    def run_from(self, conv, is_fusible_pool):
        """(nodes, BatchNorm's node or None, activation, max_pool) of the run that a convolution's node begins."""
        nodes, norm, activation, max_pool = [conv], None, None, None

        def following():
            users = list(nodes[-1].users)
            return users[0] if len(users) == 1 and users[0].args[:1] == (nodes[-1],) else None

        follower = following()
        if follower is not None and self.called(follower, nn.BatchNorm2d) is not None:
            if self.norms.get(self.name_of(conv)) != self.name_of(follower):
                return nodes, None, None, None
            norm = follower
            nodes.append(norm)
        if (follower := following()) is not None and (activation := self.activation_of(follower)):
            nodes.append(follower)
        if (follower := following()) is not None and (pool := self.pool_of(follower)) and is_fusible_pool(pool):
            max_pool = (pool["kernel_size"], pool["stride"] or pool["kernel_size"], pool["padding"])
            nodes.append(follower)
        return nodes, norm, activation, max_pool

    def needs_rewriting(self, node):
        """Whether changing the class of a module cannot do what is to be done at this node."""
        return node.op != "call_module" or self.calls[node.target] > 1

    def rewrite(self, is_fusible_pool):
        for node in list(self.graph.nodes):
            if self.called(node, nn.Conv2d) is None:
                continue
            nodes, norm, activation, max_pool = self.run_from(node, is_fusible_pool)
            epilogue = nodes[2 if norm else 1 :]
            if not any(map(self.needs_rewriting, epilogue)):
                continue
            self.fused.append(tuple(map(self.name_of, nodes)))
            with self.graph.inserting_before(node):
                conv, bn = (self.graph.create_node("get_attr", n.target) if n else None for n in (node, norm))
                arguments = (conv, bn, node.args[0], activation, max_pool)
                block = self.graph.call_function(run_block, arguments)
            nodes[-1].replace_all_uses_with(block)
            for done in reversed(nodes):
                self.graph.erase_node(done)
        for node in self.graph.nodes:
            if node.op == "call_module":
                continue
            name = self.name_of(node)
            if (inplace := self.relu_of(node)) is not None:
                node.op, node.target, node.args, node.kwargs = "call_function", relu, (node.args[0], inplace), {}
                self.swapped[name] = relu
            elif pool := self.pool_of(node):
                node.target, node.args, node.kwargs = max_pool2d, node.args[:1], pool
                self.swapped[name] = max_pool2d
            elif self.is_relu6(node):
                self.left[name] = RELU6_ALONE
        return bool(self.fused or self.swapped)


def _calls_anything(graph, module):
    counts = Counter(node.target for node in graph.nodes if node.op == "call_module")
    shared = (n for n, count in counts.items() if count > 1)
    targets = (*RELUS, *RELU6S, *CLAMPS, *POOLS)
    functions = any(node.target in targets for node in graph.nodes if node.op in ("call_function", "call_method"))
    kinds = (nn.ReLU, nn.Hardtanh, nn.MaxPool2d)
    return functions or any(isinstance(module.get_submodule(n), kinds) for n in shared)


def _has_own_forward(module):
    """Whether a module's class has a forward that may be rewritten, and no way of its own to be pickled."""
    kind = type(module)
    plain = kind.__reduce_ex__ is object.__reduce_ex__ and kind.__reduce__ is object.__reduce__
    own = kind.forward is not nn.Module.forward and not kind.__module__.startswith(("torch.", "convkit.nn"))
    return plain and own and "forward" not in vars(module)


def _in_mode(module, training, codes):
    modes = {part: part.training for part in module.modules()}
    module.train(training)
    try:
        return _trace(module, codes)
    finally:
        for part, mode in modes.items():
            part.training = mode


def rewrite_calls(model, known, report, norms, is_fusible_pool):
    """Rewrite every forward of the model that it can; returns the names of convolutions that are fused there.

    Args:
        known: classes of modules that have no forward of interest.
        norms: convolution -> BatchNorm that is fused with it, by names.
    """
    fused = set()
    for name, module in list(model.named_modules()):
        if isinstance(module, (*known, Rewritten)) or not _has_own_forward(module):
            continue
        codes, forwards = {}, {}
        try:
            for training in (True, False):
                forwards[training] = _in_mode(module, training, codes)
        except Exception as error:  # whatever a forward raises when it meets a proxy
            reason = (str(error) or repr(error)).splitlines()[0]
            if any(REWRITTEN & set(code.co_names) for code in codes):
                report.left.setdefault(name, f"its calls stay as they are: {reason}")
            continue
        rewrites = {}
        for training, (graph, inputs) in forwards.items():
            forward = _Forward(module, name, graph, report.left, norms)
            called = {node.target for node in graph.nodes if node.op == "call_module"}
            if not _calls_anything(graph, module) or not forward.rewrite(is_fusible_pool):
                continue
            code = graph.python_code("self")
            rewrites[training] = Rewrite(module, inputs, called, code.src, code.globals)
            report.fused += [run for run in forward.fused if run not in report.fused]
            report.swapped.update(forward.swapped)
            fused.update(run[0] for run in forward.fused)
        if rewrites:
            module.__class__ = rewritten(type(module))
            module._rewrites = rewrites
    return fused
