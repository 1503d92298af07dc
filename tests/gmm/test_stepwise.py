"""Stepwise EM against plain EM, and against averages of moments in data units, in NumPy."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from scipy import stats

from jaxnn import gmm
from jaxnn.gmm.stepwise import recentre

KEY = jax.random.key(4)
rng = np.random.default_rng(12)
K, D = 2, 2
X = np.concatenate([rng.normal(size=(20, D)), rng.normal(size=(20, D)) * [1, 3] + [4, 2]])
W = rng.integers(0, 3, len(X)).astype(float)
FAMILIES = ["full", "tied", "diag", "spherical"]


@cache
def start_of(family: str) -> gmm.GMM:
    return gmm.init(KEY, X, K, family=family)


def same(a, b, **tolerance) -> None:
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, **tolerance), a, b)


@pytest.mark.parametrize("family", FAMILIES)
def test_moments_move_between_coordinates(family):
    """Oracle: the E-step of the other mixture, where both give each row to the same component."""
    x = np.where(np.arange(40)[:, None] < 20, X, X + 1e3)
    old = gmm.init(KEY, x, K, family=family)
    new = old._replace(means=old.means + 0.3, cov=jax.tree.map(lambda c: 1.2 * c, old.cov))
    if family in ("full", "tied"):
        tilt = jnp.array([[1.0, 0.0], [0.7, 0.5]])
        new = new._replace(cov=type(new.cov)(new.cov.scale_tril @ tilt))
    moved = jax.jit(recentre)(gmm.e_step(old, x, W), old, new)
    same(moved[:3], gmm.e_step(new, x, W)[:3], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_start_is_the_m_step_of_its_moments(family):
    """Oracle: gmm.m_step; and so a batch without weight changes nothing, also while tracing."""
    state = gmm.stepwise_init(start_of(family))
    same(gmm.m_step(state.mixture, state.moments), state.mixture, rtol=1e-12, atol=1e-12)
    if family == "full":
        empty = jax.jit(lambda w: gmm.stepwise_step(state, X[:5], 1.0, sample_weight=w))
        same(empty(jnp.zeros(5)).mixture, state.mixture, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("family", ["tied", "diag"])
def test_one_batch_of_all_rows_is_plain_em(family):
    """Oracle: gmm.fit, step by step; weights are repetitions there and here."""
    start, ridge = start_of(family), 1e-3
    stepwise = gmm.fit_stepwise(
        KEY, start, X, batch_size=len(X), epochs=4, power=0.0, sample_weight=W, ridge=ridge
    )
    plain = start
    variance = jnp.asarray(np.average((X - np.average(X, 0, W)) ** 2, 0, W))
    for _ in range(4):
        plain = gmm.m_step(plain, gmm.e_step(plain, X, W), ridge * variance)
    same(stepwise.mixture, plain, rtol=1e-10)
    log_prob = gmm.log_prob(plain, X)
    np.testing.assert_allclose(stepwise.log_lik, np.average(log_prob, weights=W), rtol=1e-12)


def test_steps_are_averages_of_data_moments():
    """Oracle: running averages of Σr, Σrx, Σrxxᵀ in NumPy, with SciPy's densities."""
    state = gmm.stepwise_init(start_of("full"))
    weights, means = np.exp(state.mixture.log_weights), np.asarray(state.mixture.means)
    dense = np.asarray(state.mixture.cov.covariances(state.mixture.means))
    outer = lambda m: m[:, :, None] * m[:, None]
    zero, one, two = (weights, weights[:, None] * means,
                      weights[:, None, None] * (dense + outer(means)))  # fmt: skip
    for t, step in enumerate([0.8, 0.5, 0.3]):
        rows, w = X[t::3][:12], W[t::3][:12]
        state = gmm.stepwise_step(state, rows, step, sample_weight=w)
        joint = np.stack([weights[k] * stats.multivariate_normal(means[k], dense[k]).pdf(rows)
                          for k in range(K)], axis=1)  # fmt: skip
        share = joint / joint.sum(1, keepdims=True) * w[:, None] / w.sum()
        zero = (1 - step) * zero + step * share.sum(0)
        one = (1 - step) * one + step * share.T @ rows
        two = (1 - step) * two + step * np.einsum("nk,ni,nj->kij", share, rows, rows)
        weights, means = zero, one / zero[:, None]
        dense = two / zero[:, None, None] - outer(means)
    found = state.mixture
    same((jnp.exp(found.log_weights), found.means), (weights, means), rtol=1e-11)
    np.testing.assert_allclose(found.cov.covariances(found.means), dense, rtol=1e-10, atol=1e-10)
    assert state.steps == 3


def test_step_sizes_and_units():
    """Oracle: stepwise_step with (t + offset)^-power; an offset of 1e6 deviations costs 1e-9."""
    fit = lambda x, start: gmm.fit_stepwise(
        KEY,
        start,
        x,
        batch_size=40,
        epochs=30,
        power=0.7,
        offset=3.0,
        ridge=0.0,
        sample_weight=W,
    )
    start = start_of("full")
    found = fit(X, start)
    state = gmm.stepwise_init(start)
    for t in range(1, 31):
        state = gmm.stepwise_step(state, X, (t + 3.0) ** -0.7, sample_weight=W)
    same(found.state.mixture, state.mixture, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.state.moments.log_lik, state.moments.log_lik, rtol=1e-9)
    moved = fit(X + 1e6, start._replace(means=start.means + 1e6))
    same(moved.mixture.cov, found.mixture.cov, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(moved.mixture.means - 1e6, found.mixture.means, atol=1e-6)


def test_three_passes_over_many_rows_reach_em():
    """Oracle: EM from the truth, run to rest; 100,000 rows, within 1e-4 nats a row of it."""
    centres = np.array([[0.0, 0.0], [3.0, 1.0]])
    label = rng.integers(0, 2, 100_000)
    x = centres[label] + rng.normal(size=(100_000, 2)) * np.array([[1, 1], [0.5, 2]])[label]
    start = gmm.init(KEY, x[:1000], 2)
    truth = gmm.from_covariances(
        np.full(2, 0.5), centres, np.array([np.diag([1, 1.0]), np.diag([0.25, 4])])
    )
    best = gmm.fit(truth, x, tol=1e-8, ridge=0.0)
    assert best.converged
    found = gmm.fit_stepwise(KEY, start, x, batch_size=1000, epochs=3)
    assert best.log_lik - 1e-4 < found.log_lik < best.log_lik + 1e-6


S = cache(lambda: gmm.stepwise_init(start_of("full")))
FIT = lambda **changed: gmm.fit_stepwise(
    **{"key": KEY, "mixture": start_of("full"), "x": X, "batch_size": 8, "epochs": 1, **changed}
)
BAD = {
    "C35 zero": (
        lambda: gmm.stepwise_step(S(), X, 0.0),
        ValueError,
        r"step_size must be in \(0, 1",
    ),
    "C35 above": (lambda: gmm.stepwise_step(S(), X, 1.5), ValueError, "step_size must be"),
    "C35 NaN": (lambda: gmm.stepwise_step(S(), X, np.nan), ValueError, "step_size must be"),
    "C35 power": (lambda: FIT(power=1.1), ValueError, r"power must lie in \[0, 1\], got 1.1"),
    "C35 negative": (lambda: FIT(power=-0.1), ValueError, "power must be non-negative"),
    "C35 offset": (lambda: FIT(offset=-1.0), ValueError, "offset must be non-negative"),
    "sizes": (lambda: gmm.stepwise_step(S(), X, np.ones(2)), ValueError, r"step_size must have sh"),
    "ridges": (
        lambda: gmm.stepwise_step(S(), X, 0.5, ridge=np.ones(3)),
        ValueError,
        r"\(2,\), got",
    ),
    "ridge": (lambda: gmm.stepwise_step(S(), X, 0.5, ridge=-1.0), ValueError, "ridge must be non"),
    "weights": (lambda: gmm.stepwise_step(S(), X, 0.5, sample_weight=-W), ValueError, "not be neg"),
    "state": (lambda: gmm.stepwise_step(None, X, 0.5), TypeError, "state must be a Stepwise"),
    "width": (lambda: gmm.stepwise_step(S(), X[:, :1], 0.5), ValueError, r"x must have shape"),
    "family": (lambda: gmm.stepwise_init(start_of("full")._replace(cov=0)), TypeError, "got int"),
    "no mixture": (lambda: gmm.stepwise_init(None), TypeError, "mixture must be a GMM"),
    "F20 batch": (lambda: FIT(batch_size=41), ValueError, "batch_size must be between 1 and 40"),
    "epochs": (lambda: FIT(epochs=-1), ValueError, "epochs must be at least 0"),
    "key": (lambda: FIT(key=0), TypeError, "key must be a PRNG key"),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    refused(*BAD[case], where="gmm.")
