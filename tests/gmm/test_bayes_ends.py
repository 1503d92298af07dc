"""How variational Bayes ends, on easy data and on hard: always finite, and with a reason."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_iris

from jaxnn import gmm
from jaxnn.gmm import bayes

X = load_iris().data
N, D = X.shape
K = 5


def around(means, prior: gmm.BayesPrior, variances) -> gmm.BayesGMM:
    """A posterior to start from, worth 30 rows a component."""
    dtype = prior.mean.dtype
    many = jnp.full(K, 30.0, dtype)
    cov = gmm.Full.from_variances(jnp.broadcast_to(jnp.asarray(variances, dtype), (D,)), K)
    return gmm.BayesGMM(
        prior.weights.observe(many), jnp.asarray(means, dtype), many + 1, many + prior.dof, cov
    )


def test_float32_survives_offsets_and_tight_clusters():
    """Oracle: float64 on the same rows; means within 1e-3, a tenth of a cluster's deviation."""
    centres = 1e4 + np.eye(K, D)
    x = np.repeat(centres, 30, axis=0) + 0.01 * np.random.default_rng(0).normal(size=(N, D))
    x = x.astype(np.float32)
    fits = {}
    for dtype in (np.float32, np.float64):
        rows = x.astype(dtype)
        prior = gmm.bayes_prior(rows, K, mean_precision=1e-3, covariance=1e-4 * np.eye(D))
        start = around(centres + 0.02, prior, 1e-4)
        fits[dtype] = gmm.fit_bayes(start, rows, prior=prior, tol=0.0, max_steps=10)
    single, double = fits[np.float32], fits[np.float64]
    assert {leaf.dtype for leaf in jax.tree.leaves(single.posterior)} == {np.dtype(np.float32)}
    np.testing.assert_allclose(single.posterior.means, double.posterior.means, rtol=0, atol=1e-3)
    scale, true = (np.sqrt(np.diagonal(
        f.posterior.cov.covariances(f.posterior.means), axis1=1, axis2=2)) for f in (single, double)
    )  # fmt: skip
    np.testing.assert_allclose(scale, true, rtol=2e-2)
    np.testing.assert_allclose(single.lower_bound, double.lower_bound, atol=2e-2)


CENTRES = 9 * np.eye(K, D)
CLOUDS = np.repeat(CENTRES, 30, axis=0) + np.random.default_rng(5).normal(size=(N, D))
DOUBLED = np.r_[CLOUDS[:120], np.repeat([[50.0, 50.0, 0, 0]], 30, axis=0)]
FIVE = gmm.from_covariances(np.full(K, 1 / K), CENTRES, np.stack([4 * np.eye(D)] * K))
DEAD = FIVE._replace(means=FIVE.means.at[1:3].set(1e4))
THREE = np.repeat(CENTRES[[0, 3, 4]], 50, axis=0) + CLOUDS - np.repeat(CENTRES, 30, axis=0)
SPIKE = FIVE._replace(means=FIVE.means.at[4].set(DOUBLED[-1]))
TWINS = FIVE._replace(means=FIVE.means.at[2].set(CENTRES[0]))
BROAD = gmm.bayes_prior(CLOUDS, K)
TIGHT = BROAD._replace(covariance=BROAD.covariance * 1e-15, mean_precision=jnp.array(1e-6))
SMALL = BROAD._replace(covariance=BROAD.covariance * 1e-4)
# start, rows, prior, options -> status, component, words
ENDS = {
    "converged": (FIVE, CLOUDS, BROAD, {}, "CONVERGED", -1, "converged after"),
    "D15 stalled": (FIVE, CLOUDS, BROAD, {"tol": 0.0}, "STALLED", -1, "floor of float64"),
    "out of steps": (FIVE, CLOUDS, BROAD, {"tol": 0.0, "max_steps": 2}, "OUT_OF_STEPS", -1,
                     "after 2"),
    "D9 not in use": (DEAD, THREE, SMALL, {}, "CONVERGED", -1, "converged after"),
    "D10 twins": (TWINS, CLOUDS, BROAD, {"max_steps": 0}, "DEGENERATE", 2,
                  "component 2, .*equals another"),
    "D8 spike": (SPIKE, DOUBLED, TIGHT, {}, "DEGENERATE", 4, "component 4, of weight 1.9e-01, is"),
    "B14 overflow": (FIVE, CLOUDS * 1e200, BROAD, {}, "NOT_FINITE", -1, "step 0 made every"),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDS)
def test_how_a_fit_ends(case):
    """What comes back is finite, whatever happened."""
    start, x, prior, options, status, component, words = ENDS[case]
    fit = gmm.fit_bayes(start, x, prior=prior, **options)
    assert gmm.Status(int(fit.status)).name == status, gmm.describe(fit)
    assert fit.component == component
    assert fit.converged == (status == "CONVERGED")
    assert fit.steps < 200
    assert re.search(words, gmm.describe(fit)), gmm.describe(fit)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fit.posterior))
    if case == "B14 overflow":  # nothing was learned: what is believed is the prior
        np.testing.assert_allclose(fit.posterior.means, np.stack([BROAD.mean] * K), rtol=1e-12)
        dense = np.asarray(fit.posterior.cov.covariances(fit.posterior.means))
        np.testing.assert_allclose(dense, np.stack([BROAD.covariance / BROAD.dof] * K), rtol=1e-12)
    else:
        assert np.isfinite(fit.lower_bound)


def test_a_step_that_lowers_the_bound_is_told_and_not_taken(monkeypatch):
    """D14: a planted fault in the M-step."""
    learn = bayes.learn
    monkeypatch.setattr(
        bayes, "learn", lambda m, *given: learn(m, *given)._replace(means=m.means + 1e3)
    )
    faulty = jax.jit(lambda *given: bayes._fit.__wrapped__(*given))
    x = jnp.asarray(CLOUDS[:, :1])
    start = gmm.GMM(jnp.zeros(1), jnp.zeros((1, 1)), gmm.Spherical(jnp.ones(1)))
    prior = gmm.BayesPrior(gmm.Dirichlet(jnp.ones(1)), x[0], *jnp.array([1.0, 2.0, 3.0]))
    fit = faulty(start, x, jnp.ones(N), prior, jnp.array(1e-4), jnp.array(9))
    assert fit.status == gmm.Status.LOWERED
    assert fit.steps == 1
    assert fit.gain < 0
    np.testing.assert_array_equal(fit.posterior.means, [[1e3]])
    assert "step 1 would have lowered the objective" in gmm.describe(fit)


HARD = {
    "D1 identical rows": np.ones((N, D)),
    "D5 collinear": np.c_[X[:, :3], X[:, 0] - X[:, 1]],
    "D4 constant column": np.c_[X[:, :3], np.full(N, 7.0)],
    "D13 outlier": np.r_[X[:149], [[1e6, -1e6, 1e6, 0]]],
    "B11 small": X * 1e-6,
}


@pytest.mark.parametrize("case", HARD)
def test_hard_data_gives_a_finite_fit(case):
    """Never NaN: a prior from degenerate data, and a fit on it, in float32."""
    x = HARD[case].astype(np.float32)
    prior = gmm.bayes_prior(x, K)
    start = around(x[::30], prior, jnp.diagonal(prior.covariance))
    end = gmm.fit_bayes(start, x, prior=prior)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(end))
    assert end.status < gmm.Status.LOWERED
