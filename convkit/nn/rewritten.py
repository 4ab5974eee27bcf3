"""Modules whose ``forward`` convkit.optimize has rewritten, because it calls functions: relu, relu6, max_pool2d."""

import functools
import importlib
import types

import torch
from torch import nn

from convkit.nn.block import activate_and_pool
from convkit.nn.modules import Conv2d
from convkit.ops.conv2d import conv2d

PLAIN = (bool, int, float, str, type(None), tuple)
FUNCTIONS = (types.FunctionType, types.MethodType)


def is_hooked(module):
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, kind) for kind in kinds) or "forward" in vars(module)


def run_block(conv, norm, input, activation, max_pool):
    """A convolution, a BatchNorm that is fused with it or None, an activation and max-pooling, as one op where they can
    be. "clamp" is relu6 where no gradient is recorded."""
    if activation == "clamp" and not torch.is_grad_enabled():
        activation = "relu6"
    hooked = is_hooked(conv) or (norm is not None and is_hooked(norm))
    fuses = isinstance(conv, Conv2d) and not hooked and (norm is None or norm.is_folded)
    if fuses and activation != "clamp" and not (activation == "relu6" and input.is_cuda):
        input, padding = conv.padded(input)
        geometry = (conv.stride, padding, conv.dilation, conv.groups)
        return conv2d(input, *conv.operands(), *geometry, activation=activation, max_pool=max_pool)
    output = conv(input)
    if norm is not None:
        output = norm(output)
    return activate_and_pool(output, activation, max_pool)


def settings_of(module):
    """What the ``forward`` of a module may decide by: its plain attributes, ``training`` apart, functions of its own,
    and how many children its children have."""
    foreign = ("training", "_is_torch_compile")  # torch.compile sets the second one
    own = {name: value for name, value in vars(module).items() if isinstance(value, PLAIN) and name not in foreign}
    functions = [name for name, value in vars(module).items() if isinstance(value, FUNCTIONS)]
    return own, functions, {name: child and len(child._modules) for name, child in module._modules.items()}


class Rewrite:
    """The code of a ``forward`` in one mode, with what it was made for. Copies and pickles by its source."""

    def __init__(self, module, inputs, called, source, names):
        self.settings = settings_of(module)
        self.inputs, self.called, self.kinds = inputs, sorted(called), None
        modules = {name: value.__name__ for name, value in names.items() if isinstance(value, types.ModuleType)}
        others = {name: value for name, value in names.items() if name not in modules}
        self._code = (source, modules, others)
        self._compile()

    def _compile(self):
        source, modules, others = self._code
        names = {**others, **{name: importlib.import_module(path) for name, path in modules.items()}}
        exec(compile(source, "<convkit.optimize>", "exec"), names)
        self.function = names["forward"]

    def __getstate__(self):
        return {name: value for name, value in vars(self).items() if name != "function"}

    def __setstate__(self, state):
        vars(self).update(state)
        self._compile()

    def __deepcopy__(self, memo):
        return self  # never changes again

    def kinds_of(self, module):
        """The classes of the children that were called, and whether any but a convolution has hooks or another
        forward: run_block heeds those of a convolution."""
        try:
            children = [module.get_submodule(name) for name in self.called]
        except AttributeError:
            return None
        return [type(child) for child in children], any(is_hooked(c) for c in children if not isinstance(c, nn.Conv2d))

    def seal(self, module):
        """Remember the children, when all of them have got their classes."""
        self.kinds = self.kinds_of(module)

    def fits(self, module, inputs, keywords):
        """Whether the module and the arguments of a call are as they were when it was traced."""
        tensors = not keywords and len(inputs) == self.inputs and all(isinstance(x, torch.Tensor) for x in inputs)
        return tensors and self.settings == settings_of(module) and self.kinds == self.kinds_of(module)


class Rewritten(nn.Module):
    """Base of the classes that :func:`rewritten` makes; ``_rewrites`` has a :class:`Rewrite` for some of the modes."""

    def forward(self, *inputs, **keywords):
        rewrite = self._rewrites.get(self.training)
        if rewrite is not None and rewrite.fits(self, inputs, keywords):
            return rewrite.function(self, *inputs)
        return super().forward(*inputs, **keywords)

    def seal(self):
        for rewrite in self._rewrites.values():
            rewrite.seal(self)

    def __reduce_ex__(self, protocol):
        state = getattr(type(self), "__getstate__", vars)(self)
        return _instance, (type(self).__mro__[2],), state


@functools.cache
def rewritten(base):
    """The subclass of ``base`` whose instances run their rewrites."""
    return type(base.__name__, (Rewritten, base), {"__module__": base.__module__, "__doc__": base.__doc__})


def _instance(base):
    kind = rewritten(base)
    return kind.__new__(kind)
