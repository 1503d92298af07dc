"""Derivatives through a fit against central differences of fits run to rest (float64)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from sklearn.datasets import load_iris

from jaxnn import gmm
from jaxnn.gmm import implicit
from jaxnn.linalg import tile_rows

X = load_iris().data[::3, 1:3]
rng = np.random.default_rng(10)
W = rng.uniform(0.5, 1.5, len(X))
RIDGE = 1e-3
MEANS = jnp.asarray([[3.4, 1.5], [2.7, 4.3], [3.0, 5.5]])
STARTS = {
    family: gmm.GMM(
        jnp.full(3, -np.log(3)),
        MEANS,
        gmm.COVARIANCES[family].from_variances(jnp.array([0.1, 0.3]), 3),
    )
    for family in ("full", "tied", "diag")
}
# One that is nowhere near the data, and dies.
STARTS["diag"] = STARTS["diag"]._replace(means=MEANS.at[1].set(1e4))
# A direction for everything that a fit may depend on, and how far to go.
TURN = [rng.normal(size=X.shape), rng.normal(size=len(X)), 1.0, 1.0]
STEP = [1e-5, 1e-5, 1e-6, 1e-5]


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Tiles of 15 rows, the last one reaching back."""
    monkeypatch.setattr(implicit, "tile_rows", lambda n, width: 15)


@jax.jit
def downstream(fit: gmm.FixedPoint) -> jax.Array:
    """A number made of every number of a fit."""
    dense = fit.mixture.cov.covariances(fit.mixture.means)
    parts = (jnp.exp(fit.mixture.log_weights), fit.mixture.means, dense, fit.log_lik)
    return sum(jnp.vdot(jnp.cos(jnp.arange(a.size)), a.ravel()) for a in parts)


def run(family: str, x, w, ridge, strength=None) -> gmm.FixedPoint:
    """A fit; `strength` is that of every part of a prior."""
    prior = None
    if strength is not None:
        prior = gmm.Prior(1 + strength, jnp.array([3.1, 3.5]), strength, strength, jnp.eye(2) / 2)
    return gmm.fit_implicit(STARTS[family], x, sample_weight=w, ridge=ridge, prior=prior, tol=1e-13)


@pytest.mark.parametrize("family", ["full", "tied", "diag"])  # spherical: see the contract
def test_gradient_is_differences_of_fits(family):
    """In the rows, the weights, the ridge and a prior, each along a direction of its own."""
    at = [X, W, RIDGE] + ([2.0] if family == "full" else [])
    assert run(family, *at).converged
    slopes = jax.grad(lambda *a: downstream(run(family, *a)), tuple(range(len(at))))(
        *map(jnp.asarray, at)
    )
    for i, (slope, turn, h) in enumerate(zip(slopes, TURN, STEP, strict=False)):
        ends = [[a + s * h * turn if i == j else a for j, a in enumerate(at)] for s in (1, -1)]
        up, down = (downstream(run(family, *end)) for end in ends)
        np.testing.assert_allclose(jnp.vdot(slope, turn), (up - down) / (2 * h), rtol=2e-5)


def test_comes_to_rest_at_the_fixed_point_of_em():
    """Oracle: one more E-step and M-step, with the ridge in data units, change nothing."""
    fit = run("tied", X, W, RIDGE)
    variance = jnp.asarray(np.average((X - np.average(X, 0, W)) ** 2, 0, W))
    again = gmm.m_step(fit.mixture, gmm.e_step(fit.mixture, X, W), RIDGE * variance)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-11), again, fit.mixture)
    log_prob = gmm.log_prob(fit.mixture, X)
    np.testing.assert_allclose(fit.log_lik, np.average(log_prob, weights=W), rtol=1e-12)
    early = gmm.fit_implicit(STARTS["tied"], X, sample_weight=W, ridge=RIDGE, max_steps=2)
    assert not early.converged
    assert early.steps == 2


def test_a_dead_component_has_no_part_in_it():
    """Its parameters are the start's, whatever the data: no gradient, and no NaN."""
    own = lambda x: jnp.sum(run("diag", x, W, RIDGE).mixture.means[1])
    assert own(X) == 2e4
    np.testing.assert_array_equal(jax.grad(own)(jnp.asarray(X)), 0)


def test_memory_does_not_grow_with_rows_times_components(monkeypatch):
    """The derivative's temporaries stay far below one n × k array, at 200,000 rows."""
    n, k = 200_000, 64
    shape = lambda *size: jax.ShapeDtypeStruct(size, jnp.float32)
    mixture = gmm.GMM(shape(k), shape(k, 4), gmm.Diag(shape(k, 4)))
    monkeypatch.setattr(implicit, "tile_rows", tile_rows)
    lowered = implicit._pull.lower(mixture, shape(n, 4), shape(n), shape(), None, mixture, shape())
    assert lowered.compile().memory_analysis().temp_size_in_bytes < n * k * 4 / 2


class Other(gmm.Full):
    """A family of which nothing is known."""


FULL = STARTS["full"]
OTHER = FULL._replace(cov=Other(FULL.cov.scale_tril))
BAD = {
    "no mixture": (lambda: gmm.fit_implicit(None, X), TypeError, "mixture must be a GMM"),
    "family": (lambda: gmm.fit_implicit(OTHER, X), TypeError,
               "mixture.cov must be one of Full, Tied, Diag, Spherical, got Other"),
    "prior": (lambda: gmm.fit_implicit(FULL, X, prior=1), TypeError, "prior must be a Prior"),
    "NaN": (lambda: gmm.fit_implicit(FULL, X * np.nan), ValueError, "x must be finite"),
    "weights": (lambda: gmm.fit_implicit(FULL, X, sample_weight=W[1:]), ValueError,
                r"sample_weight must have shape \(50,\)"),
    "ridge": (lambda: gmm.fit_implicit(FULL, X, ridge=-1.0), ValueError, "ridge must be non-neg"),
    "tol": (lambda: gmm.fit_implicit(FULL, X, tol=np.nan), ValueError, "tol must be non-neg"),
    "steps": (lambda: gmm.fit_implicit(FULL, X, max_steps=-1), ValueError, "max_steps must be"),
    "k > n": (lambda: gmm.fit_implicit(FULL, X[:2]), ValueError, "at least 3 rows"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    refused(*BAD[case], where="gmm.")
