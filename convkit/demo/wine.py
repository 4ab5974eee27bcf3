"""The lecture's multi-layer perceptron on the Wine data, beside scikit-learn's."""

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from convkit.models import mlp
from convkit.train import Config, fit

HIDDEN = [8, 4]
EPOCHS = 300


@dataclass(frozen=True)
class WineResult:
    """Accuracies in [0, 1], one per split, in the same order; and the parameter counts of the network."""

    convkit: np.ndarray
    sklearn: np.ndarray
    parameters: int
    parameters_of_lecture: int
    shape: tuple  # (samples, features, classes)


def _split(seed):
    """30 % for the test; scaled by the mean and spread of the training part alone."""
    features, labels = load_wine(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(features, labels, test_size=0.3, random_state=seed)
    scaler = StandardScaler().fit(x_train)
    return scaler.transform(x_train).astype("float32"), scaler.transform(x_test).astype("float32"), y_train, y_test


def train(x, y, seed, classes):
    """Fit the network with Adam on full batches; ``x`` (N, features) float32, ``y`` (N,) class numbers."""
    torch.manual_seed(seed)
    model = mlp(x.shape[1], HIDDEN, classes)
    config = Config(
        epochs=EPOCHS, batch_size=len(x), lr=0.02, optimizer="adam", schedule="constant", seed=seed, progress=False
    )
    fit(model, (torch.from_numpy(x), torch.from_numpy(y)), config=config)
    return model


def run(seeds):
    """Train both on every split and score them on its test part; returns `WineResult`."""
    features, labels = load_wine(return_X_y=True)
    classes = len(set(labels.tolist()))
    ours, theirs = [], []
    for seed in tqdm(range(seeds), desc="Wine", unit="split", leave=False):
        x_train, x_test, y_train, y_test = _split(seed)
        model = train(x_train, y_train, seed, classes)
        with torch.no_grad():
            ours.append(float((model(torch.from_numpy(x_test)).argmax(1).numpy() == y_test).mean()))
        rival = MLPClassifier(hidden_layer_sizes=HIDDEN, max_iter=10000, random_state=seed).fit(x_train, y_train)
        theirs.append(rival.score(x_test, y_test))
    counts = [parameter.numel() for parameter in model.parameters()]
    return WineResult(
        convkit=np.array(ours),
        sklearn=np.array(theirs),
        parameters=sum(counts),
        parameters_of_lecture=sum(counts[:-2]),
        shape=(*features.shape, classes),
    )
