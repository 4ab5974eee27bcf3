"""Options that several commands share."""

from convkit.models.catalog import CATALOG


def refuse_unused(arguments, names, why):
    """Raise a ValueError for the first option that is given though nothing would read it."""
    for name in names:
        if getattr(arguments, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} {why}")


def add_model(parser):
    """How a command is told which model to use."""
    group = parser.add_argument_group("model: a run, or a network with weights from elsewhere")
    group.add_argument("--run", metavar="RUN", help="folder that `convkit train` wrote (the latest in runs/)")
    group.add_argument("--model", choices=CATALOG, metavar="MODEL", help=f"of {', '.join(CATALOG)}")
    group.add_argument("--weights", metavar="FILE", help="its state_dict: safetensors, or a .pth file of torch")
    group.add_argument("--classes", metavar="FILE", help="names of the classes, one a line")
    group.add_argument("--image-size", type=int, metavar="N", help="height and width of the images (as published)")
    group.add_argument("--device", metavar="DEVICE", help="cpu, cuda or cuda:1")
