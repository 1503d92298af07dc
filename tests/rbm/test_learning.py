"""Oracles: the exact gradient from all states; CD's limit and unbiasedness (5 SE); a known fit."""

import itertools
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import rbm, train

V, H = 4, 3
KEYS = jax.random.split(jax.random.key(3), 4)
STATES = jnp.asarray(list(itertools.product((0.0, 1.0), repeat=V)))
ROWS = STATES[jnp.array([1, 3, 3, 7, 12, 14])]
WEIGHT = jnp.array([1.0, 2.0, 0.0, 0.5, 1.5, 3.0])


class Batch(NamedTuple):
    x: Any
    weight: Any = None


def machine(units: str) -> rbm.RBM:
    scale = 1.5 if units == "bernoulli" else 0.7
    parts = zip(KEYS[:3], ((V, H), (V,), (H,)), strict=True)
    return rbm.VISIBLE[units](*(scale * jax.random.normal(k, s, jnp.float64) for k, s in parts))


def loss(params, x, weight):
    """The mean of -log p by the exact partition function, for JAX to differentiate."""
    logs = rbm.log_prob(params, x, rbm.log_partition(params))
    return -jnp.sum(weight * logs) / jnp.sum(weight)


@jax.jit
def exact_gradient(params, x):
    return jax.flatten_util.ravel_pytree(jax.grad(loss)(params, x, WEIGHT))[0]


def data(units: str):
    return ROWS if units == "bernoulli" else jax.random.normal(KEYS[3], (6, V), jnp.float64)


def gradients(call, n):
    """Flat gradients of n independent keys, (n, parameters)."""
    run = jax.jit(jax.vmap(lambda key: jax.flatten_util.ravel_pytree(call(key))[0]))
    return np.asarray(run(jax.random.split(KEYS[0], n)))


@pytest.mark.parametrize("units", rbm.VISIBLE)
def test_many_steps_of_cd_give_the_gradient_of_the_likelihood(units):
    params, batch = machine(units), Batch(data(units), WEIGHT)
    descend = rbm.contrastive_divergence(steps=60)
    drawn = gradients(lambda key: descend(params, batch, key)[1], 2000)
    exact = exact_gradient(params, batch.x)
    assert np.all(np.abs(drawn.mean(0) - exact) < 5 * drawn.std(0) / 2000**0.5)


@pytest.mark.parametrize("units", rbm.VISIBLE)
def test_one_step_of_cd_does_not(units):
    """The test above can fail: CD-1 is biased (Carreira-Perpinan and Hinton, 2005)."""
    params, batch = machine(units), Batch(data(units), WEIGHT)
    drawn = gradients(lambda key: rbm.contrastive_divergence()(params, batch, key)[1], 2000)
    exact = exact_gradient(params, batch.x)
    assert np.any(np.abs(drawn.mean(0) - exact) > 10 * drawn.std(0) / 2000**0.5)


def test_cd_one_is_the_rule_of_the_paper():
    """<v h> of the data less <v h> of the reconstruction, with the chain drawn by hand."""
    params = machine("bernoulli")
    value, gradient = rbm.contrastive_divergence()(params, Batch(ROWS, WEIGHT), KEYS[1])
    after = rbm.gibbs(KEYS[1], params, ROWS, 1)
    share = np.asarray(WEIGHT / jnp.sum(WEIGHT))
    up = [np.asarray(rbm.hidden_given_visible(params, v)) for v in (ROWS, after)]
    product = [np.einsum("n,nv,nh->vh", share, v, h)
               for v, h in zip((ROWS, after), up, strict=True)]  # fmt: skip
    np.testing.assert_allclose(gradient.weight, product[1] - product[0], rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(gradient.visible_bias, share @ (after - ROWS), atol=1e-14)
    np.testing.assert_allclose(gradient.hidden_bias, share @ (up[1] - up[0]), atol=1e-14)
    back = np.asarray(rbm.visible_given_hidden(params, up[0]))
    np.testing.assert_allclose(value, share @ ((ROWS - back) ** 2).sum(1), rtol=1e-12)


def test_a_whole_weight_is_a_repetition_and_zero_an_absence():
    params = machine("bernoulli")
    weighted = Batch(ROWS, jnp.array([2.0, 0.0, 1.0, 0.0, 3.0, 1.0]))
    repeated = Batch(ROWS[jnp.array([0, 0, 2, 4, 4, 4, 5])])
    descend = rbm.contrastive_divergence(2)
    # Without a key nothing is drawn, so equal rows have equal chains.
    a, b = descend(params, weighted, None), descend(params, repeated, None)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-15), a, b)
    # The trainer's padding: only under a trace may all weights be zero.
    nothing = jax.jit(lambda w: descend(params, Batch(ROWS, w), None)[1])(jnp.zeros(6))
    assert bool(jnp.all(jnp.isfinite(nothing.weight)))


def test_without_a_key_chains_run_on_means():
    params = machine("bernoulli")
    _, gradient = rbm.contrastive_divergence(1)(params, Batch(ROWS), None)
    after = rbm.visible_given_hidden(params, rbm.hidden_given_visible(params, ROWS))
    np.testing.assert_allclose(gradient.visible_bias, jnp.mean(after - ROWS, axis=0), atol=1e-14)


def test_stationary_persistent_chains_give_the_gradient_of_the_likelihood():
    params, n = machine("bernoulli"), 2000
    p = jnp.exp(rbm.log_prob(params, STATES, rbm.log_partition(params)))

    def one(key):
        key_start, key_step = jax.random.split(key)
        chains = STATES[jax.random.choice(key_start, 2**V, (5,), p=p)]
        return rbm.persistent_divergence(key_step, params, ROWS, chains, sample_weight=WEIGHT)[1]

    drawn = gradients(one, n)
    exact = exact_gradient(params, ROWS)
    assert np.all(np.abs(drawn.mean(0) - exact) < 5 * drawn.std(0) / n**0.5)


def test_chains_move_on_by_gibbs():
    params = machine("gaussian")
    chains = jax.random.normal(KEYS[1], (9, V), jnp.float64)
    moved = rbm.persistent_divergence(KEYS[2], params, data("gaussian"), chains, 3)[2]
    np.testing.assert_array_equal(moved, rbm.gibbs(KEYS[2], params, chains, 3))


@pytest.fixture(scope="module")
def stripes():
    """Two of 16 states, four rows each: entropy log 2, the best a machine can reach."""
    return jnp.tile(STATES[jnp.array([3, 12])], (4, 1))


def test_fit_persistent_learns_two_states(stripes):
    start = rbm.init(KEYS[0], V, H, scale=0.1, dtype=jnp.float64)
    fit = rbm.fit_persistent(KEYS[1], start, stripes, updates=3000, chains=50)
    before, after = (float(loss(p, stripes, jnp.ones(8))) for p in (start, fit.params))
    assert before == pytest.approx(V * np.log(2), abs=0.05)  # fair coins
    assert after < np.log(2) + 0.15
    assert fit.chains.shape == (50, V)
    share = np.mean([tuple(c) in {(0, 0, 1, 1), (1, 1, 0, 0)} for c in np.asarray(fit.chains)])
    assert share > 0.7
    assert float(fit.errors[-1]) < float(fit.errors[0])


def test_weights_of_fit_persistent_choose_what_is_learned(stripes):
    only = jnp.array([1.0, 0.0] * 4)
    start = rbm.init(KEYS[0], V, H, dtype=jnp.float64)
    for size in (None, 4):
        fit = rbm.fit_persistent(
            KEYS[1], start, stripes, updates=600, learning_rate=0.2, batch_size=size,
            sample_weight=only,
        )  # fmt: skip
        field = np.asarray(jnp.mean(fit.chains, axis=0))
        np.testing.assert_allclose(field, [0, 0, 1, 1], atol=0.2)


# What it learns is enough here: it is watched on the rows that it learns from.
@pytest.mark.filterwarnings("ignore:train.fit. validation has")
def test_the_trainer_descends_cd(stripes):
    start = rbm.init(KEYS[0], V, H, scale=0.1, dtype=jnp.float64)
    cd = rbm.contrastive_divergence(3)
    trained = train.fit(
        KEYS[1], start, train.Batch(stripes), cd, epochs=400, learning_rate=0.02, batch_size=5,
        validation=train.Batch(stripes),
    )  # fmt: skip
    assert isinstance(trained.params, rbm.Bernoulli)
    assert float(trained.history.validation[-1]) < 0.3 * float(trained.history.validation[0])
    assert float(loss(trained.params, stripes, jnp.ones(8))) < np.log(2) + 0.5


BIT = machine("bernoulli")
GREY = ROWS.at[2, 1].set(0.5)
cd = lambda x, weight=None, key=KEYS[0]: rbm.contrastive_divergence()(BIT, Batch(x, weight), key)
pcd = partial(rbm.persistent_divergence, KEYS[0], BIT)
fit = partial(rbm.fit_persistent, KEYS[0], BIT)
BAD = [
    (lambda: rbm.contrastive_divergence(0), ValueError, "steps must be at least 1, got 0"),
    (lambda: rbm.contrastive_divergence(1.5), TypeError, "steps must be a whole number"),
    (lambda: cd(GREY), ValueError, "v must be 0 or 1 in a Bernoulli machine, got 0.5 at .* 2, 1"),
    (lambda: cd(ROWS[:, :2]), ValueError, r"v must have shape \(any, 4\), got \(6, 2\)"),
    (lambda: cd(ROWS, WEIGHT[:3]), ValueError, r"weight must have shape \(6,\)"),
    (lambda: cd(ROWS, -WEIGHT), ValueError, "weight must not be negative"),
    (lambda: cd(ROWS, key=3), TypeError, "key must be a PRNG key"),
    (lambda: pcd(ROWS, ROWS[:, :3]), ValueError, r"v must have shape \(any, 4\)"),
    (lambda: pcd(ROWS, GREY), ValueError, "v must be 0 or 1"),
    (lambda: pcd(ROWS, ROWS, 0), ValueError, "steps must be at least 1, got 0"),
    (lambda: fit(ROWS, updates=0), ValueError, "updates must be at least 1, got 0"),
    (lambda: fit(ROWS, updates=1, chains=0), ValueError, "chains must be at least 1, got 0"),
    (lambda: fit(ROWS, updates=1, steps=0), ValueError, "steps must be at least 1, got 0"),
    (lambda: fit(ROWS, updates=1, batch_size=-1), ValueError, "batch_size must be at least 1"),
    (lambda: fit(ROWS, updates=1, batch_size=0), ValueError, "batch_size must be at least 1"),
    (lambda: fit(ROWS, updates=1, learning_rate=-1.0), ValueError, "learning_rate must be non-n"),
    (lambda: fit(ROWS, updates=1, sample_weight=-WEIGHT), ValueError, "must not be negative"),
    (lambda: fit(GREY, updates=1), ValueError, "v must be 0 or 1"),
]


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.usefixtures("unchecked_types")
def test_the_trainer_refuses_grey_rows_at_the_door():
    with pytest.raises(ValueError, match=r"v must be 0 or 1 .* got 0.5 at"):
        train.fit(KEYS[0], BIT, train.Batch(GREY), rbm.contrastive_divergence(), epochs=1)
