"""Oracles: the same layers one by one, and closed forms of networks of 1,000 layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import mlp
from jaxnn.train import Batch

KEYS = jax.random.split(jax.random.key(9), 4)
X = jax.random.normal(KEYS[0], (6, 3))
LABELS = jnp.arange(6) % 2
SIZES = (3, 4, 4, 4, 4, 5, 5, 5, 2)
OPTIONS = {"keep_prob": 0.7, "input_keep_prob": 0.9, "l2": 0.1}
KINDS = {
    "dense": {"activation": "relu"},
    "without bias": {"activation": "relu", "bias": False},
    "residual": {"activation": "relu", "residual": True},
    "maxout": {"activation": "identity", "pieces": 2},
}


def close(found, wanted):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-14), found, wanted
    )


@pytest.mark.parametrize("kind", KINDS)
def test_stacked_layers_are_the_same_network(kind):
    options = KINDS[kind]
    params = mlp.init(KEYS[1], SIZES, dtype=jnp.float64, **options)
    stacked = mlp.init(KEYS[1], SIZES, dtype=jnp.float64, stacked=True, **options)
    assert [type(layer).__name__ == "Stack" for layer in stacked] == [0, 1, 0, 1, 0]
    close(stacked, mlp.stack(params))
    close(mlp.unstack(stacked), params)
    assert mlp.unstack(params) == params
    descend = mlp.value_and_grad(activation=options["activation"], **OPTIONS)
    run = jax.jit(lambda p: descend(p, Batch(X, LABELS, None), KEYS[2]))
    value, gradient = run(stacked)
    one_by_one = run(params)
    close((value, mlp.unstack(gradient)), one_by_one)  # the masks too are the same


def test_a_thousand_layers_are_a_program_as_long_as_that_of_ten():
    def text(depth):
        params = jax.eval_shape(
            lambda key: mlp.init(key, (3, *(4,) * depth, 2), stacked=True), KEYS[1]
        )
        descend = mlp.value_and_grad(keep_prob=0.5)
        batch = Batch(X.astype(jnp.float32), LABELS, None)
        return str(jax.make_jaxpr(lambda p: descend(p, batch, KEYS[2]))(params))

    assert text(1000).count("\n") == text(10).count("\n")  # F25


def test_a_thousand_linear_layers_have_the_closed_form():
    depth, step = 1000, 1e-3
    eye = jnp.broadcast_to((1 + step) * jnp.eye(3), (depth, 3, 3))
    params = (mlp.Stack(mlp.Dense(eye, None)), mlp.Dense(jnp.eye(3), None))
    batch = Batch(X, jnp.zeros((6, 3)), None)
    descend = jax.jit(mlp.value_and_grad("squared", activation="identity"))
    value, gradient = descend(params, batch, None)
    power = (1 + step) ** depth
    assert float(value) == pytest.approx(power**2 * float(jnp.mean(jnp.sum(X**2, axis=1))))
    # d‖pX‖²/n by any of the factors (1 + step) I of p: 2 p² XᵀX / (1 + step) / n
    wanted = 2 * power**2 / (1 + step) * (X.T @ X) / 6
    np.testing.assert_allclose(gradient[0].layers.weight[::333], wanted[None].repeat(4, 0), 1e-10)


def test_outside_of_jit_a_stack_is_compiled_once():
    params = mlp.stack(mlp.init(KEYS[1], SIZES, dtype=jnp.float64))
    descend = mlp.value_and_grad()
    from jaxnn.mlp.recursion import _retreat_stack
    from jaxnn.mlp.tape import _advance_stack

    descend(params, Batch(X, LABELS, None), None)
    sizes = _advance_stack._cache_size(), _retreat_stack._cache_size()
    descend(params, Batch(X, LABELS, None), None)
    assert sizes == (_advance_stack._cache_size(), _retreat_stack._cache_size())


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_signals_of_residual_layers_grow_by_less_than_e_at_depth_a_thousand(activation):
    sizes = (64, *(64,) * 1000, 2)
    options = {"activation": activation, "residual": True, "stacked": True}
    params = mlp.init(KEYS[1], sizes, **options)
    found = mlp.diagnose(params, jax.random.normal(KEYS[0], (4, 64), jnp.float32),
                         activation=activation)  # fmt: skip
    assert found.rms.shape == (1001,)
    assert 0.5 < float(found.rms[999]) < np.e * float(found.rms[0]) * 1.2


ONE = mlp.init(KEYS[1], (3, 3, 3, 2), dtype=jnp.float64)
STACKED = mlp.stack(ONE[1:2] * 2 + ONE[2:])
BAD = [
    ((STACKED[0],), ValueError, r"params\[0\], the output layer, must not be a Stack"),
    ((mlp.Stack(3), ONE[2]), TypeError, r"params\[0\].layers must be Dense, .*Residual, got int"),
    ((mlp.Stack(ONE[0]), ONE[2]), ValueError,
     r"weight of params\[0\].layers must have shape \(any, 3, any\), got \(3, 3\)"),
    ((mlp.Stack(mlp.Dense(jnp.ones((2, 4, 3)), None)), ONE[2]), ValueError,
     r"weight of params\[0\].layers must have shape \(any, 3, any\), got \(2, 4, 3\)"),
    ((mlp.Stack(mlp.Dense(jnp.ones((0, 3, 3)), None)), ONE[2]), ValueError,
     r"weight of params\[0\].layers must not be empty"),
    ((mlp.Residual(jnp.ones((3, 2)), None), ONE[2]), ValueError,
     r"weight of params\[0\] must have shape \(2, any\), got \(3, 2\)"),
    ((STACKED[0]._replace(layers=STACKED[0].layers._replace(bias=jnp.ones((1, 3)))), ONE[2]),
     ValueError, r"bias of params\[0\].layers must have shape \(2, 3\), got \(1, 3\)"),
    ((ONE[0], ONE[1]._replace(bias=jnp.array([0, jnp.nan, 0])), ONE[2]), ValueError,
     r"bias of params\[1\] must be finite, got nan at row 1"),  # F22
    ((STACKED[0]._replace(layers=STACKED[0].layers._replace(
        weight=jnp.full((2, 3, 3), jnp.inf))), ONE[2]), ValueError,
     r"weight of params\[0\] must be finite, got inf"),
    ((ONE[0]._replace(bias=jnp.zeros(3, int)),), TypeError, r"bias of params\[0\] must hold float"),
]  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(("params", "error", "message"), BAD)
@pytest.mark.parametrize("name", ["apply", "stack", "layer_norms"])
def test_layers_that_are_none_or_do_not_fit(name, params, error, message):
    given = (params, X) if name == "apply" else (params,)
    with pytest.raises(error, match=f"mlp.{name}: {message}"):
        getattr(mlp, name)(*given)
