"""Gives an op its gradient, once, for every way in which torch asks for one.

Each op describes itself with five functions over the same positional arguments as its schema:

``fake(*inputs)``                       shapes, strides and errors of the op, without data
``setup_context(ctx, inputs, output)``  saves what backward needs (and, for jvp, with ``save_for_forward``)
``backward(ctx, *grad_outputs)``        returns one gradient or None per argument, by calling other convkit ops
``jvp(ctx, *tangents)``                 the forward-mode derivative; None tangents are zero
``vmap(info, in_dims, *inputs)``        the op over one more batch dimension

`define` builds from them a plain ``autograd.Function`` for eager mode, one with ``setup_context``, ``jvp`` and ``vmap``
for torch.func and forward-mode AD (binding its arguments costs 8 us a call, so only they pay it), and the dispatcher's
Autograd kernel for calls of the raw op, ``torch.compile`` and ``torch.export``.
"""

import torch
from torch.autograd import Function

from convkit.ops._torch_internals import (
    autocast_active,
    below_autograd,
    has_tangent,
    transforms_active,
)

library = torch.library.Library("convkit", "IMPL")


def needs_grad(args):
    """Whether autograd records a call with these arguments."""
    if torch.is_grad_enabled():
        for arg in args:  # a generator would cost a microsecond
            if isinstance(arg, torch.Tensor) and arg.requires_grad:
                return True
    return False


def refuse_tangents(name, args):
    """Raise for a raw op under forward-mode AD, which would drop the tangents silently."""
    if any(isinstance(a, torch.Tensor) and has_tangent(a) for a in args):
        raise NotImplementedError(
            f"torch.ops.convkit.{name} has no forward-mode derivative; convkit's public functions have"
        )


def define_without_gradient(name, *, fake):
    """Register the fake kernel of ``torch.ops.convkit.<name>``, which refuses to record a gradient; return the function
    to call it by where none is wanted."""
    op = getattr(torch.ops.convkit, name).default
    torch.library.register_fake(f"convkit::{name}")(fake)

    def call(*args):
        with below_autograd():
            return op(*args)

    def autograd_kernel(*args):
        refuse_tangents(name, args)
        if needs_grad(args):
            raise RuntimeError(f"{name}: it has no gradient, but an argument requires one")
        return call(*args)

    library.impl(name, autograd_kernel, "Autograd")
    return call


def define(name, *, fake, setup_context, backward, jvp, vmap):
    """Register fake kernel and gradient of ``torch.ops.convkit.<name>``; return the function to call it by."""
    op = getattr(torch.ops.convkit, name).default
    torch.library.register_fake(f"convkit::{name}")(fake)

    def run(*args):
        with below_autograd():
            return op(*args)

    def eager_forward(ctx, *args):
        output = run(*args)
        setup_context(ctx, args, output)
        return output

    eager_methods = {"forward": staticmethod(eager_forward), "backward": staticmethod(backward)}
    eager = type(f"{name}_function", (Function,), eager_methods)
    transform_methods = {
        "forward": staticmethod(run),
        "setup_context": staticmethod(setup_context),
        "backward": staticmethod(backward),
        "jvp": staticmethod(jvp),
        "vmap": staticmethod(vmap),
    }
    transform = type(f"{name}_transform", (Function,), transform_methods)

    def autograd_kernel(*args):
        refuse_tangents(name, args)
        return eager.apply(*args) if needs_grad(args) else run(*args)

    library.impl(name, autograd_kernel, "Autograd")

    def call(*args):
        if torch.compiler.is_compiling() or autocast_active():
            return op(*args)
        if transforms_active():
            return transform.apply(*args)
        return eager.apply(*args) if needs_grad(args) else run(*args)

    call.__name__ = name
    return call


def elementwise_vmap(call):
    """The vmap rule of an op whose tensor arguments all have one shape and that works element by element."""

    def vmap(info, in_dims, *args):
        moved = [
            arg
            if not isinstance(arg, torch.Tensor)
            else arg.unsqueeze(0).expand(info.batch_size, *arg.shape)
            if dim is None
            else arg.movedim(dim, 0)
            for arg, dim in zip(args, in_dims, strict=True)
        ]
        return call(*moved), 0

    return vmap
