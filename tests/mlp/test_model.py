"""Oracles: NumPy loops, closed forms, 5 standard errors for what is random."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import mlp

KEYS = jax.random.split(jax.random.key(3), 4)
SIZES = (4, 16, 8, 3)
PARAMS = mlp.init(KEYS[0], SIZES, dtype=jnp.float64)
X = jax.random.normal(KEYS[1], (10, 4))


def sizes_of(params):
    return [layer.weight.shape for layer in params]


@pytest.mark.parametrize("activation", mlp.ACTIVATIONS)
def test_initial_weights_have_the_gain_of_the_activation(activation):
    params = mlp.init(KEYS[0], (300, 200, 100, 50), activation=activation, dtype=jnp.float64)
    gain = mlp.ACTIVATIONS[activation].gain
    for layer, factor in zip(params, (gain, gain, 1.0), strict=True):
        n_out, n_in = layer.weight.shape
        std, n = factor / n_in**0.5, n_in * n_out
        assert abs(np.mean(layer.weight)) < 5 * std / n**0.5
        assert abs(np.std(layer.weight) / std - 1) < 5 / (2 * n) ** 0.5
        np.testing.assert_array_equal(layer.bias, np.zeros(n_out))


def test_a_deep_relu_network_keeps_the_scale_of_its_input():
    params = mlp.init(KEYS[0], (512,) * 11, dtype=jnp.float32)
    _, tape = mlp.forward(params, jax.random.normal(KEYS[1], (64, 512), jnp.float32))
    # Var log second moment is about 5 / width a layer (He et al.), here 0.1 after ten: 5 s.d.
    assert 0.2 < float(jnp.mean(jnp.square(tape.linear[-2]))) < 5


def test_layers_of_the_same_shape_start_differently():
    params = mlp.init(KEYS[0], (6, 6, 6))
    assert not bool(jnp.any(params[0].weight == params[1].weight))


def test_init_without_bias_with_pieces_and_in_float64():
    assert all(layer.bias is None for layer in mlp.init(KEYS[0], SIZES, bias=False))
    params = mlp.init(KEYS[0], SIZES, activation="identity", pieces=3)
    assert [type(layer) for layer in params] == [mlp.Maxout, mlp.Maxout, mlp.Dense]
    assert sizes_of(params) == [(3, 16, 4), (3, 8, 16), (3, 8)]
    assert params[0].bias.shape == (3, 16)
    for dtype in (jnp.float32, jnp.float64):
        leaves = jax.tree.leaves(mlp.init(KEYS[0], SIZES, dtype=dtype))
        assert {leaf.dtype for leaf in leaves} == {jnp.dtype(dtype)}


@pytest.mark.parametrize("activation", mlp.ACTIVATIONS)
def test_apply_is_the_recursion_in_numpy(activation):
    h = np.asarray(X)
    for i, layer in enumerate(PARAMS):
        a = np.einsum("oi,ni->no", layer.weight, h) + np.asarray(layer.bias)[None, :]
        h = np.asarray(jax.jit(mlp.ACTIVATIONS[activation].value)(a)) if i < 2 else np.tanh(a)
    options = {"activation": activation, "output_activation": "tanh"}
    out = jax.jit(partial(mlp.apply, **options))(PARAMS, X)
    np.testing.assert_allclose(out, h, rtol=1e-12, atol=1e-14)


def test_predict_is_the_place_of_the_largest_output():
    scores = mlp.apply(PARAMS, X)
    assert mlp.predict(PARAMS, X).tolist() == [max(range(3), key=row.__getitem__) for row in scores]


def test_classic_evaluation_multiplies_the_weights_by_p():
    weights = [PARAMS[0], *(layer._replace(weight=0.6 * layer.weight) for layer in PARAMS[1:])]
    classic = partial(mlp.apply, PARAMS, X, convention="classic")
    np.testing.assert_allclose(classic(keep_prob=0.6), mlp.apply(tuple(weights), X), rtol=1e-12)
    np.testing.assert_array_equal(classic(keep_prob=jnp.array(1.0)), mlp.apply(PARAMS, X))
    np.testing.assert_array_equal(mlp.apply(PARAMS, X, keep_prob=0.6), mlp.apply(PARAMS, X))


@pytest.mark.parametrize("convention", mlp.CONVENTIONS)
def test_training_outputs_of_a_linear_network_average_to_evaluation(convention):
    options = {"activation": "identity", "keep_prob": 0.7, "convention": convention}
    draws = 4000
    keys = jax.random.split(KEYS[2], draws)
    one = jax.vmap(lambda key: mlp.apply(PARAMS, X[:2], key=key, **options))
    out = np.asarray(jax.jit(one)(keys))
    error = np.std(out, axis=0) / draws**0.5
    assert np.all(error > 0)
    off = np.abs(np.mean(out, axis=0) - mlp.apply(PARAMS, X[:2], **options))
    assert np.all(off < 5 * error)


@pytest.mark.parametrize("convention", mlp.CONVENTIONS)
def test_to_keep_all_in_training_is_evaluation(convention):
    for one in (1.0, jnp.array(1.0)):
        out = mlp.apply(PARAMS, X, keep_prob=one, key=KEYS[2], convention=convention)
        np.testing.assert_allclose(out, mlp.apply(PARAMS, X), rtol=1e-14)


def test_jit_is_eager_and_another_keep_prob_does_not_recompile():
    @jax.jit
    def f(params, x, keep_prob, key):
        return mlp.apply(params, x, keep_prob=keep_prob, key=key)

    for keep_prob in (0.5, 0.9):
        eager = mlp.apply(PARAMS, X, keep_prob=keep_prob, key=KEYS[2])
        np.testing.assert_allclose(f(PARAMS, X, keep_prob, KEYS[2]), eager, rtol=1e-12, atol=1e-14)
    assert f._cache_size() == 1


def test_vmap_over_networks_and_over_rows_is_a_loop():
    keys = jax.random.split(KEYS[2], 3)
    keep = jnp.array([0.5, 0.8, 1.0])
    nets = jax.jit(jax.vmap(lambda key: mlp.init(key, SIZES, dtype=jnp.float64)))(keys)

    def f(params, keep_prob, key):
        return mlp.apply(params, X, keep_prob=keep_prob, key=key)

    together = jax.jit(jax.vmap(f))(nets, keep, keys)
    for i in range(3):
        one = f(mlp.init(keys[i], SIZES, dtype=jnp.float64), keep[i], keys[i])
        np.testing.assert_allclose(together[i], one, rtol=1e-12, atol=1e-14)
    rows = jax.jit(jax.vmap(lambda row: mlp.apply(PARAMS, row[None, :])[0]))(X)
    np.testing.assert_allclose(rows, mlp.apply(PARAMS, X), rtol=1e-12, atol=1e-14)


def test_outputs_have_the_dtype_of_the_parameters():
    params = mlp.init(KEYS[0], SIZES)
    options = {"keep_prob": jnp.array(0.5), "key": KEYS[2]}
    for x in (X.astype(jnp.float32), np.asarray(X, np.float32)):
        assert mlp.apply(params, x, **options).dtype == jnp.float32
    assert mlp.apply(PARAMS, X, **options).dtype == jnp.float64


def test_rows_and_keep_prob_from_outside_are_checked_under_jit_too():
    f = jax.jit(lambda params: mlp.apply(params, X, keep_prob=0.5, key=KEYS[2]))
    expected = mlp.apply(PARAMS, X, keep_prob=0.5, key=KEYS[2])
    np.testing.assert_allclose(f(PARAMS), expected, rtol=1e-12)
    with pytest.raises(ValueError, match=r"mlp.apply: keep_prob must be in \(0, 1\], got 7"):
        jax.jit(lambda x: mlp.apply(PARAMS, x, keep_prob=7.0))(X)


BAD_INIT = [
    ({"sizes": ()}, ValueError, "the number of sizes must be at least 2, got 0"),  # F1
    ({"sizes": (4,)}, ValueError, "the number of sizes must be at least 2, got 1"),
    ({"sizes": 4}, TypeError, r"sizes must be \(inputs, hidden..., outputs\), got 4"),
    ({"sizes": (4, 0, 3)}, ValueError, r"sizes\[1\] must be at least 1, got 0"),  # F2
    ({"sizes": (4, 8, -3)}, ValueError, r"sizes\[2\] must be at least 1, got -3"),
    ({"sizes": (4, 8.0, 3)}, TypeError, r"sizes\[1\] must be a whole number, got 8.0"),
    ({"sizes": (True, 8, 3)}, TypeError, r"sizes\[0\] must be a whole number, got True"),
    ({"activation": "rellu"}, ValueError, "unknown activation 'rellu'.*mean 'relu'"),  # F5
    ({"activation": None}, ValueError, "unknown activation None; choose from identity"),
    ({"pieces": 1}, ValueError, "pieces must be at least 2, got 1"),
    ({"pieces": 2.5}, TypeError, "pieces must be a whole number, got 2.5"),
    ({"pieces": 2}, ValueError, "pieces makes .*='identity', not 'relu', or no pieces"),
    ({"key": 0}, TypeError, "key must be a PRNG key such as .*, got int"),  # H1
    ({"key": None}, TypeError, "key must be a PRNG key such as .*, got NoneType"),
    ({"dtype": jnp.int32}, TypeError, "dtype must be a floating-point type, got int32"),
]


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(("change", "error", "message"), BAD_INIT)
def test_bad_input_of_init(change, error, message):
    with pytest.raises(error, match="mlp.init: " + message):
        mlp.init(**{"key": KEYS[0], "sizes": SIZES} | change)


def test_float64_without_x64_is_refused():
    with jax.enable_x64(False), pytest.raises(ValueError, match="float64 needs jax_enable_x64"):
        mlp.init(KEYS[0], SIZES, dtype="float64")  # B17


LONG_BIAS = (PARAMS[0], PARAMS[1]._replace(bias=jnp.zeros(9)), PARAMS[2])
MIXED = (PARAMS[0], jax.tree.map(lambda a: a.astype(jnp.float32), PARAMS[1]), PARAMS[2])
MAXOUT = mlp.init(KEYS[0], SIZES, activation="identity", pieces=2)
BAD_APPLY = [
    ({"x": X[:, :1]}, ValueError, r"x must have shape \(any, 4\), got \(10, 1\)"),  # F3
    ({"x": X[0, :3]}, ValueError, r"x must have shape \(..., 4\), got \(3,\)"),  # A16
    ({"x": X[None, :, 1:]}, ValueError, r"x must have shape \(..., 4\), got \(1, 10, 3\)"),
    ({"x": X[None, :0]}, ValueError, r"x must not be empty, got shape \(1, 0, 4\)"),
    ({"x": X[None].at[0, 2, 1].set(jnp.inf)}, ValueError, "x must be finite, got inf at .* 2, 1"),
    ({"x": X[:0]}, ValueError, r"x must not be empty, got shape \(0, 4\)"),  # A18
    ({"x": X.at[2, 1].set(jnp.nan)}, ValueError, "x must be finite, got nan at .* 2, 1"),  # A1
    ({"x": jnp.ones((2, 4), int)}, TypeError, "x must hold floating-point numbers, got int64"),
    ({"x": X.astype(jnp.float32)}, TypeError, "x must be float64 like params, got float32"),
    ({"x": None}, TypeError, "x must"),  # A6
    ({"params": ()}, TypeError, "params must be a tuple of layers, got tuple"),
    ({"params": list(PARAMS)}, TypeError, "params must be a tuple of layers, got list"),
    ({"params": PARAMS[0]}, TypeError, "params must be a tuple of layers, got Dense"),
    (
        {"params": (PARAMS[0], 3)},
        TypeError,
        r"params\[1\] must be Dense, Maxout, Residual or Stack, got int",
    ),
    ({"params": PARAMS[::2]}, ValueError, r"weight of params\[1\] must have shape \(any, 16\)"),
    ({"params": LONG_BIAS}, ValueError, r"bias of params\[1\] must have shape \(8,\), got \(9,\)"),
    (
        {"params": MIXED},
        TypeError,
        r"weight of params\[1\] must be float64 like params\[0\], got f",
    ),
    ({"params": MAXOUT}, ValueError, r"params\[0\] is Maxout.*='identity', not 'relu'"),
    ({"activation": "gleu"}, ValueError, "unknown activation 'gleu'.*mean 'gelu'"),
    ({"output_activation": "softmax"}, ValueError, "unknown output_activation 'softmax'"),
    ({"convention": "dropout"}, ValueError, "unknown convention 'dropout'; choose from inverted"),
    ({"keep_prob": 0.0}, ValueError, r"keep_prob must be in \(0, 1\], got 0.0"),  # H13
    ({"keep_prob": float("nan")}, ValueError, r"keep_prob must be in \(0, 1\], got nan"),  # H15
    ({"keep_prob": None}, TypeError, r"keep_prob must be in \(0, 1\], got None"),
]


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(("change", "error", "message"), BAD_APPLY)
@pytest.mark.parametrize("name", ["apply", "forward", "predict"])
def test_bad_input_of_the_forward_pass(name, change, error, message):
    with pytest.raises(error, match=f"mlp.{name}: " + message):
        getattr(mlp, name)(**{"params": PARAMS, "x": X} | change)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("f", [mlp.apply, mlp.forward])
def test_a_key_that_is_no_key(f):
    with pytest.raises(TypeError, match=f"mlp.{f.__name__}: key must be a PRNG key .* got int"):
        f(PARAMS, X, key=7)


@pytest.mark.usefixtures("unchecked_types")
def test_shapes_are_checked_under_jit():
    with pytest.raises(ValueError, match=r"mlp.apply: x must have shape \(any, 4\)"):
        jax.jit(mlp.apply)(PARAMS, X[:, :1])
