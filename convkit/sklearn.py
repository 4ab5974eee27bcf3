"""scikit-learn's estimators on convkit's networks; skorch trains them. Needs ``convkit[train]``.

In a program that uses ``sklearn.neural_network``, ``from convkit.sklearn import MLPClassifier`` is the one change. What
does not exist here: the parameters ``learning_rate``, ``power_t``, ``warm_start``, ``beta_1``, ``beta_2``, ``epsilon``
and ``max_fun``, the solver "lbfgs", the method ``partial_fit``. Early stopping watches the loss.
"""

import math
import warnings
from numbers import Integral, Real

import torch
from torch import nn

from convkit.models import mlp, small_cnn

try:
    import numpy as np
    import skorch
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
    from skorch.dataset import ValidSplit

    from convkit._skorch import Patience, whole_batches
except ModuleNotFoundError as error:
    message = f"convkit.sklearn needs {error.name}, which is not installed: pip install 'convkit[train]'"
    raise ModuleNotFoundError(message, name=error.name) from None

ACTIVATIONS = {"relu": "relu", "tanh": "tanh", "logistic": "sigmoid", "identity": "identity"}
SOLVERS = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
POSITIVE, NOT_NEGATIVE = "a positive number", "a number of at least 0"
RANGES = {
    "batch_size": ('a positive integer or "auto"', lambda v: v == "auto" or (isinstance(v, Integral) and v > 0)),
    "max_iter": ("a positive integer", lambda v: isinstance(v, Integral) and v > 0),
    "learning_rate_init": (POSITIVE, lambda v: isinstance(v, Real) and v > 0),
    "n_iter_no_change": (POSITIVE, lambda v: isinstance(v, Real) and v > 0),
    "alpha": (NOT_NEGATIVE, lambda v: isinstance(v, Real) and v >= 0),
    "tol": (NOT_NEGATIVE, lambda v: isinstance(v, Real) and v >= 0),
    "momentum": ("a number from 0 to 1", lambda v: isinstance(v, Real) and 0 <= v <= 1),
    "validation_fraction": ("a number between 0 and 1", lambda v: isinstance(v, Real) and 0 < v < 1),
}
LARGEST_AUTO_BATCH = 200


class _Network(BaseEstimator):
    """What the estimators share: scikit-learn's parameters in, a skorch net out."""

    def _set(self, parameters):
        for name in self._get_param_names():
            setattr(self, name, parameters[name])

    def _check_parameters(self):
        choices = {"solver": SOLVERS, "activation": ACTIVATIONS}
        for name, values in choices.items():
            given = getattr(self, name, next(iter(values)))
            if given not in values:
                raise ValueError(f"{type(self).__name__}: {name} must be one of {', '.join(values)}, but got {given!r}")
        for name, (wanted, holds) in RANGES.items():
            given = getattr(self, name)
            if not holds(given):
                raise ValueError(f"{type(self).__name__}: {name} must be {wanted}, but got {given!r}")

    def _train(self, inputs, targets, build, criterion):
        """Fit the network that ``build()`` makes; its weights and batches depend on ``random_state`` alone."""
        self._check_parameters()
        samples = len(inputs)
        batch_size = min(LARGEST_AUTO_BATCH if self.batch_size == "auto" else self.batch_size, samples)
        options = {}
        if self.solver == "sgd":
            nesterov = bool(self.nesterovs_momentum and self.momentum)
            options = {"optimizer__momentum": self.momentum, "optimizer__nesterov": nesterov}
        stratified = criterion is nn.CrossEntropyLoss
        monitor = "valid_loss" if self.early_stopping else "train_loss"
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        split = ValidSplit(self.validation_fraction, stratified=stratified, random_state=seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net_ = skorch.NeuralNet(
                build(),
                criterion,
                optimizer=SOLVERS[self.solver],
                optimizer__lr=self.learning_rate_init,
                optimizer__weight_decay=self.alpha / batch_size,  # as scikit-learn: alpha per batch, not for biases
                optimizer__param_groups=[("*bias", {"weight_decay": 0.0})],
                **options,
                max_epochs=self.max_iter,
                batch_size=batch_size,
                iterator_train=whole_batches,
                iterator_train__shuffle=bool(self.shuffle),
                iterator_valid=whole_batches,
                train_split=split if self.early_stopping else None,
                callbacks=[("stop", Patience(monitor, self.n_iter_no_change, self.tol, self.early_stopping))],
                verbose=int(self.verbose),
            ).fit(torch.tensor(inputs), torch.tensor(targets))
        history = self.net_.history
        self.n_iter_, self.loss_curve_ = len(history), history[:, "train_loss"]
        self.loss_ = self.loss_curve_[-1]
        if not math.isfinite(self.loss_):
            raise ValueError(f"{type(self).__name__}: the loss is {self.loss_}: lower learning_rate_init or scale X")
        if self.n_iter_ == self.max_iter:
            warnings.warn(f"max_iter={self.max_iter} reached and not converged yet", ConvergenceWarning, stacklevel=3)
        return self

    def _outputs(self, X):
        check_is_fitted(self)
        return self.net_.forward(torch.tensor(self._inputs(X, reset=False)))

    def _inputs(self, X, reset):
        return validate_data(self, X, dtype=np.float32, reset=reset)


class _Classifier(ClassifierMixin, _Network):
    def _labels(self, y):
        """``y`` as numbers of classes."""
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        return labels

    def predict_proba(self, X):
        """Probabilities of the classes, (N, len(classes_)) float32, in the order of ``classes_``."""
        return self._outputs(X).softmax(1).numpy()

    def predict(self, X):
        """The likeliest class of each sample."""
        winners = self._outputs(X).argmax(1).numpy()
        return self.classes_[winners]


def _glorot(network):
    """scikit-learn's first weights: uniform, wider the fewer neurons a layer joins."""
    for layer in network:
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            bound = math.sqrt(6 / sum(layer.weight.shape))
            nn.init.uniform_(layer.bias, -bound, bound)
    return network


class _MLP(_Network):
    """scikit-learn's parameters, but for those that :mod:`convkit.sklearn` names."""

    def __init__(
        self,
        hidden_layer_sizes=(100,),
        activation="relu",
        *,
        solver="adam",
        alpha=0.0001,
        batch_size="auto",
        learning_rate_init=0.001,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        momentum=0.9,
        nesterovs_momentum=True,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
    ):
        self._set(locals())

    def _build(self, outputs):
        hidden = np.atleast_1d(self.hidden_layer_sizes).astype(int).tolist()
        return _glorot(mlp(self.n_features_in_, hidden, outputs, activation=ACTIVATIONS[self.activation]))


_PARAMETERS = """
    Args:
        solver: "adam" or "sgd".
        momentum, nesterovs_momentum: of "sgd".
        alpha: strength of the L2 penalty on weights.
        batch_size: samples of a step; "auto" is 200; all where there are fewer.
        learning_rate_init: the learning rate, which stays.
        max_iter: most epochs; a ConvergenceWarning tells that they did not suffice.
        shuffle: whether each epoch takes the samples in another order.
        random_state: int, RandomState or None; an int gives the same weights in every fit. torch's own generator is
            left alone.
        tol, n_iter_no_change: training ends when the loss has not fallen by ``tol`` for so many epochs.
        verbose: print a line for each epoch.
        early_stopping: watch the loss of ``validation_fraction`` of the samples, which are not trained on; the weights
            of its best epoch stay.
"""
_ATTRIBUTES = """
    Attributes:
        net_: the trained ``skorch.NeuralNet``; ``net_.module_`` is the network.
        n_iter_, loss_, loss_curve_: epochs, last training loss, all of them.
"""


class MLPClassifier(_Classifier, _MLP):
    __doc__ = f"""``sklearn.neural_network.MLPClassifier`` through :func:`convkit.models.mlp`.
{_PARAMETERS}
        hidden_layer_sizes: widths of the hidden layers.
        activation: "relu", "tanh", "logistic" or "identity".
{_ATTRIBUTES}"""

    def fit(self, X, y):
        """Train on ``X`` (N, features) and ``y`` (N,), labels of any type."""
        X, y = validate_data(self, X, y, dtype=np.float32)
        labels = self._labels(y)
        return self._train(X, labels, lambda: self._build(len(self.classes_)), nn.CrossEntropyLoss)


class MLPRegressor(RegressorMixin, _MLP):
    __doc__ = f"""``sklearn.neural_network.MLPRegressor`` through :func:`convkit.models.mlp`; the loss is MSE.
{_PARAMETERS}
        hidden_layer_sizes: widths of the hidden layers.
        activation: "relu", "tanh", "logistic" or "identity".
{_ATTRIBUTES}"""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X, y):
        """Train on ``X`` (N, features) and ``y``, values (N,) or (N, outputs)."""
        X, y = validate_data(self, X, y, dtype=np.float32, multi_output=True, y_numeric=True)
        self._is_flat = y.ndim == 1
        targets = y.astype(np.float32).reshape(len(y), -1)
        return self._train(X, targets, lambda: self._build(targets.shape[1]), nn.MSELoss)

    def predict(self, X):
        """Values, float64: (N,) or (N, outputs) as ``y`` was."""
        values = self._outputs(X).double().numpy()
        return values[:, 0] if self._is_flat else values


class CNNClassifier(_Classifier):
    __doc__ = f""":func:`convkit.models.small_cnn` as a classifier of images; scale them to about 0 to 1 before.
{_PARAMETERS}
        image_shape: (channels, height, width) of the images that the rows of a 2-D ``X`` hold. None takes rows as
            square grey images; "pad" also those that are none, and fills them with zeros to the next square.
{_ATTRIBUTES}"""

    def __init__(
        self,
        image_shape=None,
        *,
        solver="adam",
        alpha=0.0001,
        batch_size=64,
        learning_rate_init=0.001,
        max_iter=20,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        momentum=0.9,
        nesterovs_momentum=True,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
    ):
        self._set(locals())

    def _inputs(self, X, reset):
        return self._images(validate_data(self, X, dtype=np.float32, reset=reset, allow_nd=True))

    def _images(self, X):
        """``X`` as (N, channels, height, width)."""
        if X.ndim == 4:
            return X
        if X.ndim == 3:
            return X[:, None]
        if X.ndim != 2:
            raise ValueError(f"CNNClassifier: X must have 2, 3 or 4 dimensions, but got {X.ndim}")
        if isinstance(self.image_shape, (tuple, list)):
            if math.prod(self.image_shape) != X.shape[1]:
                raise ValueError(f"CNNClassifier: image_shape={self.image_shape}, but X has {X.shape[1]} features")
            return X.reshape(-1, *self.image_shape)
        size = max(4, math.isqrt(X.shape[1] - 1) + 1)
        missing = size * size - X.shape[1]
        if missing and self.image_shape != "pad":
            raise ValueError(
                f"CNNClassifier: the {X.shape[1]} features of X are no square image of at least 4x4 pixels: give "
                "image_shape=(channels, height, width)"
            )
        return np.pad(X, ((0, 0), (0, missing))).reshape(-1, 1, size, size)

    def fit(self, X, y):
        """Train on images ``X``, (N, channels, height, width), (N, height, width) or rows (N, pixels), and ``y`` (N,),
        labels of any type."""
        X, y = validate_data(self, X, y, dtype=np.float32, allow_nd=True)
        labels, images = self._labels(y), self._images(X)
        _, channels, *size = images.shape
        return self._train(images, labels, lambda: small_cnn(channels, len(self.classes_), size), nn.CrossEntropyLoss)
