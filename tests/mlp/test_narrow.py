"""Oracle: the smaller network of the living units alone, its outputs and its training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxnn import mlp, train

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (10, 3))
BATCH = train.Batch(x=X, y=(X[:, 0] * X[:, 1] > 0).astype(int))
WIDE = mlp.init(KEY, (3, 6, 5, 2), activation="tanh", dtype=jnp.float64)


def cut(params, sizes):
    """The living units of a wide network, as a network of their own."""
    return tuple(
        layer._replace(weight=layer.weight[..., :o, :i], bias=layer.bias[..., :o])
        for layer, i, o in zip(params, sizes, sizes[1:], strict=False)
    )


def test_members_of_many_widths_train_under_one_vmap_as_if_alone():
    """Oracle: the smaller networks, trained by themselves in batches; Adam and the penalty, too.

    Of a sigmoid, a unit without inputs says 1/2, and would learn if it were let.
    """
    activation = "sigmoid"
    descend = mlp.value_and_grad(activation=activation)
    options = {"epochs": 4, "batch_size": 4, "learning_rate": 0.05, "l2": 0.01}

    @jax.vmap
    def masked(widths):
        def one(params, batch, key):
            value, gradient = descend(mlp.narrow(params, widths), batch, key)
            return value, mlp.narrow(gradient, widths)

        return train.fit(KEY, mlp.narrow(WIDE, widths), BATCH, one, **options)

    widths = np.array([[6, 5], [2, 4]])
    got = masked(jnp.asarray(widths))
    for i, (first, second) in enumerate(widths):
        sizes = (3, first, second, 2)
        alone = train.fit(KEY, cut(WIDE, sizes), BATCH, descend, **options)
        np.testing.assert_allclose(got.history.loss[i], alone.history.loss, rtol=1e-9)
        params = jax.tree.map(lambda a, i=i: a[i], got.params)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-10),
            cut(params, sizes),
            alone.params,
        )
        assert sum(int(jnp.sum(a != 0)) for a in jax.tree.leaves(params)) <= sum(
            a.size for a in jax.tree.leaves(alone.params)
        )


def test_a_start_has_the_spread_of_a_narrow_network():
    """Closed form: standard deviation 1 / sqrt(living inputs); 5 standard errors."""
    draw = lambda key: mlp.init(key, (2, 64, 3), activation="tanh", dtype=jnp.float64)
    params = jax.vmap(draw)(jax.random.split(KEY, 200))
    last = jax.vmap(lambda p: mlp.narrow(p, [16], start=True))(params)[1].weight
    assert bool(jnp.all(last[:, :, 16:] == 0))
    spread = np.asarray(last[:, :, :16]) * 4
    assert abs(np.mean(spread**2) - 1) < 5 * np.sqrt(2 / spread.size)


# Sizes, options of `init`, and widths: maxout without bias, equal layers in a row, residual ones.
KINDS = {
    "maxout": ((3, 4, 2), {"activation": "identity", "pieces": 2, "bias": False}, [3], (3, 3, 2)),
    "stack": ((3, 5, 5, 5, 2), {}, [2, 4, 3], (3, 2, 4, 3, 2)),
    "residual": ((3, 5, 5, 4, 4, 2), {"residual": True}, [3, 2], (3, 3, 3, 2, 2, 2)),
    "residual input": ((3, 3, 3, 4, 2), {"residual": True}, [1], (3, 3, 3, 1, 2)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_layers_of_every_kind_one_by_one_and_stacked(kind):
    """Oracle: outputs and starts of the cut network, its weights widened by hand.

    Of a sigmoid a dead unit says 1/2, and beside a residual layer it must not come back.
    """
    sizes, options, widths, small = KINDS[kind]
    activation = options.get("activation", "sigmoid")
    wide = mlp.init(KEY, sizes, dtype=jnp.float64, **options)
    wide = jax.tree.map(lambda a: a + 0.1, wide)  # biases, too
    expected = tuple(
        layer._replace(
            weight=layer.weight[..., :o, :i] * np.sqrt(layer.weight.shape[-1] / i),
            bias=None if layer.bias is None else layer.bias[..., :o],
        )
        for layer, i, o in zip(wide, small, small[1:], strict=False)
    )
    for params in (wide, mlp.stack(wide)):
        found = jax.jit(lambda p, w: mlp.narrow(p, w, start=True))(params, jnp.array(widths))
        got, want = (mlp.apply(p, X, activation=activation) for p in (found, expected))
        np.testing.assert_allclose(got, want, rtol=1e-12)
        alive = sum(int(jnp.sum(a != 0)) for a in jax.tree.leaves(found))
        assert alive == sum(a.size for a in jax.tree.leaves(expected))


BAD = {
    "number": ([1], ValueError, "one number for each of 2 hidden layers, got 1"),
    "F2 zero": ([0, 1], ValueError, r"widths\[0\] must be between 1 and 6, got 0"),
    "too wide": ([6, 6], ValueError, r"widths\[1\] must be between 1 and 5, got 6"),
    "half": ([1.5, 1], TypeError, r"widths\[0\] must be a whole number"),
}
DEEP = mlp.stack(mlp.init(KEY, (3, 5, 5, 5, 2), dtype=jnp.float64))


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_widths_get_one_clear_message(case):
    """Oracle: the message."""
    widths, error, message = BAD[case]
    refused(lambda: mlp.narrow(WIDE, widths), error, message, "mlp.narrow")


def test_every_layer_of_a_stack_has_a_width():
    """Oracle: the messages."""
    wrong = lambda widths: lambda: mlp.narrow(DEEP, widths)
    refused(wrong([2, 2]), ValueError, "each of 3 hidden layers, got 2", "mlp.narrow")
    refused(wrong([2, 2, 6]), ValueError, r"widths\[2\] must be between 1 and 5", "mlp.narrow")
