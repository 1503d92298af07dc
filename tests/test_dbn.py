"""Oracles: the machines' own conditionals, enumeration of a small stack (5 SE), shapes that fit."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import dbn, mlp, rbm, train

KEYS = jax.random.split(jax.random.key(7), 4)
ROWS = jax.random.bernoulli(KEYS[0], 0.4, (20, 5)).astype(jnp.float64)


def machine(key, v, h, units="bernoulli"):
    keys = jax.random.split(key, 3)
    parts = zip(keys, ((v, h), (v,), (h,)), strict=True)
    return rbm.VISIBLE[units](*(jax.random.normal(k, s, jnp.float64) for k, s in parts))


STACK = (machine(KEYS[1], 5, 4), machine(KEYS[2], 4, 3))


def keep(key, params, v):
    """A fit that learns nothing: it says what it was given."""
    del key
    mean = jnp.mean(v, axis=0)
    return params._replace(visible_bias=mean)


def test_each_machine_learns_the_draws_of_the_machine_below():
    """Means of the rows that machine 2 is given, against the probabilities of machine 1 (5 SE)."""
    rows = jnp.tile(ROWS, (200, 1))
    stack = dbn.pretrain(KEYS[3], rows, (4, 3), keep)
    np.testing.assert_allclose(stack[0].visible_bias, jnp.mean(rows, axis=0), rtol=1e-12)
    p = rbm.hidden_given_visible(stack[0], rows)
    error = jnp.sqrt(jnp.sum(p * (1 - p), axis=0)) / len(rows)
    assert np.all(np.abs(stack[1].visible_bias - jnp.mean(p, axis=0)) < 5 * error)


def test_rows_of_the_second_machine_are_states():
    seen = []
    dbn.pretrain(KEYS[3], ROWS, (4, 3), lambda key, p, v: seen.append(np.asarray(v)) or p)
    assert set(np.unique(seen[1])) == {0.0, 1.0}
    assert [v.shape for v in seen] == [(20, 5), (20, 4)]


def test_gaussian_units_are_at_the_bottom_only():
    stack = dbn.pretrain(KEYS[3], ROWS - 0.3, (4, 3), keep, units="gaussian")
    assert [type(m) for m in stack] == [rbm.Gaussian, rbm.Bernoulli]


def test_hidden_layers_of_the_unrolled_network_are_the_machines():
    params = dbn.unroll(KEYS[3], STACK, 2)
    _, tape = mlp.forward(params, ROWS, activation="sigmoid")
    up = rbm.hidden_given_visible(STACK[0], ROWS)
    np.testing.assert_allclose(tape.inputs[1], up, rtol=1e-12)
    # A machine is linear in its states, so probabilities go up as states would.
    top = jax.nn.sigmoid(up @ STACK[1].weight + STACK[1].hidden_bias[None])
    np.testing.assert_allclose(tape.inputs[2], top, rtol=1e-12)
    assert [layer.weight.shape for layer in params] == [(4, 5), (3, 4), (2, 3)]
    jax.tree.map(
        np.testing.assert_array_equal, params[2:], mlp.init(KEYS[3], (3, 2), dtype=jnp.float64)
    )


def test_samples_have_the_distribution_of_the_stack():
    """p(v) = Σ p(v | h) p(h), with p(h) of the last machine by enumeration; 5 standard errors."""
    n = 20_000
    states = jnp.asarray(list(itertools.product((0.0, 1.0), repeat=4)))
    prior = jnp.exp(rbm.log_prob(STACK[1], states, rbm.log_partition(STACK[1])))
    given = rbm.visible_given_hidden(STACK[0], states)
    drawn = np.asarray(dbn.sample(KEYS[3], STACK, n, steps=50))
    for power, wanted in (
        (drawn, prior @ given),
        (drawn[:, :1] * drawn, prior @ (given[:, :1] * jnp.where(jnp.arange(5) == 0, 1.0, given))),
    ):
        error = power.std(0) / n**0.5
        assert np.all(np.abs(power.mean(0) - wanted) < 5 * error)


def test_one_machine_samples_as_itself():
    n = 20_000
    states = jnp.asarray(list(itertools.product((0.0, 1.0), repeat=5)))
    p = jnp.exp(rbm.log_prob(STACK[0], states, rbm.log_partition(STACK[0])))
    drawn = np.asarray(dbn.sample(KEYS[3], STACK[:1], n, steps=50))
    assert np.all(np.abs(drawn.mean(0) - p @ states) < 5 * drawn.std(0) / n**0.5)


def test_pretraining_and_fine_tuning_run_under_vmap():
    """A batch of stacks is what a loop gives, and fine-tuning lowers the loss."""
    cd = rbm.contrastive_divergence()
    labels = (ROWS[:, 0] > 0).astype(jnp.int32)
    descend = mlp.value_and_grad(activation="sigmoid")

    def one(key):
        k = jax.random.split(key, 3)
        fit = lambda key, p, v: train.fit(key, p, train.Batch(v), cd, epochs=3).params
        params = dbn.unroll(k[1], dbn.pretrain(k[0], ROWS, (4, 3), fit), 2)
        return train.fit(
            k[2], params, train.Batch(ROWS, labels), descend, epochs=40, learning_rate=0.05
        )

    together = jax.jit(jax.vmap(one))(KEYS[:2])
    alone = one(KEYS[1])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-9, atol=1e-12), together, alone
    )
    assert float(alone.history.loss[-1]) < 0.7 * float(alone.history.loss[0])


WIDER = (STACK[0], machine(KEYS[2], 6, 3))
UPSIDE = (STACK[0], machine(KEYS[2], 4, 3, "gaussian"))
BAD = [
    (lambda: dbn.pretrain(KEYS[0], ROWS, (), keep), ValueError, "number of machines must be at l"),
    (lambda: dbn.pretrain(KEYS[0], ROWS, 4, keep), TypeError, "hidden must be the widths"),
    (lambda: dbn.pretrain(KEYS[0], ROWS, (4, 0), keep), ValueError, r"hidden\[1\] must be at le"),
    (lambda: dbn.pretrain(0, ROWS, (4,), keep), TypeError, "key must be a PRNG key"),
    (lambda: dbn.pretrain(KEYS[0], ROWS[0], (4,), keep), ValueError, "v must have shape"),
    (lambda: dbn.pretrain(KEYS[0], ROWS, (4,), keep, units="x"), ValueError, "unknown units 'x'"),
    (lambda: dbn.pretrain(KEYS[0], ROWS, (4,), lambda k, p, v: v), TypeError, "fit must return B"),
    (lambda: dbn.pretrain(KEYS[0], ROWS, (4,), lambda k, p, v: STACK[1]), ValueError, "from fit"),
    (lambda: dbn.pretrain(KEYS[0], ROWS / 2, (4, 3), keep), ValueError, "v must be 0 or 1"),
    (lambda: dbn.unroll(KEYS[0], (), 2), TypeError, "stack must be a tuple of machines, got tup"),
    (lambda: dbn.unroll(KEYS[0], STACK[0], 2), TypeError, "tuple of machines, got Bernoulli"),
    (lambda: dbn.unroll(KEYS[0], WIDER, 2), ValueError, r"weight of stack\[1\] must have shape"),
    (lambda: dbn.unroll(KEYS[0], UPSIDE, 2), TypeError, r"stack\[1\] must be rbm.Bernoulli, got"),
    (lambda: dbn.unroll(KEYS[0], STACK, 0), ValueError, "outputs must be at least 1, got 0"),
    (lambda: dbn.sample(KEYS[0], STACK, 0, steps=1), ValueError, "n must be at least 1, got 0"),
    (lambda: dbn.sample(KEYS[0], STACK, 1, steps=0), ValueError, "steps must be at least 1"),
]


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
