"""Measures whole networks: inference beside every peer, and training steps beside torch."""

import copy
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch.nn.functional import cross_entropy

import convkit
from convkit._text import counted
from convkit.benchmark.calls import FORMATS
from convkit.benchmark.measure import milliseconds
from convkit.benchmark.networks import NETWORKS
from convkit.benchmark.peers import PEERS, PeerUnavailable
from convkit.benchmark.rows import Row
from convkit.testing.timing import compare, torch_threads

LARGEST_ERROR = 1e-4  # relative L2 of the logits: what any sound float32 implementation stays far below


@dataclass(frozen=True)
class NetworkCase:
    """What one measurement is of; ``direction`` is "inference" or "training step"."""

    network: str
    direction: str
    batch: int
    threads: int
    peers: tuple = ()

    def __str__(self):
        return f"{self.network}, {self.direction}, batch {self.batch}, {counted(self.threads, 'thread')}"


def _models(case):
    """(contender, format) -> the same network, laid out; and its logits for the first image in float64."""
    original, models = NETWORKS[case.network].build(), {}
    original.train(case.direction == "training step")  # optimize folds what is in evaluation mode for good
    for format, memory_format in FORMATS.items():
        theirs, ours = (copy.deepcopy(original).to(memory_format=memory_format) for _ in range(2))
        models["torch", format], models["convkit", format] = theirs.eval(), convkit.optimize(ours)[0].eval()
    return models, original.eval().double()


def _relative_error(logits, exact):
    return ((logits[:1].double() - exact).norm() / exact.norm()).item()


def _training_step(model, images, labels):
    optimizer = torch.optim.SGD(model.train().parameters(), lr=1e-5, momentum=0.9)

    def step():
        with torch.enable_grad():
            optimizer.zero_grad()
            cross_entropy(model(images), labels).backward()
            optimizer.step()

    return step


def _peer(case, peer, models, images):
    """The peer's format and function; torch.compile takes the model as it is laid out: in the mostly faster format."""
    format = "channels_last" if peer.startswith("torch.compile") else ""
    prepared = models["torch", format or "NCHW"]
    return format, PEERS[peer](prepared, images.to(memory_format=FORMATS[format or "NCHW"]), case.threads)


def measure_network(case, seconds):
    """The rows of one network, one per contender; ``seconds`` are for all contenders together."""
    torch.manual_seed(0)
    images = torch.randn(case.batch, *NETWORKS[case.network].input_size)
    calls, errors, reasons = {}, {}, {}
    with torch.no_grad(), torch_threads(case.threads):
        models, exact_model = _models(case)
        exact = exact_model(images[:1].double())
        labels = torch.randint(exact.shape[1], (case.batch,))
        for key, model in models.items():
            laid_out = images.to(memory_format=FORMATS[key[1]])
            errors[key] = _relative_error(model(laid_out), exact)
            training = case.direction == "training step"
            calls[key] = _training_step(model, laid_out, labels) if training else partial(model, laid_out)
        for peer in case.peers:
            try:
                format, call = _peer(case, peer, models, images)
                calls[peer, format], errors[peer, format] = call, _relative_error(call(), exact)
            except PeerUnavailable as reason:
                reasons[peer, ""] = str(reason)
        for key, error in errors.items():
            if not error <= LARGEST_ERROR:
                reasons[key] = f"wrong: a relative error of {error:.2g} is above {LARGEST_ERROR}"
        timings = compare({key: call for key, call in calls.items() if key not in reasons}, seconds=seconds)
    work = ("networks", f"{case.network}, batch {case.batch}", "network", "x".join(map(str, images.shape)), 1)
    rows = []
    for contender, format in {**calls, **reasons}:
        key = contender, format
        row = Row(*work, case.direction, "normal", "float32", case.threads, *key, error=errors.get(key))
        if key in reasons:
            rows.append(replace(row, state=reasons[key]))
        else:
            rows.append(replace(row, **milliseconds(timings[key], "warm"), faults=timings[key].faults))
    return rows
