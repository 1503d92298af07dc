"""Oracles: counting units in NumPy, and networks made to be dead or to explode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import mlp
from jaxnn.train import Batch

KEYS = jax.random.split(jax.random.key(11), 3)
X = jax.random.normal(KEYS[0], (5, 3))
SIZES = (3, 6, 6, 6, 2)


def low(params, by):
    """The same layers with lower biases, so that some units die."""
    return tuple(p._replace(bias=p.bias - by) for p in params)


@pytest.mark.parametrize("residual", [False, True])
def test_dead_units_and_sizes_are_those_counted_by_hand(residual):
    params = low(mlp.init(KEYS[1], SIZES, residual=residual, dtype=jnp.float64), 0.7)
    found = mlp.diagnose(params, X)
    h, dead, rms = np.asarray(X), [], []
    for i, (w, b) in enumerate(params):
        a = h @ np.asarray(w).T + np.asarray(b)
        out = a if i == 3 else np.maximum(a, 0)
        h = h + out if isinstance(params[i], mlp.Residual) else out
        dead.append(0.0 if i == 3 else np.mean(np.all(a <= 0, axis=0)))
        rms.append(np.sqrt(np.mean(h**2)))
    assert 0 < max(dead) < 1
    np.testing.assert_allclose(found.dead, dead, rtol=1e-12)  # F23
    np.testing.assert_allclose(found.rms, rms, rtol=1e-12)
    assert int(found.exploding) == -1
    stacked = mlp.diagnose(mlp.stack(params), X)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), stacked, found)


def test_saturated_units_and_pieces_that_never_win_are_dead():
    full = mlp.init(KEYS[1], (3, 4, 2), activation="sigmoid")
    x = X.astype(jnp.float32)
    saturated = (full[0]._replace(bias=jnp.array([0.0, 99.0, -99.0, 0.0], jnp.float32)), full[1])
    found = mlp.diagnose(saturated, x, activation="sigmoid")
    assert found.dead.tolist() == [0.5, 0.0]
    params = mlp.init(KEYS[1], (3, 4, 2), activation="identity", pieces=2)
    bias = params[0].bias.at[1, :3].set(-1e6)
    found = mlp.diagnose((params[0]._replace(bias=bias), params[1]), x, activation="identity")
    pieces = np.einsum("ni,koi->kno", x, params[0].weight) + np.asarray(bias)[:, None]
    wins = np.argmax(pieces, axis=0)
    never = np.mean([~np.any(wins == k, axis=0) for k in range(2)])
    assert found.dead.tolist() == [pytest.approx(never), 0.0]


def test_the_first_layer_that_explodes_is_named():
    params = mlp.init(KEYS[1], SIZES)
    big = params[1]._replace(weight=1e6 * params[1].weight)
    x = X.astype(jnp.float32)
    found = mlp.diagnose((params[0], big, *params[2:]), x)
    assert int(found.exploding) == 1  # F24
    assert int(mlp.diagnose((params[0], big, *params[2:]), x, limit=1e8).exploding) == -1
    huge = params[1]._replace(weight=1e38 * params[1].weight)
    found = mlp.diagnose((params[0], huge, *params[2:]), 1e30 * x)
    assert int(found.exploding) == 1
    assert float(found.rms[0]) == pytest.approx(1e30 * float(mlp.diagnose(params, x).rms[0]), 1e-5)


def test_norms_of_layers_are_those_of_numpy_also_in_a_stack():
    params = mlp.init(KEYS[1], SIZES, dtype=jnp.float64)
    batch = Batch(X, jnp.arange(5) % 2, None)
    _, gradient = mlp.value_and_grad()(params, batch, None)
    wanted = [np.sqrt(np.sum(np.square(w)) + np.sum(np.square(b))) for w, b in gradient]
    np.testing.assert_allclose(mlp.layer_norms(gradient), wanted, rtol=1e-12)
    np.testing.assert_allclose(mlp.layer_norms(mlp.stack(gradient)), wanted, rtol=1e-12)
    tiny = jax.tree.map(lambda a: (1e-30 * a).astype(jnp.float32), gradient)
    np.testing.assert_allclose(mlp.layer_norms(tiny), 1e-30 * np.array(wanted), rtol=1e-5)


def test_bad_input():
    params = mlp.init(KEYS[1], SIZES, dtype=jnp.float64)
    with pytest.raises(ValueError, match=r"^mlp.diagnose: limit must be positive"):
        mlp.diagnose(params, X, limit=0.0)
    with pytest.raises(ValueError, match=r"^mlp.diagnose: x must have shape \(any, 3\)"):
        mlp.diagnose(params, X[:, :2])
