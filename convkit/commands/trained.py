"""Models to use: those of ``convkit train``, and published weights of a named network."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from convkit._text import counted
from convkit.commands.options import refuse_unused
from convkit.models.catalog import CATALOG, build
from convkit.train import checkpoint, distributed
from convkit.train.run import WEIGHTS


@dataclass(frozen=True)
class Trained:
    """A model in evaluation mode and what is known of it; ``data`` and ``config`` are None for published weights."""

    model: torch.nn.Module
    name: str
    path: Path
    classes: tuple[str, ...]
    preprocessing: dict
    data: dict | None
    config: dict | None


def open_model(arguments):
    """The `Trained` model that the options name, or the latest run, on their device."""
    if arguments.run is not None and arguments.model is not None:
        raise ValueError("name one model: --run RUN, or --model MODEL with --weights FILE")
    if arguments.model is None:
        refuse_unused(arguments, ("weights", "classes", "image_size"), "is for --model MODEL; a run knows its own")
    if arguments.model is None:
        trained = _from_run(Path(arguments.run or _latest()))
    elif arguments.weights is None:
        raise ValueError(f"--model {arguments.model} needs --weights FILE: without training it would only guess")
    else:
        trained = _published(arguments)
    trained.model.to(distributed.device(arguments.device)).eval()
    return trained


def _latest():
    """The folder in runs/ that was trained last."""
    files = sorted(Path("runs").glob(f"*/{WEIGHTS}"), key=lambda path: path.stat().st_mtime)
    if not files:
        raise FileNotFoundError("there is no run in runs/: train one, or name --run RUN or --model MODEL")
    return files[-1].parent


def _filled(path, network, weights):
    """The model ``build(*network)`` with these weights in its own dtypes; they are not copied where they have those."""
    with torch.device("meta"):  # nothing is drawn that would be overwritten
        model = build(*network)
    checkpoint.check_weights(path, weights, model)
    own = model.state_dict()
    model.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in weights.items()}, assign=True)
    return model


def _from_run(path):
    if path.is_dir() and not (path / WEIGHTS).exists():
        raise FileNotFoundError(f"{path} is no run of `convkit train`: there is no {WEIGHTS} in it")
    path = path / WEIGHTS if path.is_dir() else path
    state = checkpoint.load(path)
    about = state.get("about", {})
    if "model" not in about or "preprocessing" not in about:
        raise ValueError(f"{path} does not say how to build its model: `convkit train` writes files that do")
    network = about["model"]
    arguments = network["name"], network["input_size"], network["outputs"], network.get("hidden", ())
    model = _filled(path, arguments, state[""])
    known = tuple(about["classes"]), about["preprocessing"], about["data"], about["config"]
    return Trained(model, network["name"], path, *known)


def read_weights(path):
    """A state_dict from a safetensors file, or from torch's own format, of which only tensors are read: a pickle with
    more in it can run any code."""
    try:
        if Path(path).suffix == ".safetensors":
            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # damaged pickles raise anything
        raise ValueError(f"{path} is no file of weights: {_reason(error)}") from error
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise ValueError(f"{path} is no state_dict: names and tensors")
    return found


def _reason(error):
    """torch's refusal of a pickle in one line, with its advice."""
    text = str(error)
    if "WeightsUnpickler error:" not in text:
        return f"it is damaged: {type(error).__name__} {text.partition(chr(10))[0]}".rstrip()
    what = text.partition("WeightsUnpickler error:")[2].strip().partition("\n")[0].partition(". ")[0]
    return (
        f"it holds more than tensors ({what}). If you trust its source, and only then, make one of it: "
        "torch.save(torch.load(FILE, weights_only=False).state_dict(), NEW_FILE)"
    )


def _published(arguments):
    entry, weights = CATALOG[arguments.model], read_weights(arguments.weights)
    if entry.inputs != "image":
        raise ValueError(f"--weights is for networks on images, but {arguments.model} takes: {entry.inputs}")
    channels, size = entry.input_size[0], arguments.image_size or entry.input_size[1]
    with torch.device("meta"):
        last = list(build(arguments.model, (channels, size, size), entry.outputs).state_dict())[-1]
    outputs = len(weights[last]) if last in weights and weights[last].dim() else entry.outputs
    model = _filled(arguments.weights, (arguments.model, (channels, size, size), outputs), weights)
    names = tuple(map(str, range(outputs)))
    if arguments.classes:
        names = tuple(line.strip() for line in Path(arguments.classes).read_text(encoding="utf-8").splitlines() if line)
        if len(names) != outputs:
            raise ValueError(f"{arguments.classes} has {counted(len(names), 'name')}, the weights {outputs} classes")
    return Trained(model, arguments.model, Path(arguments.weights), names, entry.preprocessing(size), None, None)
