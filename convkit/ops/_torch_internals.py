"""The only file that uses functions of torch without a public name; a test runs every one of them."""

import torch
from torch.autograd import forward_ad

# Skips the autograd keys of the dispatcher: what a custom Function's forward, or a call without gradients, needs.
below_autograd = torch._C._AutoDispatchBelowAutograd


def transforms_active():
    """Whether a torch.func transform or a forward-mode AD level is active in this thread."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def autocast_active():
    """Whether autocast is enabled for any device in this thread."""
    return torch._C._is_any_autocast_enabled()


def without_autocast(device_type):
    """A context in which the dispatcher passes over the autocast key of this device."""
    key = {"cpu": "AutocastCPU", "cuda": "AutocastCUDA"}[device_type]
    return torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key)))


def has_tangent(tensor):
    """Whether the tensor carries a forward-mode tangent that the current op would have to pass on."""
    if forward_ad._current_level < 0 or not torch._C._is_fwd_grad_enabled():
        return False
    return forward_ad.unpack_dual(tensor).tangent is not None
