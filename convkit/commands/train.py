"""``convkit train``."""

import dataclasses
import json
from pathlib import Path

from convkit._text import counted
from convkit.commands.options import refuse_unused
from convkit.models.catalog import CATALOG, KINDS, build, default_hidden

# What suits each kind of data, where neither the command line nor the model says otherwise.
RECIPES = {
    "table": {"epochs": 200, "batch_size": 16, "lr": 0.01, "weight_decay": 1e-3},
    "image": {"epochs": 40, "batch_size": 64, "lr": 1e-2, "weight_decay": 1e-2},
    "video": {"epochs": 20, "batch_size": 16, "lr": 3e-3, "weight_decay": 1e-2},
}
IMAGE_SIZES = {"small-cnn": 64, "mlp": 64, "linear": 64, "xception": 299}  # for folders of images; else 224
LINES = 20  # about so many epochs get a line

DESCRIPTION = """\
Train a model and test it on data that it has not seen. SOURCE is a data set that comes with a package
(wine, breast-cancer, diabetes, digits, mnist5k, faces, moving-digits, clips), a CSV file with a header,
a folder of images with a folder for each class, or a folder with the files of MNIST or CIFAR."""
EPILOG = """\
What is left open is chosen for the model and the data: `--json` tells what that was.

The output folder gets
  model.safetensors       the weights, best by validation loss, for `convkit predict` and `convkit evaluate`
  checkpoint.safetensors  all that `--resume` needs: a run killed at any moment ends with the weights it would have had
  metrics.csv             a line for each epoch;  curves.png and confusion.png: the same to look at

examples:
  convkit train wine --model mlp                   the lecture's network, 13 -> 8 -> 4 -> 3
  convkit train digits --model small-cnn           handwritten digits; a minute
  convkit train table.csv --model mlp --target price --task regression
  convkit train photos/ --model vgg16 --epochs 20 --batch-size 32 --workers 2
  convkit train photos/ --model vgg16 --epochs 20 --batch-size 32 --workers 2 --resume
  torchrun --nproc-per-node 2 -m convkit train mnist5k --model small-cnn     two processes, the same result"""


def add_arguments(parser):
    parser.add_argument("source", metavar="SOURCE", help="name of a data set, or path of a file or folder")
    parser.add_argument("--model", required=True, choices=CATALOG, metavar="MODEL", help=f"of {', '.join(CATALOG)}")
    parser.add_argument("--hidden", type=int, nargs="*", metavar="N", help="widths of an mlp (by the rule of thumb)")
    _add_training(parser.add_argument_group("training"))
    _add_data(parser.add_argument_group("data"))
    files = parser.add_argument_group("output")
    files.add_argument("--output", metavar="DIR", help="folder of the run (runs/SOURCE-MODEL)")
    files.add_argument("--resume", action="store_true", help="continue the run in that folder")
    files.add_argument("--checkpoint-steps", type=int, metavar="N", help="write the checkpoint after N batches too")
    files.add_argument("--tensorboard", action="store_true", help="write event files; needs convkit[tensorboard]")
    files.add_argument("--json", action="store_true", help="print settings and scores as JSON, nothing else")


def _add_training(group):
    group.add_argument("--epochs", type=int, metavar="N", help="passes over the training data")
    group.add_argument("--batch-size", type=int, metavar="N", help="samples of a step, in all processes together")
    group.add_argument("--lr", type=float, metavar="RATE", help="learning rate")
    group.add_argument("--optimizer", choices=("adamw", "adam", "sgd"))
    group.add_argument("--momentum", type=float, metavar="M", help="of sgd")
    group.add_argument("--weight-decay", type=float, metavar="W")
    group.add_argument(
        "--schedule", choices=("constant", "cosine", "step", "one-cycle"), help="of the learning rate, by batches"
    )
    group.add_argument("--clip-norm", type=float, metavar="NORM", help="scale gradients down to this norm")
    group.add_argument(
        "--precision", choices=("float32", "bfloat16", "float16"), help="of convolutions and dense layers (autocast)"
    )
    group.add_argument("--patience", type=int, metavar="N", help="end after N epochs without a lower validation loss")
    group.add_argument("--seed", type=int, metavar="N", help="of weights, order, augmentation and split (0)")
    group.add_argument("--device", metavar="DEVICE", help="cpu, cuda or cuda:1; a GPU if convkit has kernels for it")
    group.add_argument("--threads", type=int, metavar="N", help="threads of this process")
    group.add_argument("--workers", type=int, metavar="N", help="processes that load images (0)")


def _add_data(group):
    group.add_argument(
        "--test", type=float, metavar="SHARE", help="held out for the test (0.2; tables 0.3), unless SOURCE has its own"
    )
    group.add_argument("--valid", type=float, metavar="SHARE", help="held out for validation (0.1; tables 0)")
    group.add_argument("--image-size", type=int, metavar="N", help="height and width that images are brought to")
    group.add_argument("--target", metavar="COLUMN", help="column of a CSV file to predict (the last)")
    group.add_argument("--task", choices=("classification", "regression"), help="of a CSV file (by its target)")
    group.add_argument(
        "--no-augment", dest="augment", action="store_false", help="do not shift, crop and mirror images"
    )
    group.add_argument(
        "--no-check", dest="check", action="store_false", help="do not look for unreadable images beforehand"
    )


def _given(arguments, kind):
    """The fields of a dataclass that the command line sets."""
    names = {field.name for field in dataclasses.fields(kind)}
    return {name: value for name, value in vars(arguments).items() if name in names and value is not None}


def main(arguments):
    """Run the command that parsed ``arguments`` ask for."""
    import torch

    from convkit.train import distributed

    if arguments.threads is not None:
        if arguments.threads < 1:
            raise ValueError(f"--threads must be at least 1, but got {arguments.threads}")
        torch.set_num_threads(arguments.threads)
    if arguments.model != "mlp":
        refuse_unused(arguments, ("hidden",), f"is for an mlp, but the model is {arguments.model}")
    with distributed.processes(arguments.device):
        _train(arguments, say=print if distributed.rank() == 0 and not arguments.json else lambda *_: None)


def _read(arguments):
    """(Data, the source as evaluate will find it, options as a dict)."""
    from convkit.data import SOURCES, Options, load

    source = arguments.source if arguments.source in SOURCES else str(Path(arguments.source).absolute())
    given = _given(arguments, Options)
    if arguments.image_size is None and Path(source).is_dir() and arguments.model in IMAGE_SIZES:
        given["image_size"] = IMAGE_SIZES[arguments.model]
    if arguments.source not in SOURCES and not Path(source).exists():
        source = arguments.source  # for the message
    data = load(source, Options(**given))
    return data, source, given


def _train(arguments, say):
    import torch

    from convkit.train import Config, Output, distributed, evaluate, fit
    from convkit.train.records import write_confusion

    data, source, options = _read(arguments)
    kind = KINDS[len(data.input_size)]
    recipe = RECIPES[kind] | CATALOG[arguments.model].recipe
    loss = "cross_entropy" if data.classes else "mse"
    config = Config(**{**recipe, "loss": loss, **_given(arguments, Config)})
    if config.optimizer != "sgd":
        refuse_unused(arguments, ("momentum",), f"is for sgd, but the optimizer is {config.optimizer}")
    hidden = arguments.hidden
    if hidden is None:
        hidden = default_hidden(data.input_size, len(data.classes) or None, len(data.train))
    torch.manual_seed(config.seed)
    model = build(arguments.model, data.input_size, data.outputs, hidden)
    network = {"name": arguments.model, "input_size": list(data.input_size), "outputs": data.outputs}
    network |= {"hidden": hidden} if arguments.model == "mlp" else {}
    about = {
        "model": network,
        "classes": list(data.classes),
        "preprocessing": data.preprocessing,
        "data": {"source": source, "options": options},
        "config": config.as_dict(),
    }
    directory = Path(arguments.output or f"runs/{Path(arguments.source).stem}-{arguments.model}")
    for line in describe(data, model, network, config):
        say(line)
    output = Output(
        directory,
        resume=arguments.resume,
        checkpoint_steps=arguments.checkpoint_steps,
        tensorboard=arguments.tensorboard,
        about=about,
        report=lambda row: say(_line(row, config)) if _has_line(row, config) else None,
    )
    history = fit(model, data.train, data.valid, config, output)
    if data.valid is not None:
        best = min(history, key=lambda row: row["valid_loss"])["epoch"]
        why = f"; no lower one in {counted(config.patience, 'epoch')} after it" if len(history) < config.epochs else ""
        say(f"kept: the weights of epoch {best}, with the lowest validation loss{why}")
    result = {**about, "history": history, "output": str(directory)}
    if data.test is not None:
        found = evaluate(model, data.test, config, confusion=loss == "cross_entropy")
        result["test"] = in_units(found.values, data.preprocessing) | {"samples": len(data.test)}
        if found.confusion is not None and distributed.rank() == 0:
            write_confusion(directory / "confusion.png", found.confusion.cpu(), data.classes)
        say(f"test: {as_text(result['test'])}")
    say(f"weights: {directory / 'model.safetensors'}")
    if arguments.json and distributed.rank() == 0:
        print(json.dumps(result, indent=2))


def describe(data, model, network, config):
    """What is about to be trained, as lines."""
    yield from data.notes
    parts = {"training": data.train, "validation": data.valid, "test": data.test}
    counts = ", ".join(f"{len(part):,} for {name}" for name, part in parts.items() if part is not None)
    what = f"{len(data.classes)} classes" if data.classes else "a regression"
    yield f"{data.name}: {what}, samples of {'x'.join(map(str, data.input_size))}; {counts}"
    widths = " -> ".join(map(str, [*network["hidden"], network["outputs"]])) if "hidden" in network else ""
    parameters = sum(p.numel() for p in model.parameters())
    yield f"{network['name']}{f', hidden layers and output {widths}' if widths else ''}: {parameters:,} parameters"
    yield (
        f"{config.optimizer}, learning rate {config.lr:g} ({config.schedule}), batches of {config.batch_size}, "
        f"{counted(config.epochs, 'epoch')}, {config.precision}, seed {config.seed}"
    )


def _has_line(row, config):
    return row["epoch"] % -(-config.epochs // LINES) == 0 or row["epoch"] in (1, config.epochs)


def _line(row, config):
    scores = {name.removeprefix("valid_"): value for name, value in row.items() if name.startswith("valid_")}
    text = f"epoch {row['epoch']}/{config.epochs}: loss {row['train_loss']:.4f}, {row['seconds']:.1f} s"
    return f"{text}; validation: {as_text(scores)}" if scores else text


def in_units(values, preprocessing):
    """Scores with errors in the units of the target, which training scales."""
    if "target_scale" not in preprocessing:
        return dict(values)
    scale = preprocessing["target_scale"]
    return {"mae": values["mae"] * scale, "rmse": values["loss"] ** 0.5 * scale, "r2": values["r2"]}


def as_text(scores):
    """Scores as people write them."""
    percent = {"accuracy": "accuracy", "top5": "top-5"}
    names = {"mae": "mean absolute error", "rmse": "root mean squared error", "r2": "R²"}
    parts = []
    for name, value in scores.items():
        if name in percent:
            parts.append(f"{percent[name]} {100 * value:.2f} %")
        elif name == "samples":
            parts.append(counted(value, "sample"))
        else:
            parts.append(f"{names.get(name, name)} {value:.4g}")
    return ", ".join(parts)
