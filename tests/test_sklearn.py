"""convkit.sklearn under scikit-learn's own checks, in pipelines and searches, and beside scikit-learn's networks."""

import pickle

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")
pytest.importorskip("skorch")

from sklearn import neural_network
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_digits, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from convkit.sklearn import CNNClassifier, MLPClassifier, MLPRegressor

# Every check that is not passed, and why. One more is skipped by scikit-learn itself: check_array_api_input, which runs
# where SCIPY_ARRAY_API is set.
NOT_PASSED = {
    "MLPRegressor": {
        "check_methods_subset_invariance": "convkit's float32 linear adds in another order for up to four rows, so a "
        "batch of one row differs in the last bits; the check allows 1e-7",
    }
}
ESTIMATORS = [MLPClassifier(max_iter=100), MLPRegressor(max_iter=100), CNNClassifier("pad", max_iter=30)]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)  # for so small networks threads cost more than they save


@parametrize_with_checks(ESTIMATORS, expected_failed_checks=lambda e: NOT_PASSED.get(type(e).__name__, {}))
def test_scikit_learns_checks(estimator, check):
    check(estimator)


LISTING = """
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.neural_network import MLPClassifier

X, y = load_wine(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, random_state=seed)
scaler = StandardScaler().fit(X_train)
network = MLPClassifier(hidden_layer_sizes=[8, 4], max_iter=10000, random_state=seed)
network.fit(scaler.transform(X_train), y_train)
accuracy = network.score(scaler.transform(X_test), y_test)
"""


def accuracies(listing, seeds):
    found = []
    for seed in range(seeds):
        names = {"seed": seed}
        exec(listing, names)
        found.append(names["accuracy"])
    return np.array(found)


def test_the_lectures_listing_with_one_changed_import():
    ours = accuracies(LISTING.replace("from sklearn.neural_network", "from convkit.sklearn"), seeds=8)
    theirs = accuracies(LISTING, seeds=8)
    assert ours.mean() >= theirs.mean() - 0.01
    assert ours.std() < 0.05


def wine_pipeline(**options):
    return make_pipeline(StandardScaler(), MLPClassifier([8, 4], learning_rate_init=0.02, random_state=0, **options))


def test_pipeline_and_grid_search():
    X, y = load_wine(return_X_y=True)
    names = load_wine().target_names[y]
    assert cross_val_score(wine_pipeline(), X, names, cv=4).mean() > 0.93
    grid = {"mlpclassifier__activation": ["tanh", "logistic"], "mlpclassifier__hidden_layer_sizes": [(8,), (4, 2)]}
    search = GridSearchCV(wine_pipeline(), grid, cv=3).fit(X, names)
    assert search.best_score_ > 0.93
    assert set(search.predict(X)) == set(names)
    assert len(search.cv_results_["params"]) == 4


def test_the_seed_decides_and_torchs_generator_is_left_alone():
    X, y = load_wine(return_X_y=True)
    state = torch.get_rng_state()
    first = wine_pipeline(max_iter=30).fit(X, y).predict_proba(X)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert np.array_equal(clone(wine_pipeline(max_iter=30)).fit(X, y).predict_proba(X), first)
    other = wine_pipeline(max_iter=30).set_params(mlpclassifier__random_state=1).fit(X, y)
    assert not np.array_equal(other.predict_proba(X), first)
    assert np.array_equal(pickle.loads(pickle.dumps(other)).predict_proba(X), other.predict_proba(X))


def test_early_stopping_and_the_warning():
    X, y = load_wine(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    stopped = MLPClassifier([8], learning_rate_init=0.05, early_stopping=True, max_iter=500, random_state=0).fit(X, y)
    assert stopped.n_iter_ < 500
    assert {"valid_loss"} <= set(stopped.net_.history[-1])
    losses = stopped.net_.history[:, "valid_loss"]
    assert min(losses) < losses[-1]
    held_out = stopped.net_.get_split_datasets(torch.tensor(X).float(), torch.tensor(y))[1]
    restored = stopped.net_.evaluation_step((held_out[:][0], None))
    assert torch.nn.functional.cross_entropy(restored, held_out[:][1]).item() == pytest.approx(min(losses), rel=1e-4)
    with pytest.warns(ConvergenceWarning, match="max_iter=3 reached"):
        MLPClassifier([8], max_iter=3).fit(X, y)
    with pytest.raises(ValueError, match="MLPClassifier: solver must be one of adam, sgd, but got 'lbfgs'"):
        MLPClassifier(solver="lbfgs").fit(X, y)
    with pytest.raises(ValueError, match="MLPRegressor: max_iter must be a positive integer, but got 0"):
        MLPRegressor(max_iter=0).fit(X, y)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("batch_size", 0, 'a positive integer or "auto"'),
        ("batch_size", 2.5, 'a positive integer or "auto"'),
        ("tol", "a", "a number of at least 0"),
        ("alpha", -1, "a number of at least 0"),
        ("learning_rate_init", float("nan"), "a positive number"),
        ("momentum", 1.5, "a number from 0 to 1"),
        ("validation_fraction", 1, "a number between 0 and 1"),
    ],
)
def test_a_bad_parameter_is_named_before_training(name, value, wanted):
    with pytest.raises(ValueError, match=f"MLPClassifier: {name} must be {wanted}, but got {value!r}"):
        MLPClassifier(**{name: value}).fit(np.eye(4), [0, 1, 0, 1])


def test_momentum_shuffle_and_identity_do_what_scikit_learns_do():
    X, y = load_diabetes(return_X_y=True)
    X, y = StandardScaler().fit_transform(X), (y - y.mean()) / y.std()
    linear = MLPRegressor([8], activation="identity", max_iter=20, random_state=0).fit(X, y)
    assert np.allclose(linear.predict(X[:20] + X[20:40]), linear.predict(X[:20]) + linear.predict(X[20:40])
                       - linear.predict(np.zeros((1, 10))), atol=1e-5)  # fmt: skip
    options = {"solver": "sgd", "max_iter": 5, "random_state": 0, "learning_rate_init": 0.01}
    for changes in ({"momentum": 0.0}, {"nesterovs_momentum": False}, {"shuffle": False}):
        first, other = MLPRegressor(**options).fit(X, y), MLPRegressor(**options, **changes).fit(X, y)
        assert first.loss_ != other.loss_, changes
    assert first.net_.optimizer_.param_groups[0]["momentum"] == 0.9


def test_regressor_equals_scikit_learns():
    X, y = load_diabetes(return_X_y=True)
    X, y = StandardScaler().fit_transform(X), (y - y.mean()) / y.std()
    X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    options = {"hidden_layer_sizes": (8, 4), "learning_rate_init": 0.01, "max_iter": 40, "activation": "tanh"}
    scores = [
        np.mean([kind(**options, random_state=seed).fit(X_train, y_train).score(X_test, y_test) for seed in range(4)])
        for kind in (MLPRegressor, neural_network.MLPRegressor)
    ]
    assert scores[0] > max(0.25, scores[1] - 0.05)
    two = MLPRegressor(max_iter=20).fit(X_train, np.c_[y_train, -y_train])
    assert two.predict(X_test).shape == (len(X_test), 2)


def test_cnn_reads_digits():
    pixels, labels = load_digits(return_X_y=True)
    parts = train_test_split(pixels / 16, labels, test_size=0.2, stratify=labels, random_state=0)
    rows, tests, names, answers = parts
    model = CNNClassifier(learning_rate_init=0.003, max_iter=30, random_state=0).fit(rows, names)
    assert model.score(tests, answers) >= 0.97  # six seeds score 0.975 to 0.986, by Winograd and by direct sums
    images = tests.reshape(-1, 1, 8, 8)
    assert np.array_equal(model.net_.module_(torch.tensor(images).float()).argmax(1), model.predict(tests))


def test_cnn_takes_images_of_any_shape():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 40)
    images = rng.random((40, 3, 6, 9)) + 2 * y[:, None, None, None]
    fitted = CNNClassifier(max_iter=15, learning_rate_init=0.01, random_state=0).fit(images, y)
    assert fitted.score(images, y) == 1
    rows = CNNClassifier((3, 6, 9), max_iter=15, learning_rate_init=0.01, random_state=0)
    rows.fit(images.reshape(40, -1), y)
    assert np.array_equal(rows.predict_proba(images.reshape(40, -1)), fitted.predict_proba(images))
    CNNClassifier(max_iter=1).fit(images[:, 0], y)
    with pytest.raises(
        ValueError, match=r"the 54 features of X are no square image of at least 4x4 pixels: give image"
    ):
        CNNClassifier().fit(images[:, 0].reshape(40, -1), y)
    with pytest.raises(ValueError, match=r"image_shape=\(1, 5, 5\), but X has 54 features"):
        CNNClassifier((1, 5, 5)).fit(images[:, 0].reshape(40, -1), y)
