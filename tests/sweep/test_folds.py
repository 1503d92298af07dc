"""Oracles: scikit-learn's folds, scores, searches and nested cross-validation; closed forms."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from sklearn.linear_model import Ridge
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    StratifiedKFold,
    cross_val_score,
)

from jaxnn import kde, sweep

KEY = jax.random.key(0)
rng = np.random.default_rng(0)
N = 23
X = rng.normal(size=(N, 4))
Y = X @ [1.0, -2.0, 0.5, 0.0] + rng.normal(size=N)
ALPHAS = [0.1, 1.0, 10.0, 100.0]


def ridge(hparams, key, train, held_out, x, y):
    """Mean squared error of held-out rows, of ridge regression on the others."""
    gram = (x * train[:, None]).T @ x + hparams["alpha"] * jnp.eye(x.shape[1])
    w = jnp.linalg.solve(gram, (x * train[:, None]).T @ y)
    return held_out @ (x @ w - y) ** 2 / jnp.sum(held_out)


def held_out(splitter, y=None):
    """The fold of each row, from scikit-learn."""
    found = np.full(N, -1)
    for fold, (_, test) in enumerate(splitter.split(X, y)):
        found[test] = fold
    return found


@pytest.mark.parametrize("folds", [2, 5, 23])
def test_folds_are_those_of_scikit_learn(folds):
    """Oracle: KFold, and StratifiedKFold with classes of unequal sizes in any order."""
    np.testing.assert_array_equal(sweep.k_fold(N, folds)[0], held_out(KFold(folds)))
    if folds < 10:
        y = rng.choice([7, 3, 5], N, p=[0.6, 0.3, 0.1])
        y[:10] = 7
        with warnings.catch_warnings(action="ignore"):  # of a class with fewer rows than folds
            expected = held_out(StratifiedKFold(folds), y)
        np.testing.assert_array_equal(sweep.stratified(y, folds)[0], expected)


def test_shuffled_folds_are_as_even_and_differ_between_repeats():
    """Invariant: sizes of folds, and of classes in folds, differ by one at most; each row is held
    out as often in each fold over many repeats: 5 standard errors.
    """
    y = np.repeat([0, 1, 2], [12, 7, 4])
    for folds in (
        sweep.k_fold(N, 4, key=KEY, repeats=400),
        sweep.stratified(y, 4, key=KEY, repeats=400),
    ):
        assert folds.shape == (400, N)
        held = np.asarray(folds)[:, :, None] == np.arange(4)
        counts = held.sum(axis=1)
        assert np.ptp(counts) <= 1
        share = held.mean(axis=0)
        expected = counts[0] / N
        if len(np.unique(counts, axis=0)) == 1:
            spread = 5 * np.sqrt(expected * (1 - expected) / 400) + 0.05
            assert np.all(np.abs(share - expected) < spread)
    for c in (0, 1, 2):
        assert np.ptp(held[:, y == c].sum(axis=1)) <= 1
    assert len({tuple(row) for row in folds.tolist()}) == 400


def test_scores_and_the_best_are_those_of_a_grid_search():
    """Oracle: GridSearchCV and cross_val_score, in float64; and average over the folds."""
    folds = sweep.k_fold(N, 5)
    done = sweep.cross_validate(ridge, sweep.grid(alpha=ALPHAS), KEY, folds, X, Y)
    expected = [
        -cross_val_score(Ridge(alpha=a, fit_intercept=False), X, Y, cv=KFold(5),
                         scoring="neg_mean_squared_error")
        for a in ALPHAS
    ]  # fmt: skip
    np.testing.assert_allclose(done.results.reshape(4, 5), expected, rtol=1e-9)
    assert done.hparams["fold"].tolist() == [0, 1, 2, 3, 4] * 4
    search = GridSearchCV(Ridge(fit_intercept=False), {"alpha": ALPHAS}, cv=KFold(5),
                          scoring="neg_mean_squared_error").fit(X, Y)  # fmt: skip
    means = sweep.average(done, lambda score: score)
    np.testing.assert_allclose(means.results.mean, -search.cv_results_["mean_test_score"])
    assert (
        float(sweep.best(means, lambda r: r.mean).hparams["alpha"]) == search.best_params_["alpha"]
    )


def test_bandwidths_are_judged_as_by_the_library_itself():
    """Oracle: kde.cross_validate, which leaves out the same blocks."""
    widths = [0.3, 0.6, 1.2]

    def fit_one(hp, key, train, held_out, x):
        density = kde.fit(x, bandwidth=hp["h"], sample_weight=train)
        return held_out @ kde.log_prob(density, x)

    done = sweep.cross_validate(fit_one, sweep.grid(h=widths), KEY, sweep.k_fold(N, 4), X)
    expected = kde.cross_validate(X, jnp.array(widths), folds=4).scores
    np.testing.assert_allclose(done.results.reshape(3, 4).sum(1) / N, expected, rtol=1e-9)


def test_nested_cross_validation_is_that_of_scikit_learn():
    """Oracle: cross_val_score around GridSearchCV; and its choice in every outer fold."""
    done = sweep.nested(ridge, sweep.grid(alpha=ALPHAS), KEY, sweep.k_fold(N, 4), 3, X, Y)
    inside = GridSearchCV(Ridge(fit_intercept=False), {"alpha": ALPHAS}, cv=KFold(3),
                          scoring="neg_mean_squared_error")  # fmt: skip
    expected = -cross_val_score(inside, X, Y, cv=KFold(4), scoring="neg_mean_squared_error")
    np.testing.assert_allclose(done.scores, expected, rtol=1e-9)
    for fold, (train, _) in enumerate(KFold(4).split(X)):
        search = inside.fit(X[train], Y[train])
        assert float(done.hparams["alpha"][fold]) == search.best_params_["alpha"]
        np.testing.assert_allclose(
            done.inner[:, fold], -search.cv_results_["mean_test_score"], rtol=1e-9
        )
    worst = sweep.nested(ridge, sweep.grid(alpha=ALPHAS), KEY, sweep.k_fold(N, 4), 3, X, Y,
                         mode="max")  # fmt: skip
    np.testing.assert_array_equal(worst.chosen, np.argmax(done.inner, axis=0))


def test_rows_of_inner_folds_are_shuffled_within_the_training_rows():
    """Invariant: every training row is held out once, no row of the outer fold ever, and the
    shuffle moves them; fits of the last kind see all training rows.
    """
    weigh = 2.0 ** jnp.arange(8)
    outer = sweep.k_fold(8, 2)

    def used(hp, key, train, held_out, w):
        return train @ w + 1000 * (held_out @ w) + hp["a"]

    plain, moved = (
        sweep.nested(used, {"a": jnp.zeros(1)}, KEY, outer, 2, weigh, shuffle=shuffle)
        for shuffle in (None, jax.random.key(1))
    )
    rows = np.array([[1, 2, 4, 8], [16, 32, 64, 128]])
    final = rows[::-1].sum(1) + 1000 * rows.sum(1)
    np.testing.assert_array_equal(plain.scores, final)
    np.testing.assert_array_equal(moved.scores, final)
    both = 1001 * rows[::-1].sum(1) / 2
    np.testing.assert_allclose(plain.inner[0], both)
    np.testing.assert_allclose(moved.inner[0], both)


def test_keys_are_those_of_the_seed_and_the_fold():
    """Invariant: members of one seed draw the same in each fold, other folds and seeds others;
    names are axes as in any sweep.
    """
    draw = lambda hp, key, train, held: jax.random.normal(key) + 0 * len(hp["rule"])
    hparams = sweep.grid(rule=["a", "bb"], seed=[3, 4])
    folds = sweep.k_fold(4, 2, key=KEY, repeats=2)
    done = sweep.cross_validate(draw, hparams, KEY, folds)
    draws = done.results.reshape(2, 2, 4)
    np.testing.assert_array_equal(draws[0], draws[1])
    assert len(set(draws[0].ravel().tolist())) == 8
    assert done.hparams["rule"].tolist() == ["a"] * 8 + ["bb"] * 8


def test_weights_have_the_dtype_of_the_data():
    """Invariant: float32 stays float32 under x64."""
    fit_one = lambda hp, key, train, held, x: train @ x + hp["a"]
    hparams = {"a": jnp.ones(1, jnp.float32)}
    done = sweep.cross_validate(fit_one, hparams, KEY, sweep.k_fold(4, 2), jnp.ones(4, jnp.float32))
    assert done.results.dtype == jnp.float32


FLAT = {"a": jnp.ones(1)}
ZERO = lambda hp, key, train, held: hp["a"]
TWO = sweep.k_fold(4, 2)
BAD = {
    "folds 1": (lambda: sweep.k_fold(4, 1), ValueError, "folds must be between 2 and 4, got 1"),
    "folds > n": (lambda: sweep.k_fold(4, 5), ValueError, "folds must be between 2 and 4, got 5"),
    "repeats": (lambda: sweep.k_fold(4, 2, repeats=3), ValueError, "repeats must be 1 without"),
    "classes": (lambda: sweep.stratified([0, 1, 2, 3], 2), ValueError, "rows of every class"),
    "labels": (lambda: sweep.stratified([0.5, 1.0], 2), TypeError, "y must hold whole numbers"),
    "no folds": (
        lambda: sweep.cross_validate(ZERO, FLAT, KEY, jnp.zeros(4, int)),
        ValueError,
        r"at least 2 folds, got shape \(1, 4\)",
    ),
    "float folds": (
        lambda: sweep.cross_validate(ZERO, FLAT, KEY, jnp.ones(4)),
        TypeError,
        "folds must hold whole numbers, got float64",
    ),
    "an axis fold": (
        lambda: sweep.cross_validate(ZERO, FLAT | {"fold": jnp.ones(1, int)}, KEY, TWO),
        ValueError,
        "must not have an axis 'fold'",
    ),
    "unread": (
        lambda: sweep.cross_validate(ZERO, FLAT | {"aa": jnp.ones(1)}, KEY, TWO),
        ValueError,
        r"sweep.cross_validate: unknown hyperparameter 'aa' \(did you mean 'a'\?\)",
    ),
    "inner": (lambda: sweep.nested(ZERO, FLAT, KEY, TWO, 3), ValueError, "inner must be between"),
    "mode": (
        lambda: sweep.nested(ZERO, FLAT, KEY, TWO, 2, mode="mx"),
        ValueError,
        "unknown mode 'mx'",
    ),
    "repeated": (
        lambda: sweep.nested(ZERO, FLAT, KEY, jnp.concatenate([TWO, TWO]), 2),
        ValueError,
        r"outer must have shape \(1, any\), got \(2, 4\)",
    ),
    "all NaN": (
        lambda: sweep.nested(lambda *a: a[0]["a"] * jnp.nan, FLAT, KEY, TWO, 2),
        ValueError,
        "got only NaN in a fold",
    ),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_message(case):
    """Oracle: the message."""
    call, error, message = BAD[case]
    refused(call, error, message, "sweep.")
