"""Nested states as one safetensors file, written so that a kill at any moment leaves the old file or the new one."""

import json
import os
import zlib
from pathlib import Path

import torch

FORMAT = "convkit checkpoint 1"


class CheckpointError(RuntimeError):
    """A file that cannot be read, is damaged, or belongs to another model or run."""


def _pack(value, path, tensors):
    """``value`` with every tensor moved to ``tensors`` under its path, in terms that JSON has."""
    if isinstance(value, torch.Tensor):
        if path in tensors:
            raise ValueError(f"checkpoint: two tensors would be called {path}")
        tensors[path] = value.detach().cpu().contiguous()
        return {"tensor": path}
    if isinstance(value, dict):
        return {
            "dict": [[key, _pack(item, f"{path}.{key}" if path else str(key), tensors)] for key, item in value.items()]
        }
    if isinstance(value, (list, tuple)):
        return {type(value).__name__: [_pack(item, f"{path}.{i}", tensors) for i, item in enumerate(value)]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"checkpoint: {path} is a {type(value).__name__}, which no checkpoint can hold")


def _unpack(value, tensors):
    if not isinstance(value, dict):
        return value
    [(kind, content)] = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unpack(item, tensors) for key, item in content}
    items = [_unpack(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items


def _checksum(state, tensors):
    """CRC-32 of everything that is in the file; safetensors itself would not see a flipped bit."""
    crc = zlib.crc32(state.encode())
    for name in sorted(tensors):
        crc = zlib.crc32(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode(), crc)
        crc = zlib.crc32(tensors[name].reshape(-1).view(torch.uint8).numpy(), crc)
    return f"{crc:08x}"


def replace_file(path, write):
    """Let ``write(temporary_path)`` make a file, then put it at ``path``: all of it, or on any failure nothing."""
    path = Path(path)
    temporary = path.with_name(path.name + ".partial")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # what the umask says; safetensors would let nobody else read the file
        write(temporary)
        temporary.chmod(mode)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def save(path, state):
    """Write ``state``: dicts, lists and tuples of tensors, numbers, texts and None.

    Tensors of a dict at the top are stored under their own names, so that ``{"": model.state_dict()}`` is what any
    reader of safetensors takes for the model's weights.
    """
    from safetensors.torch import save_file

    tensors = {}
    text = json.dumps(_pack(state, "", tensors))
    shared = {}
    for name, tensor in tensors.items():  # safetensors refuses two names for one memory
        if tensor.numel() and shared.setdefault(tensor.data_ptr(), name) != name:
            tensors[name] = tensor.clone()
    content = {"format": FORMAT, "state": text, "crc32": _checksum(text, tensors)}
    metadata = {"convkit": json.dumps(content)}  # one entry: safetensors writes several in any order
    replace_file(path, lambda temporary: save_file(tensors, temporary, metadata))


def load(path):
    """What :func:`save` wrote, on the CPU; CheckpointError where that is not what the file holds."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        content = json.loads(metadata.get("convkit", "{}"))
    except (SafetensorError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} is no readable safetensors file: {error}") from error
    if content.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no checkpoint of convkit: it does not say {FORMAT!r}")
    if _checksum(content["state"], tensors) != content["crc32"]:
        raise CheckpointError(f"{path} is damaged: its checksum is not that of its contents")
    return _unpack(json.loads(content["state"]), tensors)


def check_weights(path, weights, model):
    """Raise a CheckpointError that names the first difference between ``weights`` and the model's state_dict.

    Floating-point numbers of another width are no difference: loading converts them.
    """
    own = model.state_dict()
    for name in [*own, *weights]:
        if name not in weights or name not in own:
            where = f"{path} has no {name}" if name not in weights else f"the model has no {name}, which {path} holds"
            raise CheckpointError(f"these are weights of another model: {where}")
        if own[name].shape != weights[name].shape:
            sizes = f"{tuple(weights[name].shape)}, in the model {tuple(own[name].shape)}"
            raise CheckpointError(f"these are weights of another model: in {path}, {name} is {sizes}")
        if own[name].is_floating_point() != weights[name].is_floating_point():
            dtypes = f"{weights[name].dtype}, in the model {own[name].dtype}"
            raise CheckpointError(f"{path} holds no weights that this model computes with: {name} is {dtypes}")
