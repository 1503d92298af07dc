"""Every way a fit can end, planted; what is at fault is named, what comes back is finite."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import gmm
from jaxnn.gmm import em, loop, outcome

rng = np.random.default_rng(5)
CENTRES = np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 9.0]])
X = (CENTRES[:, None] + rng.normal(size=(3, 20, 2))).reshape(60, 2)
DOUBLED = np.r_[X[:50], np.repeat([[50.0, 50.0]], 10, axis=0)]
WIDE = np.stack([4 * np.eye(2)] * 3)
START = gmm.from_covariances(np.array([0.5, 0.2, 0.3]), CENTRES, WIDE)
DEAD = START._replace(means=START.means.at[1].set(1e4))
TWINS = START._replace(means=START.means.at[2].set(CENTRES[0]))
EQUAL = START._replace(means=START.means * 0 + 1)
SPIKE = START._replace(means=START.means.at[1].set([50.0, 50.0]))
SIDE = np.array([800.0, 0.0])
# Rows at 0 and, so far away that exp underflows, two clusters: component 0 sees zeros alone.
FAR = np.r_[np.zeros((20, 2)), X[:20] + SIDE, X[:20] - SIDE]
ZEROS = START._replace(means=jnp.array([[0.0, 0.0], [800.0, 0.0], [-800.0, 0.0]]))
OFF = DEAD._replace(log_weights=jnp.log(jnp.array([0.5, 0.0, 0.5])))

# start, rows, options -> status, component, words
ENDS = {
    "converged": (START, X, {}, "CONVERGED", -1, "converged after"),
    "D15 stalled": (START, X, {"tol": 0.0, "ridge": 0.0}, "STALLED", -1, "floor of float64"),
    "out of steps": (START, X, {"tol": 0.0, "max_steps": 2}, "OUT_OF_STEPS", -1, "after 2"),
    "only looked": (START, X, {"max_steps": 0}, "OUT_OF_STEPS", -1, "after 0"),
    "D9 dead": (DEAD, X, {}, "DEGENERATE", 1, "component 1, of weight 0.*is empty or collapsed"),
    "D10 twins": (TWINS, X, {}, "DEGENERATE", 2, "component 2, .*equals another"),
    "C16 all equal": (EQUAL, X, {}, "DEGENERATE", 1, "component 1, .*equals another"),
    "D8 spike": (SPIKE, DOUBLED, {}, "DEGENERATE", 1, "component 1, of weight 1.7e-01, is"),
    "D1 all": (START, DOUBLED * 0 + 1, {}, "DEGENERATE", -1, "every component has collapsed"),
    "D8 no ridge": (SPIKE, DOUBLED, {"ridge": 0.0}, "DEGENERATE", 1, "component 1, of weight"),
    "D16 NaN": (ZEROS, FAR, {"ridge": 0.0}, "NOT_FINITE", 0, "step 1 made component 0 NaN"),
    "switched off": (OFF, X, {}, "CONVERGED", -1, "converged after"),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDS)
def test_how_a_fit_ends(case):
    """The likelihood told is that of the finite mixture that comes back (oracle: log_prob)."""
    start, x, options, status, component, words = ENDS[case]
    fit = gmm.fit(start, x, **options)
    assert gmm.Status(int(fit.status)).name == status, gmm.describe(fit)
    assert fit.component == component
    assert fit.converged == (status == "CONVERGED")
    assert fit.steps < 200
    assert re.search(words, gmm.describe(fit)), gmm.describe(fit)
    assert outcome.sound(fit.mixture)
    np.testing.assert_allclose(fit.log_lik, gmm.log_prob(fit.mixture, x).mean(), rtol=1e-9)
    np.testing.assert_array_equal(fit.objective, fit.log_lik)
    if case == "D16 NaN":
        np.testing.assert_array_equal(fit.mixture.means, ZEROS.means)
    if case == "D9 dead":
        np.testing.assert_array_equal(fit.mixture.means[1], 1e4)


def test_float32_stops_at_its_rounding_floor():
    """D15: where EM in float32 flickers for ever, a fit ends and says so."""
    x = X.astype(np.float32)
    start = jax.tree.map(lambda leaf: leaf.astype(np.float32), START)
    fit = gmm.fit(start, x, tol=0.0, ridge=0.0, max_steps=10_000)
    assert fit.status == gmm.Status.STALLED
    assert fit.steps < 100
    assert abs(fit.gain) <= 4 * np.finfo(np.float32).eps * (1 + abs(fit.log_lik))


def test_a_step_that_lowers_the_likelihood_is_told_and_not_taken(monkeypatch):
    """D14: a planted fault in the M-step, for which a ridge would be an excuse."""

    def faulty(mixture, total, ridge, prior=None):
        return mixture._replace(means=mixture.means + 0.5)

    monkeypatch.setattr(loop, "maximise", faulty)
    faulty_fit = jax.jit(lambda *given: em.climb.__wrapped__(*given, accelerate=False))
    given = (jnp.asarray(X), jnp.ones(60), None, jnp.array(0.0))
    fit = faulty_fit(START, *given, jnp.zeros(2), jnp.array(1e-4), jnp.array(9))
    assert fit.status == gmm.Status.LOWERED
    assert fit.steps == 1
    assert fit.gain < 0
    np.testing.assert_array_equal(fit.mixture.means, START.means)
    assert "step 1 would have lowered the objective" in gmm.describe(fit)
    ridge = jnp.ones(2)
    excused = faulty_fit(START, *given, ridge, jnp.array(1e-4), jnp.array(9))
    assert excused.status == gmm.Status.OUT_OF_STEPS


@pytest.mark.usefixtures("unchecked_types")
def test_only_one_fit_is_described():
    with pytest.raises(TypeError, match=r"gmm\.describe: fit must be a Fit or a BayesFit, got int"):
        gmm.describe(3)
    fit = gmm.fit(START, X)
    with pytest.raises(ValueError, match=r"gmm.describe: fit.status \(of one fit: index"):
        gmm.describe(jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), fit))


@pytest.mark.parametrize("family", ["full", "spherical"])
def test_narrow_is_the_largest_share_of_the_ridge(family):
    """Oracle: numpy.linalg.eigvals of Σ⁻¹ diag(least), in random directions and units."""
    k, d = 40, 3
    root = rng.normal(size=(k, d, d)) * 10.0 ** rng.uniform(-3, 1, (k, 1, d))
    given = {"full": root @ root.transpose(0, 2, 1), "spherical": np.square(root[:, 0, 0])}[family]
    mixture = gmm.from_covariances(np.full(k, 1 / k), rng.normal(size=(k, d)), given, family=family)
    least = np.array([1e-3, 1e-2, 1e-4])
    dense = np.asarray(mixture.cov.covariances(mixture.means))
    share = np.linalg.eigvals(np.linalg.inv(dense) * least).real.max(axis=1)
    found = outcome.narrow(mixture, jnp.asarray(least))
    clear = (share > 0.5) | (share < 0.5 / d ** (1 / 8))
    assert clear.sum() > 30
    assert set(found.tolist()) == {True, False}
    np.testing.assert_array_equal(found[clear], (share > 0.5)[clear])
