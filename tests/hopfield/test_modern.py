"""The modern network against NumPy, and its energy that never rises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from jaxnn import hopfield

N, D, BETA = 7, 5, 1.7
rng = np.random.default_rng(2)
X = rng.normal(size=(N, D))
S = rng.normal(size=D)


def test_update_and_energy_are_the_formulas():
    np.testing.assert_allclose(hopfield.modern_update(X, S, BETA), X.T @ softmax(BETA * X @ S))
    largest = np.linalg.norm(X, axis=1).max()
    energy = -logsumexp(BETA * X @ S) / BETA + S @ S / 2 + np.log(N) / BETA + largest**2 / 2
    np.testing.assert_allclose(hopfield.modern_energy(X, S, BETA), energy)


def test_update_is_a_step_down_the_energy():
    """∇E = ξ - Xᵀ softmax(β X ξ): the update is one step of length 1 (Ramsauer et al., eq. 3)."""
    gradient = jax.grad(lambda s: hopfield.modern_energy(X, s, BETA))(S)
    np.testing.assert_allclose(S - gradient, hopfield.modern_update(X, S, BETA), atol=1e-12)


def test_energy_never_rises_and_is_not_negative():
    """500 random networks, queries and temperatures, four updates each (Theorem 1)."""
    keys = jax.random.split(jax.random.key(0), 500)

    def energies(key):
        for_x, for_s, for_beta = jax.random.split(key, 3)
        x = jax.random.normal(for_x, (N, D))
        beta = jnp.exp(2 * jax.random.normal(for_beta))

        def step(s, _):
            return hopfield.modern_update(x, s, beta), hopfield.modern_energy(x, s, beta)

        return jax.lax.scan(step, 2 * jax.random.normal(for_s, (D,)), length=5)[1]

    found = np.asarray(jax.vmap(energies)(keys))
    assert (np.diff(found, axis=1) <= 1e-10).all()
    assert (found >= -1e-10).all()


def test_recall_repeats_the_update_until_it_stays():
    end = hopfield.modern_recall(X, S, BETA, tol=1e-10, max_steps=1000)
    assert end.converged
    assert not end.cycle
    np.testing.assert_allclose(hopfield.modern_update(X, end.state, BETA), end.state, atol=1e-9)
    state = S
    for _ in range(int(end.steps)):
        state = X.T @ softmax(BETA * X @ state)
    np.testing.assert_allclose(end.state, state, atol=1e-9)


def test_more_patterns_than_units_are_recalled():
    """200 signs in 30 units, β = 4: the nearest pattern comes back in few updates."""
    patterns = rng.choice([-1.0, 1.0], (200, 30))
    queries = patterns * np.where(np.arange(30) < 3, -1.0, 1.0)
    ends = jax.vmap(lambda q: hopfield.modern_recall(patterns, q, 4.0))(queries)
    assert ends.converged.all()
    np.testing.assert_array_equal(np.sign(ends.state), patterns)


def test_ends_of_beta():
    """A small β averages all patterns, a large one picks the most similar."""
    np.testing.assert_allclose(hopfield.modern_update(X, S, 1e-9), X.mean(axis=0), atol=1e-7)
    np.testing.assert_allclose(hopfield.modern_update(X, S, 1e6), X[np.argmax(X @ S)], atol=1e-12)


@pytest.mark.parametrize("call", [hopfield.modern_energy, hopfield.modern_update])
def test_active_rows_are_a_slice(call):
    traced = jax.jit(lambda n: call(X, S, BETA, active=n))(4)
    np.testing.assert_allclose(traced, call(X[:4], S, BETA), rtol=1e-12)
    end = hopfield.modern_recall(X, S, BETA, active=4)
    np.testing.assert_allclose(end.state, hopfield.modern_recall(X[:4], S, BETA).state)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    "call", [hopfield.modern_energy, hopfield.modern_update, hopfield.modern_recall]
)
@pytest.mark.parametrize(
    ("args", "options", "error", "message"),
    [
        ((X[:0], S, BETA), {}, ValueError, "patterns must not be empty"),
        ((X, S[:2], BETA), {}, ValueError, r"state must have shape \(5,\)"),
        ((X, S * np.inf, BETA), {}, ValueError, "state must be finite"),
        ((X, S.astype(np.float32), BETA), {}, TypeError, "state must be float64"),
        ((X, S, 0.0), {}, ValueError, "beta must be positive"),
        ((X, S, -1.0), {}, ValueError, "beta must be positive"),
        ((X, S, np.ones(2)), {}, ValueError, r"beta must have shape \(\)"),
        ((X, S, np.nan), {}, ValueError, "beta must be positive"),
        ((X, S, BETA), {"active": 0}, ValueError, "active must be positive"),
    ],
)
def test_bad_input(call, args, options, error, message):
    with pytest.raises(error, match=message):
        call(*args, **options)


def test_bad_ends():
    with pytest.raises(ValueError, match="tol must be non-negative"):
        hopfield.modern_recall(X, S, BETA, tol=-1.0)
    with pytest.raises(ValueError, match="max_steps must be non-negative"):
        hopfield.modern_recall(X, S, BETA, max_steps=-1)
