"""What is measured: the default run, the quick one, and what the options make of them."""

from dataclasses import dataclass
from itertools import product

from convkit.benchmark import suites
from convkit.benchmark.calls import DIRECTIONS, FORMATS
from convkit.benchmark.measure import Case
from convkit.benchmark.measure_networks import NetworkCase
from convkit.benchmark.peers import PEERS

NETWORK_SUITES = ("networks", "memory")
GRADIENTS = ("backward_input", "backward_weight", "backward", "training")
LAST_LAYERS = 3  # of a suite, for the quick run


@dataclass(frozen=True)
class Part:
    """Suites in some directions (those that an op does not have are left out) and dtypes."""

    suites: tuple
    directions: tuple
    dtypes: tuple = ("float32",)


EVERY_SUITE = (
    *("vgg16", "resnet50", "mobilenet_v2", "xception", "grouped", "alexnet", "small", "odd", "pooling", "relu"),
    "fused",
)
DEFAULT = (
    Part(EVERY_SUITE, ("forward",)),
    Part(("vgg16", "resnet50", "small", "pooling", "relu"), ("backward_input", "backward_weight", "backward")),
    Part(("fused",), ("training",)),
    Part(("vgg16",), ("forward",), ("bfloat16",)),
    Part(("scaling",), ("forward",)),
)
NETWORKS = (  # network, direction, batch, with every peer
    ("vgg16", "inference", 1, True),
    ("mobilenet_v2", "inference", 1, True),
    ("small_cnn", "inference", 1, True),
    ("resnet50", "inference", 1, False),
    ("small_cnn", "training step", 1, False),
    ("small_cnn", "training step", 64, False),
    ("small_cnn", "training step", 256, False),
    ("resnet50", "training step", 2, False),
    ("vgg16", "training step", 8, False),
)
MEMORY = (("small_cnn", 256), ("vgg16", 8))  # network, batch
QUICK = (
    Part(("vgg16", "mobilenet_v2", "small", "pooling", "fused"), ("forward",)),
    Part(("small",), ("backward_input", "backward_weight")),
)
QUICK_NETWORKS = (("small_cnn", "inference", 1, True), ("small_cnn", "training step", 64, False))


@dataclass(frozen=True)
class Options:
    """What to measure; an empty tuple leaves the choice to the plan. ``against``: torch and names of `peers.PEERS`."""

    suites: tuple = ()
    directions: tuple = ()
    dtypes: tuple = ()
    threads: tuple = (1,)
    formats: tuple = tuple(FORMATS)
    against: tuple = ("torch", *PEERS)
    quick: bool = False


def _parts(options):
    parts = QUICK if options.quick else DEFAULT
    wanted = [suite for suite in options.suites if suite not in NETWORK_SUITES]
    if not options.suites:
        chosen = parts
    elif not (options.directions or options.dtypes):
        chosen = [Part(tuple(s for s in wanted if s in part.suites), part.directions, part.dtypes) for part in parts]
        planned = {suite for part in parts for suite in part.suites}
        chosen.append(Part(tuple(s for s in wanted if s not in planned), ("forward",)))
    else:
        chosen = [Part(tuple(wanted), options.directions or ("forward",), options.dtypes or ("float32",))]
    if options.suites:
        return chosen
    return [Part(p.suites, options.directions or p.directions, options.dtypes or p.dtypes) for p in chosen]


def layer_cases(options):
    """The cases of single layers, in the order in which they are measured; ValueError for a suite that is none."""
    found = {}
    for part in _parts(options):
        for suite, dtype in product(part.suites, part.dtypes):
            layers = suites.read(suite)
            layers = layers[:: max(1, len(layers) // LAST_LAYERS)] if options.quick else layers
            for layer, direction, threads in product(layers, part.directions, options.threads):
                if direction in DIRECTIONS[layer.op]:
                    for data in ("normal", "ReLU'd") if layer.op == "max_pool2d" else ("normal",):
                        found[Case(layer, direction, dtype, threads, data, options.formats)] = None
    return list(found)


def network_cases(options):
    """The cases of whole networks."""
    if options.suites and "networks" not in options.suites:
        return []
    return [
        NetworkCase(network, direction, batch, threads, tuple(p for p in options.against if p in PEERS and every_peer))
        for (network, direction, batch, every_peer), threads in product(
            QUICK_NETWORKS if options.quick else NETWORKS, options.threads
        )
    ]


def memory_cases(options):
    """(network, batch) pairs whose training step is measured for memory."""
    if options.suites and "memory" not in options.suites:
        return []
    return MEMORY[:1] if options.quick else MEMORY
