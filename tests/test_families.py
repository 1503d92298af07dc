"""Networks of the other families through the trainer and the sweep, neither of which knows them.

Oracles: convolution and recurrence as loops in NumPy, central differences, the loss on the rows
that count, and one member of a sweep against the same training alone.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from experiments import families
from jaxnn import sweep, train

CONFIG = families.Config(
    hidden=(3,), channels=(2, 3), memory=4, seeds=2, epochs=3, batch_size=8, learning_rates=(0.01,)
)
FAMILIES = families.families(CONFIG)
FLAX = ("convolutional", "recurrent")
N = 20


@pytest.fixture(scope="module")
def rows():
    """Images whose class is the half that is bright, so that anything that sees can learn it."""
    draw = np.random.default_rng(0)
    y = draw.integers(0, 2, N)
    x = draw.uniform(0, 0.3, (N, 8, 8))
    x[y == 0, :4] += 0.7
    x[y == 1, 4:] += 0.7
    batch = train.Batch(jnp.asarray(x.reshape(N, 64), jnp.float32), jnp.asarray(y, jnp.int32))
    return families.Parts(train=batch, validation=batch, test=batch)


@pytest.fixture(scope="module")
def params():
    """Parameters of every family in float64, in which differences are exact enough."""
    start = jax.jit(
        lambda: {
            name: family.init(jax.random.key(1), jnp.zeros((1, 64), jnp.float32))
            for name, family in FAMILIES.items()
        }
    )()
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64) + 0.05, start)


def by_hand(name, p, x):
    """The outputs for one image, in loops."""
    p = jax.tree.map(np.asarray, p)
    if name == "recurrent":
        state, cell = np.zeros(CONFIG.memory), p["cell"]
        for row in x.reshape(8, 8):
            state = np.tanh(
                row @ cell["i"]["kernel"] + cell["i"]["bias"] + state @ cell["h"]["kernel"]
            )
        features = state
    else:
        image = x.reshape(8, 8, 1)
        for i, width in enumerate(CONFIG.channels):
            kernel, bias = p[f"conv_{i}"]["kernel"], p[f"conv_{i}"]["bias"]
            side = image.shape[0]
            padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
            new = np.zeros((side, side, width))
            for r in range(side):
                for c in range(side):
                    window = padded[r : r + 3, c : c + 3, :, None]
                    new[r, c] = np.maximum((window * kernel).sum((0, 1, 2)) + bias, 0)
            image = new.reshape(side // 2, 2, side // 2, 2, width).max((1, 3))
        features = image.ravel()
    return features @ p["output"]["kernel"] + p["output"]["bias"]


@pytest.mark.parametrize("name", FLAX)
def test_outputs_are_those_of_loops(name, params, rows):
    x = np.asarray(rows.test.x[:3], np.float64)
    logits = jax.jit(FAMILIES[name].logits)(params[name], x)
    np.testing.assert_allclose(logits, [by_hand(name, params[name], row) for row in x], rtol=1e-12)


@pytest.mark.parametrize("name", FLAX)
def test_rows_of_weight_zero_do_not_count_and_the_gradient_is_that_of_differences(
    name, params, rows
):
    descend = jax.jit(FAMILIES[name].value_and_grad)
    x = rows.train.x.astype(jnp.float64)
    weight = jnp.where(jnp.arange(N) < 12, 1.0 + jnp.arange(N), 0.0)
    batch = train.Batch(x, rows.train.y, weight)
    value, gradient = descend(params[name], batch, None)
    logits = np.array([by_hand(name, params[name], row) for row in np.asarray(x[:12])])
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(12), np.asarray(rows.train.y[:12])]
    assert value == pytest.approx(np.average(losses, weights=weight[:12]), rel=1e-12)

    flat, rebuild = ravel_pytree(params[name])
    along = np.random.default_rng(1).normal(size=flat.shape)
    up, down = (descend(rebuild(flat + s * 1e-6 * along), batch, None)[0] for s in (1, -1))
    slope = ravel_pytree(gradient)[0] @ along
    assert float(slope) == pytest.approx(float(up - down) / 2e-6, rel=1e-6)


@pytest.fixture(scope="module")
def swept(rows):
    """Both flax families over two step lengths and two seeds, as the experiment sweeps them."""
    space = sweep.grid(learning_rate=[0.0, 0.02], seed=[5, 6])
    one = {name: partial(families.fit_one, family=FAMILIES[name], config=CONFIG) for name in FLAX}
    return {name: sweep.run(one[name], space, jax.random.key(0), rows) for name in FLAX}


@pytest.mark.parametrize("name", FLAX)
def test_a_family_trains_through_the_sweep(name, swept):
    trained = swept[name].results.trained
    loss = np.asarray(trained.history.validation)
    assert loss.shape == (4, CONFIG.epochs)
    np.testing.assert_array_equal(loss[:2], loss[:2, :1].repeat(CONFIG.epochs, 1))  # no step
    assert np.all(loss[2:, -1] < 0.8 * loss[:2, -1])  # the same seeds, and steps
    assert not np.any(trained.diverged)
    np.testing.assert_array_equal(swept[name].results.by_rows[:, -1], swept[name].results.accuracy)


# What it learns is enough here: it is watched on the rows that it learns from.
@pytest.mark.filterwarnings("ignore:train.fit. validation has")
@pytest.mark.parametrize("name", FLAX)
def test_a_member_is_the_training_alone(name, swept, rows):
    key_init, key_train = jax.random.split(jax.random.fold_in(jax.random.key(0), 6))
    start = jax.jit(FAMILIES[name].init)(key_init, rows.train.x[:1])
    alone = train.fit(
        key_train, start, rows.train, FAMILIES[name].value_and_grad, epochs=CONFIG.epochs,
        batch_size=CONFIG.batch_size, learning_rate=0.02, validation=rows.validation,
    )  # fmt: skip
    member = jax.tree.map(lambda leaf: leaf[3], swept[name].results.trained)
    for one, other in zip(
        jax.tree.leaves(alone.params), jax.tree.leaves(member.params), strict=True
    ):
        assert one.dtype == jnp.float32
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", FLAX)
def test_a_flax_bias_is_not_decayed(name, params, rows):
    """Whatever the loss: with none at all, the penalty is all that moves a parameter."""
    nothing = lambda p, batch, key: (jnp.zeros(()), jax.tree.map(jnp.zeros_like, p))
    trained = train.fit(
        jax.random.key(0), params[name], rows.train, nothing, epochs=1, optimizer="sgd",
        learning_rate=0.1, l2=0.5,
    )  # fmt: skip
    for (path, after), before in zip(
        jax.tree_util.tree_leaves_with_path(trained.params), jax.tree.leaves(params[name]),
        strict=True,
    ):  # fmt: skip
        kept = 1.0 if path[-1].key == "bias" else 0.9
        np.testing.assert_allclose(after, kept * before, rtol=1e-6)
