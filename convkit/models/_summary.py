"""What a network is made of: the shape, the parameters and the operations of each layer."""

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Layer:
    """One call of a layer; ``output_size`` is for a batch of 1, ``flops`` of that batch's forward pass.

    The parameters of a layer that is called twice are counted at the first call.
    """

    name: str
    kind: str
    output_size: tuple[int, ...]
    parameters: int
    flops: int


@dataclass(frozen=True)
class Summary:
    """The layers of a network in the order of their calls, and the totals; ``print`` it for a table.

    Attributes:
        layers: of :class:`Layer`.
        parameters: number of values that training changes, and of those it leaves alone (``requires_grad=False``).
        buffers: number of values in buffers such as running means; counters of batches are left out.
        flops: floating-point operations of a forward pass on one sample, two for a multiply-add; as torch's
            ``FlopCounterMode``, convolutions and dense layers only.
        bytes: of parameters and buffers.
    """

    layers: tuple[Layer, ...]
    parameters: int
    buffers: int
    flops: int
    bytes: int

    def __str__(self):
        rows = [("layer", "kind", "output", "parameters", "FLOPs")]
        for layer in self.layers:
            size = "x".join(map(str, layer.output_size[layer.output_size[0] == 1 :]))  # frames of a clip are a batch
            rows.append((layer.name, layer.kind, size, f"{layer.parameters:,}", f"{layer.flops:,}"))
        rows.append(("total", "", "", f"{self.parameters:,}", f"{self.flops:,}"))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        justify = (str.ljust, str.ljust, str.rjust, str.rjust, str.rjust)
        lines = ["  ".join(j(c, w) for j, c, w in zip(justify, row, widths, strict=True)) for row in rows]
        lines.append(f"running means and variances: {self.buffers:,}; {self.bytes / 1e6:,.1f} MB in all")
        return "\n".join(lines)


def _counted(tensors):
    return sum(tensor.numel() for tensor in tensors if tensor.is_floating_point())


def _is_layer(module):
    return not list(module.children()) or next(module.parameters(recurse=False), None) is not None


def summary(model, input_size=None):
    """Describe a network without computing anything: shapes are worked out on torch's meta device, in evaluation mode.

    Args:
        model: a :class:`torch.nn.Module` that takes one tensor; it is left as it is.
        input_size: size of a sample, without the batch; default: ``model.input_size``, which each of
            ``convkit.models`` has.

    Returns:
        :class:`Summary`
    """
    input_size = getattr(model, "input_size", None) if input_size is None else input_size
    if input_size is None:
        raise ValueError(f"summary: {type(model).__name__} has no input_size of its own: give one, without the batch")
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    dtype = next((tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()), torch.float32)
    names = {module: name for name, module in model.named_modules()}
    modes = {module: module.training for module in names}
    layers, seen, handles = [], set(), []
    counter = FlopCounterMode(display=False)

    def before(module, _inputs):
        starts.append(counter.get_total_flops())

    def after(module, _inputs, output):
        own = _counted(p for p in module.parameters() if id(module) not in seen)
        seen.add(id(module))
        flops = counter.get_total_flops() - starts.pop()
        layers.append(Layer(names[module], type(module).__name__, tuple(output.shape), own, flops))

    starts = []
    try:
        for module in names:
            if _is_layer(module):
                handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
        model.eval()
        meta = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
        sample = torch.empty(1, *input_size, device="meta", dtype=dtype)
        with counter, torch.enable_grad():  # with gradients, so that frozen weights are left out of it
            torch.func.functional_call(model, meta, (sample,))
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
    return Summary(
        layers=tuple(layers),
        parameters=_counted(model.parameters()),
        buffers=_counted(model.buffers()),
        flops=counter.get_total_flops(),
        bytes=sum(tensor.nbytes for tensor in tensors.values()),
    )
