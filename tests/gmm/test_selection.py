"""Model choice against the criteria of the fits it reports, scikit-learn, and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from scipy.stats import multivariate_normal
from sklearn.datasets import load_iris
from sklearn.mixture import GaussianMixture

from jaxnn import gmm
from jaxnn.gmm import selection

X = load_iris().data
KEY = jax.random.key(0)
rng = np.random.default_rng(6)
W = rng.integers(0, 3, len(X)).astype(float)
FAMILIES, COUNTS, FOLDS = ("full", "diag"), (3, 1, 2), 3
OPTIONS = {"n_components": COUNTS, "families": FAMILIES, "n_starts": 3, "folds": FOLDS}


@pytest.fixture(scope="module")
def done() -> gmm.Selection:
    return gmm.select(KEY, X, sample_weight=W, ridge=0.0, layout="map", **OPTIONS)


def member(done: gmm.Selection, row: int) -> gmm.GMM:
    fit = done.fits[done.table.family[row]]
    return jax.tree.map(lambda a: a[row % len(COUNTS)], fit.mixture)


def test_table_tells_of_its_fits(done):
    """Oracle: log_prob, bic, aic, icl and n_parameters of each mixture, in the order asked for."""
    assert done.table.family == ("full",) * 3 + ("diag",) * 3
    np.testing.assert_array_equal(done.table.n_components, COUNTS * 2)
    for row in range(6):
        m, k = member(done, row), COUNTS[row % 3]
        assert np.sum(np.exp(m.log_weights) > 0) == k
        expected = (gmm.n_parameters(m), W @ np.asarray(gmm.log_prob(m, X)), gmm.bic(m, X, W),
                    gmm.aic(m, X, W), gmm.icl(m, X, W))  # fmt: skip
        np.testing.assert_allclose(
            [column[row] for column in done.table[2:7]], expected, rtol=1e-10
        )
        assert done.table.steps[row] == done.fits[done.table.family[row]].steps[row % 3]
        assert done.table.status[row] == gmm.Status.CONVERGED


def test_reaches_scikit_learns_best(done):
    """Oracle: the best of 10 starts of GaussianMixture on repeated rows; ours may be better."""
    rows = np.repeat(X, W.astype(int), axis=0)
    for row in range(6):
        peer = GaussianMixture(COUNTS[row % 3], covariance_type=done.table.family[row], n_init=3,
                               reg_covar=0, random_state=0, tol=1e-5).fit(rows)  # fmt: skip
        assert done.table.bic[row] <= peer.bic(rows) + 2


def test_best_is_the_winner_without_its_empty_components(done):
    """Oracle: the smallest criterion, and the density of the padded mixture."""
    assert done.criterion == "bic"
    assert done.row == int(np.argmin(done.table.bic))
    k = COUNTS[done.row % 3]
    assert done.best.means.shape == (k, X.shape[1])
    np.testing.assert_allclose(
        gmm.log_prob(done.best, X), gmm.log_prob(member(done, done.row), X), rtol=1e-10
    )


@pytest.mark.parametrize("family", ["full", "tied", "diag", "spherical"])
def test_empty_components_go_from_every_family(family):
    """Oracle: the places of the others; what all share is kept."""
    means, variances = jnp.asarray(X[:4]), jnp.arange(1.0, 5.0)
    cov = gmm.COVARIANCES[family].from_variances(variances, 4)
    # Distinct numbers for each component, where a family has some.
    cov = jax.tree.map(
        lambda a: a * jnp.arange(1.0, 5.0).reshape(-1, *[1] * (a.ndim - 1)), cov
    ) if family != "tied" else cov  # fmt: skip
    off = gmm.GMM(jnp.log(jnp.array([0.3, 0.0, 0.7, 0.0])), means, cov)
    two = selection.without_unused(jax.tree.map(lambda a: a[None], off), 0, gmm.COVARIANCES[family])
    np.testing.assert_array_equal(two.means, X[[0, 2]])
    np.testing.assert_allclose(np.exp(two.log_weights), [0.3, 0.7])
    whole = np.asarray(off.cov.covariances(off.means))
    np.testing.assert_array_equal(two.cov.covariances(two.means), whole[[0, 2]])


def test_held_out_likelihood_is_of_unseen_rows(done):
    """Oracle: one Gaussian (a closed form) fitted by NumPy to the other folds' weights."""
    key_folds = jax.random.split(KEY)[1]
    parts = np.asarray(selection._dealt(key_folds, jnp.asarray(W), FOLDS))
    np.testing.assert_array_equal(parts.sum(0), W)
    assert ((parts > 0).sum(0) <= 1).all()
    counts = (parts > 0).sum(1)
    assert counts.max() - counts.min() <= 1  # also where weights are zero
    total = 0.0
    for part in parts:
        seen = W - part
        density = multivariate_normal(np.average(X, axis=0, weights=seen),
                                      np.cov(X.T, bias=True, aweights=seen))  # fmt: skip
        total += part @ density.logpdf(X)
    np.testing.assert_allclose(done.table.held_out[1], total / W.sum(), rtol=1e-8)


def test_criteria_choose():
    """Oracle: the smallest or largest of the column; new choices need no new program."""
    rows = set()
    for criterion, sign in selection.CRITERIA.items():
        chosen = gmm.select(KEY, X, sample_weight=W, ridge=0.0, layout="map", criterion=criterion,
                            **OPTIONS)  # fmt: skip
        values = sign * np.asarray(getattr(chosen.table, criterion))
        assert chosen.row == int(np.argmax(values))
        rows.add(chosen.row)
    assert len(rows) > 1  # they do disagree here


def choose(**change):
    return lambda: gmm.select(**({"key": KEY, "x": X} | change))


BAD = {
    "key": (choose(key=1), TypeError, "key"),
    "A1": (choose(x=X * np.nan), ValueError, "x must be finite"),
    "A34": (lambda: jax.jit(lambda x: gmm.select(KEY, x))(X), TypeError, "use gmm.fit_best"),
    "B4": (choose(x=X.astype(np.float16)), TypeError, "float32 or float64"),
    "C1": (choose(n_components=range(3)), ValueError, "n_components must be between 1 and 150"),
    "C3": (choose(n_components=[1, 2.0]), TypeError, "n_components must be a whole number"),
    "C5": (choose(n_components=[151]), ValueError, "n_components must be .*, got 151"),
    "number": (choose(n_components=3), TypeError, "n_components must be whole numbers such as"),
    "no number": (choose(n_components=()), ValueError, r"n_components .* at least one, got \[\]"),
    "twice": (choose(n_components=[2, 2]), ValueError, "n_components must be different"),
    "C7": (choose(families=("full", "tide")), ValueError, "mean 'tied'"),
    "no family": (choose(families=()), ValueError, "families must be .* at least one"),
    "same": (choose(families=["full", "full"]), ValueError, "families must be different"),
    "criterion": (choose(criterion="bik"), ValueError, "mean 'bic'"),
    "start": (choose(start="kmeans"), ValueError, "mean 'k-means'"),
    "starts": (choose(n_starts=0), ValueError, "n_starts"),
    "continued": (choose(n_starts=2, n_continued=3), ValueError, "n_continued"),
    "folds": (choose(folds=1), ValueError, "folds must be between 2 and 150"),
    "held out": (choose(criterion="held_out"), ValueError, "'held_out' needs folds"),
    "C8": (choose(tol=-1.0), ValueError, "tol"),
    "C9": (choose(max_steps=-1), ValueError, "max_steps"),
    "C10": (choose(ridge=np.inf), ValueError, "ridge"),
    "C22": (choose(sample_weight=np.zeros(150)), ValueError, "zero everywhere"),
    "layout": (choose(layout="vmop"), ValueError, "mean 'vmap'"),
    "D18": (choose(x=X * 1e200, layout="map", **OPTIONS), ValueError, "no fit is finite; scale"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    refused(*BAD[case], where="gmm.select: ")
