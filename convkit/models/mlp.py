"""The multi-layer perceptron of the lecture, the linear model, and the rule of thumb for a first architecture."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

import convkit.nn
from convkit.models._check import check_positive

ACTIVATIONS = ("relu", "sigmoid", "tanh", "identity")
HEADS = (None, "softmax", "sigmoid")
MOST_PARAMETERS_PER_SAMPLE = 2  # what "not much more parameters than samples" means here
NARROWEST = 2


def mlp(in_features, hidden, out_features, *, activation="relu", head=None, layers=convkit.nn):
    """Linear layers with an activation between each two: ``mlp(13, [8, 4], 3)`` is the lecture's for the Wine data.

    Args:
        in_features: number of features of a sample.
        hidden: widths of the hidden layers; ``[]`` gives a linear model.
        out_features: number of classes, or of predicted values.
        activation: "relu", "sigmoid", "tanh" or "identity".
        head: what stands on the last layer. None: nothing; logits, which ``cross_entropy`` takes, or values of any
            size. "softmax": probabilities that add up to 1. "sigmoid": values between 0 and 1.
        layers: namespace with ``Linear`` and ``ReLU``; ``torch.nn`` gives the same network, with the same state_dict.

    Returns:
        ``torch.nn.Sequential`` from (N, in_features) to (N, out_features).
    """
    if not isinstance(hidden, Iterable):
        raise TypeError(f"mlp: hidden must be a list of widths, but got {hidden!r}")
    hidden = list(hidden)
    check_positive("mlp", in_features=in_features, out_features=out_features)
    for width in hidden:
        check_positive("mlp", **{"a width in hidden": width})
    if activation not in ACTIVATIONS:
        raise ValueError(f"mlp: activation must be one of {', '.join(ACTIVATIONS)}, but got {activation!r}")
    if head not in HEADS:
        raise ValueError(f"mlp: head must be None, 'softmax' or 'sigmoid', but got {head!r}")
    between = {"relu": layers.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "identity": nn.Identity}[activation]
    modules = []
    for inputs, outputs in pairwise([in_features, *hidden, out_features]):
        modules += [layers.Linear(inputs, outputs), between()]
    modules.pop()
    if head is not None:
        modules.append(nn.Softmax(dim=1) if head == "softmax" else nn.Sigmoid())
    model = nn.Sequential(*modules)
    model.input_size = (in_features,)
    return model


def linear_model(in_features, out_features, *, head=None, layers=convkit.nn):
    """The lecture's F(x) = w.x + b, with one w and b for each output: :func:`mlp` without hidden layers.

    Returns:
        ``torch.nn.Sequential`` from (N, in_features) to (N, out_features).
    """
    return mlp(in_features, [], out_features, head=head, layers=layers)


REASONS = {
    "input": "input: one neuron for each of the {features} features",
    "hidden": "two hidden layers, powers of two: {first} for about half of {features}, {second} for half of that",
    "halved": "halved to {first} and {second}: parameters should not much exceed samples",
    "classes": "output: one neuron for each of {outputs} classes; softmax makes probabilities of them",
    "value": "output: one neuron for the value",
    "parameters": "{parameters:,} parameters for {samples:,} samples",
    "too_many": "that is many more parameters than samples: take fewer features, or a linear model",
    "narrow": "the last hidden layer is narrower than the {outputs} outputs: try {outputs} there too",
}


@dataclass(frozen=True)
class Suggestion:
    """An architecture and why; ``print`` it for text.

    Attributes:
        widths: of all layers, from the features to the outputs.
        parameters: of the whole network.
        facts: (name of a reason, the numbers in it) for each choice, in order.
    """

    widths: tuple[int, ...]
    parameters: int
    facts: tuple[tuple[str, dict], ...]

    @property
    def hidden(self):
        return list(self.widths[1:-1])

    def reasons(self):
        """One sentence for each choice."""
        return [REASONS[name].format(**numbers) for name, numbers in self.facts]

    def __str__(self):
        network = " -> ".join(map(str, self.widths))
        return "\n".join([f"{network}, {self.parameters:,} parameters", *(f"  {line}" for line in self.reasons())])


def _count(widths):
    return sum(outputs * (inputs + 1) for inputs, outputs in pairwise(widths))


def _nearest_power_of_two(number):
    below = 1 << max(0, int(number).bit_length() - 1)
    return below if number - below < 2 * below - number else 2 * below


def suggest_mlp(features, classes, samples):
    """The lecture's rule of thumb for a first network.

    Two hidden layers, powers of two: the first about half as wide as there are features, the second half of that. Where
    this makes many more parameters than samples, both are halved until it does not.

    Args:
        features: number of features of a sample.
        classes: number of classes; None for a regression with one value.
        samples: number of samples to learn from.

    Returns:
        :class:`Suggestion`; ``mlp(features, suggestion.hidden, suggestion.widths[-1])`` builds it.
    """
    lowest = {"features": (features, 1), "samples": (samples, 1), "classes": (2 if classes is None else classes, 2)}
    for name, (value, least) in lowest.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"suggest_mlp: {name} must be an integer of at least {least}, but got {value!r}")
    outputs = 1 if classes is None else classes
    rule = max(2 * NARROWEST, _nearest_power_of_two(features / 2))
    first, most = rule, MOST_PARAMETERS_PER_SAMPLE * samples
    while first > 2 * NARROWEST and _count([features, first, first // 2, outputs]) > most:
        first //= 2
    widths = (features, first, first // 2, outputs)
    parameters = _count(widths)
    facts = [
        ("input", {"features": features}),
        ("hidden", {"first": rule, "second": rule // 2, "features": features}),
        ("value", {}) if classes is None else ("classes", {"outputs": outputs}),
        ("parameters", {"parameters": parameters, "samples": samples}),
    ]
    if first < rule:
        facts.insert(2, ("halved", {"first": first, "second": first // 2}))
    if parameters > most:
        facts.append(("too_many", {}))
    if first // 2 < outputs:
        facts.append(("narrow", {"outputs": outputs}))
    return Suggestion(widths, parameters, tuple(facts))
