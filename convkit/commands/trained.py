"""Models to use: those of ``convkit train``, and published weights of a named network."""

from dataclasses import dataclass
from pathlib import Path

import torch

from convkit.models.catalog import CATALOG, build


@dataclass(frozen=True)
class Trained:
    """A model in evaluation mode and what is known of it; ``data`` and ``config`` are None for published weights."""

    model: torch.nn.Module
    name: str
    classes: tuple[str, ...]
    preprocessing: dict
    data: dict | None
    config: dict | None


def add_arguments(parser):
    """How a command is told which model to use."""
    group = parser.add_argument_group("model: a run, or a network with weights from elsewhere")
    group.add_argument("--run", metavar="RUN", help="folder that `convkit train` wrote, or its model.safetensors")
    group.add_argument("--model", choices=CATALOG, metavar="MODEL", help=f"of {', '.join(CATALOG)}")
    group.add_argument("--weights", metavar="FILE", help="its state_dict: safetensors, or a .pth file of torch")
    group.add_argument("--classes", metavar="FILE", help="names of the classes, one a line")
    group.add_argument("--image-size", type=int, metavar="N", help="height and width of the images (as published)")
    group.add_argument("--device", metavar="DEVICE", help="cpu, cuda or cuda:1")


def open_model(arguments):
    """The `Trained` model that the options name, on their device."""
    if (arguments.run is None) == (arguments.model is None):
        raise ValueError("name one model: --run RUN, or --model MODEL with --weights FILE")
    if arguments.run is not None:
        trained = _from_run(Path(arguments.run))
    elif arguments.weights is None:
        raise ValueError(f"--model {arguments.model} needs --weights FILE: without training it would only guess")
    else:
        trained = _published(arguments)
    from convkit.train.distributed import default_device

    trained.model.to(arguments.device or default_device()).eval()
    return trained


def _from_run(path):
    from convkit.train import checkpoint
    from convkit.train.run import WEIGHTS

    path = path / WEIGHTS if path.is_dir() else path
    state = checkpoint.load(path)
    about = state.get("about", {})
    if "model" not in about or "preprocessing" not in about:
        raise ValueError(f"{path} does not say how to build its model: `convkit train` writes files that do")
    network = about["model"]
    model = build(network["name"], network["input_size"], network["outputs"], network.get("hidden", ()))
    checkpoint.check_weights(path, state[""], model)
    model.load_state_dict(state[""])
    return Trained(
        model, network["name"], tuple(about["classes"]), about["preprocessing"], about["data"], about["config"]
    )


def read_weights(path):
    """A state_dict from a safetensors file, or from torch's own format, of which only tensors are read."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if Path(path).suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise ValueError(f"{path} is no file of weights that can be read: {error}") from error
    except Exception as error:
        if type(error).__name__ != "UnpicklingError":
            raise
        raise ValueError(f"{path} holds more than tensors, or is no file of torch; it was not read") from error
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise ValueError(f"{path} is no state_dict: names and tensors")
    return found


def _published(arguments):
    from convkit.data.folder import MEAN, STD
    from convkit.train.checkpoint import check_weights

    entry, weights = CATALOG[arguments.model], read_weights(arguments.weights)
    if entry.inputs != "image":
        raise ValueError(f"--weights is for networks on images, but {arguments.model} takes: {entry.inputs}")
    channels, size = entry.input_size[0], arguments.image_size or entry.input_size[1]
    with torch.device("meta"):
        last = list(build(arguments.model, (channels, size, size), entry.outputs).state_dict())[-1]
    outputs = len(weights[last]) if last in weights and weights[last].dim() else entry.outputs
    model = build(arguments.model, (channels, size, size), outputs)
    check_weights(arguments.weights, weights, model)
    model.load_state_dict(weights)
    names = tuple(map(str, range(outputs)))
    if arguments.classes:
        names = tuple(line.strip() for line in Path(arguments.classes).read_text(encoding="utf-8").splitlines() if line)
        if len(names) != outputs:
            raise ValueError(f"{arguments.classes} names {len(names)} classes, but the weights have {outputs}")
    preprocessing = {"kind": "image", "size": [size, size], "mean": list(MEAN), "std": list(STD), "crop": True}
    return Trained(model, arguments.model, names, preprocessing, None, None)
