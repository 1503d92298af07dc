"""Many starts against the separate fits they stand for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from sklearn.datasets import load_iris

from jaxnn import gmm
from jaxnn.gmm import restarts

X = load_iris().data
ONES = jnp.ones(len(X))
KEY, STARTS, SHORT, TOL = jax.random.key(3), 4, 3, 1e-3
OPTIONS = {
    "family": "diag",
    "start": "random points",
    "tol": TOL,
    "n_starts": STARTS,
    "short_steps": SHORT,
}


@pytest.fixture(scope="module")
def found() -> gmm.BestFit:
    return gmm.fit_best(KEY, X, 3, n_continued=2, layout="map", **OPTIONS)


@pytest.fixture(scope="module")
def inits() -> list[gmm.GMM]:
    keys = jax.random.split(KEY, STARTS)
    return [gmm.init(k, X, 3, family="diag", start="random points") for k in keys]


def close(a, b) -> None:
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-8, atol=1e-10), a, b)


def test_short_runs_then_the_best_go_on(found, inits):
    """Oracle: `fit` of `init` with the keys split from the one given."""
    short = [gmm.fit(m, X, tol=TOL, max_steps=SHORT) for m in inits]
    np.testing.assert_allclose(found.short, [f.log_lik for f in short], rtol=1e-9)
    np.testing.assert_array_equal(found.continued, np.argsort(found.short)[::-1][:2])
    whole = [gmm.fit(inits[i], X, tol=TOL) for i in found.continued]
    np.testing.assert_allclose(found.final, [f.log_lik for f in whole], rtol=1e-9)
    winner = whole[int(np.argmax(found.final))]
    close(found.fit, winner)
    assert found.fit.steps == winner.steps > SHORT  # the short run is not paid twice


def test_all_continued_is_the_best_of_all(inits):
    """Oracle: the largest of the separate fits; under `vmap` what `map` gave."""
    best = gmm.fit_best(KEY, X, 3, n_continued=STARTS, layout="vmap", **OPTIONS)
    whole = np.array([gmm.fit(m, X, tol=TOL).log_lik for m in inits])
    np.testing.assert_allclose(best.final, whole, rtol=1e-9)
    np.testing.assert_allclose(best.fit.log_lik, whole.max(), rtol=1e-9)


def test_default_layout_is_that_of_the_backend():
    expected = "map" if jax.default_backend() == "cpu" else "vmap"
    assert restarts.layout_or_default("here", None) == expected


@pytest.fixture(scope="module")
def with_failures(inits):
    """`best_of` over the starts, of which those marked are NaN."""
    stack = jax.tree.map(lambda *a: jnp.stack(a), *inits)
    limits = restarts.limits("here", X.dtype, 1e-6, TOL, 200, SHORT)

    @jax.jit
    def best(fails):
        def begin(seed):
            m, fails = seed
            return m._replace(means=jnp.where(fails, jnp.nan, m.means))

        return restarts.best_of(begin, (stack, fails), jnp.asarray(X), ONES, limits, 2, "map")

    return best


def test_a_failing_start_never_wins(with_failures, found):
    """Oracle: the same starts without it; it stands at −inf."""
    won = int(found.continued[np.argmax(found.final)])
    fails = np.arange(STARTS) == won
    best = with_failures(fails)
    assert best.short[won] == -np.inf
    assert won not in best.continued
    kept = ~fails
    np.testing.assert_allclose(best.short[kept], found.short[kept], rtol=1e-9)
    assert np.isfinite(best.fit.log_lik)
    assert np.isfinite(best.fit.mixture.means).all()


def test_only_failing_starts_are_told(with_failures):
    """D18: no exception, no endless loop; nothing claims to have converged."""
    best = with_failures(np.ones(STARTS, bool))
    assert (best.final == -np.inf).all()
    assert not best.fit.converged


def test_what_has_fallen_wins_only_among_its_like():
    values, fallen = jnp.array([3.0, 1.0, jnp.nan, 2.0]), jnp.array([True, False, False, False])
    np.testing.assert_array_equal(restarts.preferred(values, fallen), [-np.inf, 1, -np.inf, 2])
    np.testing.assert_array_equal(restarts.preferred(values, jnp.ones(4, bool)), [3, 1, -np.inf, 2])


BAD = {
    "C1": (lambda: gmm.fit_best(KEY, X, 0), ValueError, "n_components must be between 1 and 150"),
    "C3": (lambda: gmm.fit_best(KEY, X, 1.5), TypeError, "n_components must be a whole number"),
    "C7": (lambda: gmm.fit_best(KEY, X, 2, family="tide"), ValueError, "mean 'tied'"),
    "start": (lambda: gmm.fit_best(KEY, X, 2, start="kmeans"), ValueError, "mean 'k-means'"),
    "none": (lambda: gmm.fit_best(KEY, X, 2, n_starts=0), ValueError, "n_starts must be at least"),
    "more": (lambda: gmm.fit_best(KEY, X, 2, n_starts=3, n_continued=4), ValueError,
             "n_continued must be between 1 and 3, got 4"),
    "short": (lambda: gmm.fit_best(KEY, X, 2, short_steps=-1), ValueError, "short_steps"),
    "C8": (lambda: gmm.fit_best(KEY, X, 2, tol=np.nan), ValueError, "tol must be non-negative"),
    "C9": (lambda: gmm.fit_best(KEY, X, 2, max_steps=-1), ValueError, "max_steps"),
    "C10": (lambda: gmm.fit_best(KEY, X, 2, ridge=-1.0), ValueError, "ridge"),
    "layout": (lambda: gmm.fit_best(KEY, X, 2, layout="mop"), ValueError, "mean 'map'"),
    "C23": (lambda: gmm.fit_best(KEY, X, 2, sample_weight=np.ones(3)), ValueError, "sample_weight"),
    "key": (lambda: gmm.fit_best(3, X, 2), TypeError, "key"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    refused(*BAD[case], where="gmm.fit_best: ")
