"""Oracles: sums over all states, a closed form without weights, quadrature, exact against AIS."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import linalg, rbm

KEYS = jax.random.split(jax.random.key(5), 6)


def machine(units: str, v: int, h: int, scale: float = 1.0) -> rbm.RBM:
    parts = zip(KEYS[:3], ((v, h), (v,), (h,)), strict=True)
    return rbm.VISIBLE[units](*(scale * jax.random.normal(k, s, jnp.float64) for k, s in parts))


def states(n):
    return np.array(list(itertools.product((0.0, 1.0), repeat=n)))


@pytest.mark.parametrize(("v", "h"), [(3, 5), (5, 3), (4, 4)])
def test_log_partition_is_the_sum_over_all_states(v, h):
    m = machine("bernoulli", v, h)
    total = 0.0
    for state in states(h):
        every = np.broadcast_to(state, (2**v, h))
        total += np.exp(-np.asarray(rbm.energy(m, states(v), every))).sum()
    np.testing.assert_allclose(rbm.log_partition(m), np.log(total), rtol=1e-12)


def test_log_partition_of_a_gaussian_machine_by_quadrature():
    m = machine("gaussian", 2, 3)
    axis = np.linspace(-14, 14, 281)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    total = np.exp(-np.asarray(rbm.free_energy(m, grid))).sum() * (axis[1] - axis[0]) ** 2
    np.testing.assert_allclose(rbm.log_partition(m), np.log(total), rtol=1e-9)


def test_log_partition_without_weights_is_a_product():
    """Also where the tiles are many and ragged; the biases alone give it in closed form."""
    m = machine("bernoulli", 30, 13)._replace(weight=jnp.zeros((30, 13), jnp.float64))
    wanted = np.log1p(np.exp(m.visible_bias)).sum() + np.log1p(np.exp(m.hidden_bias)).sum()
    np.testing.assert_allclose(rbm.log_partition(m), wanted, rtol=1e-12)
    assert linalg.tile_rows(2**13, 86) < 2**13


@pytest.mark.parametrize("units", rbm.VISIBLE)
def test_gradient_of_log_partition_is_the_mean_of_the_statistics(units):
    """∂ log Z / ∂c is the mean of h, by the enumeration of the hidden layer."""
    m = machine(units, 3, 4)
    h = states(4)
    log_p = np.asarray(h @ m.hidden_bias + m.log_sum(h @ m.weight.T + m.visible_bias[None]))
    p = np.exp(log_p - log_p.max())
    gradient = jax.grad(rbm.log_partition)(m)
    np.testing.assert_allclose(gradient.hidden_bias, p @ h / p.sum(), rtol=1e-10)


def test_log_prob_sums_to_one():
    m = machine("bernoulli", 5, 4)
    logs = rbm.log_prob(m, states(5), rbm.log_partition(m))
    np.testing.assert_allclose(np.exp(logs).sum(), 1, rtol=1e-12)


@pytest.mark.parametrize("units", rbm.VISIBLE)
@pytest.mark.parametrize("based", [False, True])
def test_annealing_finds_the_partition_function(units, based):
    m = machine(units, 8, 6, 0.7)
    base = jnp.linspace(-1, 1, 8, dtype=jnp.float64) if based else None
    found = rbm.annealed_log_partition(KEYS[4], m, chains=400, temperatures=200, base_bias=base)
    error = abs(float(found.log_partition - rbm.log_partition(m)))
    assert error < 5 * float(found.standard_error)
    assert float(found.standard_error) < 0.2


def test_the_standard_error_is_that_of_repeated_estimates():
    """The spread of 200 estimates is the error that they claim, within 5 of its own errors."""
    m = machine("bernoulli", 6, 5, 0.7)
    run = lambda key: rbm.annealed_log_partition(key, m, chains=100, temperatures=30)
    found = jax.vmap(run)(jax.random.split(KEYS[5], 200))
    spread, claimed = np.std(found.log_partition), np.mean(found.standard_error)
    assert abs(spread - claimed) < 5 * spread / (2 * 200) ** 0.5
    bias = np.mean(found.log_partition) - float(rbm.log_partition(m))
    assert abs(bias + claimed**2 / 2) < 5 * spread / 200**0.5  # of the logarithm of a mean


def test_annealing_without_weights_is_exact():
    m = machine("gaussian", 4, 3)._replace(weight=jnp.zeros((4, 3), jnp.float64))
    found = rbm.annealed_log_partition(KEYS[4], m, chains=3, temperatures=5)
    np.testing.assert_allclose(found.log_partition, rbm.log_partition(m), rtol=1e-12)
    np.testing.assert_allclose(found.standard_error, 0, atol=1e-12)


BIT, WIDE = machine("bernoulli", 4, 3), machine("bernoulli", 30, 25)
anneal = rbm.annealed_log_partition
BAD = [
    (lambda: rbm.log_partition(WIDE), ValueError, "at most 24 units .*, got 25; use rbm.anneal"),
    (lambda: rbm.log_partition(machine("gaussian", 2, 25)), ValueError, "at most 24 .* got 25"),
    (lambda: rbm.log_partition(None), TypeError, "params must be rbm.Bernoulli or rbm.Gaussian"),
    (lambda: rbm.log_prob(BIT, states(4) / 2, 0.0), ValueError, "v must be 0 or 1 .* got 0.5"),
    (lambda: rbm.log_prob(BIT, states(4), jnp.nan), ValueError, "log_partition must be finite"),
    (lambda: rbm.log_prob(BIT, states(4), jnp.ones(16)), ValueError, "log_partition must have"),
    (lambda: anneal(KEYS[0], BIT, chains=1), ValueError, "chains must be at least 2, got 1"),
    (lambda: anneal(KEYS[0], BIT, temperatures=0), ValueError, "temperatures must be at least 1"),
    (lambda: anneal(KEYS[0], BIT, base_bias=jnp.ones(3)), ValueError, r"base_bias .* \(4,\), got"),
    (lambda: anneal(0, BIT), TypeError, "key must be a PRNG key"),
]


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
