"""The fast method against the exact one: its error, its repairs, its gradient, its refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import kde
from jaxnn.kde import near

RNG = np.random.default_rng(0)
# Two clusters with a gap between them, where the density is below the rounding of the grid.
X = {d: RNG.normal(size=(400, d)) + 12 * (np.arange(400)[:, None] % 2) for d in (1, 2)}
OFF = [[6.0], [5.5], [30.0]]
Q = {d: np.concatenate([RNG.normal(size=(100, d)), np.repeat(OFF, d, axis=1)]) for d in X}
W = jnp.asarray(RNG.uniform(size=400))


@pytest.mark.parametrize(("d", "dtype", "tolerance"), [(1, "float64", 1e-6), (2, "float64", 1e-4),
                                                       (1, "float32", 1e-4)])  # fmt: skip
def test_keeps_its_tolerance_everywhere(d, dtype, tolerance, monkeypatch):
    """In the middle, in the tails, in a gap, and off the grid; several tiles of repairs."""
    monkeypatch.setattr(near, "REPAIR", 8)
    x, q = jnp.asarray(X[d], dtype), jnp.asarray(Q[d], dtype)
    model = kde.fit(x, bandwidth=0.4, sample_weight=W)
    got = kde.log_prob(model, q, method="fast", tolerance=tolerance)
    reference = kde.fit(x.astype(float), bandwidth=0.4, sample_weight=W)
    expected = kde.log_prob(reference, q.astype(float), method="exact")
    assert got.dtype == dtype
    np.testing.assert_allclose(
        got, expected, atol=tolerance, rtol=1e-6 if dtype == "float32" else 0
    )
    assert jnp.any(got != kde.log_prob(model, q))  # it was the fast method indeed


def test_gradient_is_that_of_the_exact_sum():
    model = kde.fit(jnp.asarray(X[1]), bandwidth=0.4)
    rows = jnp.asarray(Q[1]) / 0.4, model.points / 0.4, model.log_weights
    grid = near.plan("", "fast", 1e-6, model.points, jnp.asarray([0.4]), 103, True)
    fast = lambda *rows: jnp.sum(jnp.sin(near.log_gaussian_sum_near(grid, *rows, jnp.array(1e-6))))
    exact = lambda *rows: jnp.sum(jnp.sin(near.log_gaussian_sum(*rows)))
    for a, b in zip(*(jax.jit(jax.grad(f, (0, 1, 2)))(*rows) for f in (fast, exact)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_auto_is_exact_unless_asked_and_possible(monkeypatch):
    monkeypatch.setattr(near, "LEAST_PAIRS", 1)
    x, h = jnp.asarray(X[1]), jnp.asarray([0.4])
    plan = lambda tolerance, n=400, ok=True: near.plan("", "auto", tolerance, x, h, n, ok)
    assert plan(1e-4) is not None
    assert plan(0.0) is plan(1e-4, ok=False) is None
    assert jax.jit(lambda x: near.plan("", "auto", 1e-4, x, h, 1, True) or x)(x) is not None
    monkeypatch.setattr(near, "LEAST_PAIRS", 400 * 401)
    assert plan(1e-4) is None
    assert plan(1e-4, n=401) is not None


MODEL = kde.fit(jnp.asarray(X[1]), bandwidth=0.4)
Q1 = jnp.asarray(Q[1])
fast = lambda model, q, tolerance=1e-4: kde.log_prob(model, q, method="fast", tolerance=tolerance)
BAD = {
    "method": (lambda: kde.log_prob(MODEL, Q1, method="fsat"), "unknown method.*'fast'"),
    "tolerance": (lambda: kde.log_prob(MODEL, Q1, tolerance=-1.0), "tolerance must be non-neg"),
    "zero": (lambda: fast(MODEL, Q1, 0.0), "needs tolerance of at least 9e-15"),
    "traced": (lambda: jax.jit(fast)(MODEL, Q1), "needs concrete points.*method='exact'"),
    "kernel": (lambda: fast(kde.fit(MODEL.points, kernel="tophat"), Q1), "needs a Gaussian"),
    "features": (lambda: fast(kde.fit(jnp.eye(4) * 2.0), jnp.eye(4)), "needs at most 3 features"),
    "nodes": (lambda: fast(MODEL._replace(bandwidth=jnp.array(1e-9)), Q1), "at most 8388608 nodes"),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_named(call, message, unchecked_types):
    with pytest.raises(ValueError, match=r"^kde.log_prob: .*" + message):
        call()
