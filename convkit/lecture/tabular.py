"""A table, a network by the rule of thumb, and scikit-learn's on the same splits: the Wine example and exercise 1."""

import warnings
from dataclasses import dataclass
from functools import partial

import numpy as np
from sklearn import neural_network
from sklearn.exceptions import ConvergenceWarning
from tqdm import tqdm

from convkit.data import Data, Options, load
from convkit.models import Suggestion, suggest_mlp
from convkit.sklearn import MLPClassifier, MLPRegressor
from convkit.testing.timing import torch_threads

TEST_FRACTION = 0.3
# Of both networks: with scikit-learn's 0.001 ours takes more epochs, four times and twice, to the same scores.
CLASSIFICATION_RATE, REGRESSION_RATE = 0.01, 0.003


@dataclass(frozen=True)
class Comparison:
    """Scores on the test part of each split, ours and scikit-learn's: accuracy in [0, 1], or R² of a regression.

    ``data`` is the last of the splits; ``rate`` is the learning rate of both networks.
    """

    data: Data
    samples: int
    suggestion: Suggestion
    convkit: np.ndarray
    sklearn: np.ndarray
    rate: float

    @property
    def parameters_of_lecture(self):
        """The lecture's count, without the output layer."""
        *hidden, outputs = self.suggestion.widths
        return self.suggestion.parameters - outputs * (hidden[-1] + 1)


def compare(source, seeds, *, target=None, task=None):
    """Split, train both networks and score them on the test part, ``seeds`` times.

    Args:
        source: name of a data set of tables, or path of a CSV file, as :func:`convkit.data.load` takes it.
        seeds: number of splits.
        target, task: of a CSV file; see :class:`convkit.data.Options`.

    Returns:
        :class:`Comparison`.
    """
    scores = []
    with torch_threads(1), warnings.catch_warnings():  # on so small networks threads wait for each other
        warnings.simplefilter("ignore", ConvergenceWarning)
        for seed in tqdm(range(seeds), desc=str(source), unit="split", leave=False, disable=None):
            data = load(source, Options(test=TEST_FRACTION, valid=0, seed=seed, target=target, task=task))
            if len(data.input_size) != 1:
                raise ValueError(f"{source} is no table: its samples are of size {data.input_size}")
            (x_train, y_train), (x_test, y_test) = (
                [t.numpy() for t in part.tensors] for part in (data.train, data.test)
            )
            samples = len(x_train) + len(x_test)
            suggestion = suggest_mlp(x_train.shape[1], len(data.classes) or None, samples)
            networks = _networks(suggestion.hidden, regression=not data.classes)
            fitted = [network(random_state=seed).fit(x_train, y_train.squeeze()) for network in networks]
            scores.append([network.score(x_test, y_test.squeeze()) for network in fitted])
    [rate] = {network.learning_rate_init for network in fitted}
    return Comparison(data, samples, suggestion, *np.array(scores).T, rate)


def _networks(hidden, *, regression):
    rate = REGRESSION_RATE if regression else CLASSIFICATION_RATE
    options = {"hidden_layer_sizes": hidden, "max_iter": 10000, "learning_rate_init": rate}
    if regression:
        return partial(MLPRegressor, **options), partial(neural_network.MLPRegressor, **options)
    return partial(MLPClassifier, **options), partial(neural_network.MLPClassifier, **options)
