"""Oracles: jax.grad of `mean_loss`, differences, and the lecture's Kronecker product."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import mlp


class Batch(NamedTuple):
    x: jax.Array
    y: jax.Array
    weight: jax.Array | None


KEYS = jax.random.split(jax.random.key(4), 6)
N, D, O = 9, 5, 4
X = jax.random.normal(KEYS[0], (N, D))
LABELS = jax.random.randint(KEYS[1], (N,), 0, O)
UNIT = jax.random.uniform(KEYS[2], (N, O))
WEIGHT = jnp.array([1.0, 0.5, 2.0, 0.0, 1.0, 3.0, 0.1, 0.0, 1.0])
TARGETS = dict.fromkeys(mlp.LOSSES, UNIT) | {
    "softmax_cross_entropy": LABELS,
    "hinge": LABELS,
    "gaussian": UNIT[:, : O // 2],
}


def network(sizes=(D, 7, 6, O), dtype=jnp.float64, **options):
    params = mlp.init(KEYS[3], sizes, dtype=dtype, **options)
    # Biases off zero, so that each has a part in the gradient.
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(KEYS[4], len(leaves))
    moved = [
        a + 0.1 * jax.random.normal(k, a.shape, a.dtype) / a.shape[-1] ** 0.5
        for a, k in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(tree, moved)


def relative_error(got, want):
    """Returns the largest |got - want| / |want| over leaves, in Euclidean norm."""
    assert jax.tree.structure(got) == jax.tree.structure(want)
    got, want = (map(np.asarray, jax.tree.leaves(tree)) for tree in (got, want))
    norm = lambda a: np.sqrt(np.sum(np.square(a)))
    return max(float(norm(a - b) / norm(b)) for a, b in zip(got, want, strict=True))


def both_ways(params, batch, key=None, *, loss, **options):
    """Value and gradient by hand and by JAX, in one program."""
    by_hand = mlp.value_and_grad(loss, **options)
    by_jax = jax.value_and_grad(partial(mlp.mean_loss, loss=loss, **options))
    return jax.jit(lambda *args: (by_hand(*args), by_jax(*args)))(params, batch, key)


@pytest.mark.parametrize(
    ("activation", "loss"),
    [*((name, "squared") for name in mlp.ACTIVATIONS),
     *(("gelu", loss) for loss in mlp.LOSSES if loss != "squared")],
)  # fmt: skip
def test_every_activation_and_loss(activation, loss):
    batch = Batch(X, TARGETS[loss], WEIGHT)
    options = {"activation": activation, "output_activation": "identity"}
    if loss == "squared":
        options["output_activation"] = activation
    by_hand, by_jax = both_ways(network(), batch, loss=loss, **options)
    assert relative_error(by_hand, by_jax) < 1e-12


@pytest.mark.parametrize(
    ("depth", "bias"), [(1, True), (1, False), (2, False), (5, True), (5, False), (50, True)]
)
def test_every_depth(depth, bias):
    params = network((D,) + (8,) * (depth - 1) + (O,), activation="tanh", bias=bias)
    batch = Batch(X, LABELS, None)
    by_hand, by_jax = both_ways(params, batch, loss="softmax_cross_entropy", activation="tanh")
    assert relative_error(by_hand, by_jax) < 1e-12


@pytest.mark.parametrize("convention", mlp.CONVENTIONS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", ["elu", "residual", "maxout"])
def test_dropout_in_both_conventions_and_l2(convention, training, kind):
    activation = {"elu": "elu", "residual": "tanh", "maxout": "identity"}[kind]
    options = {"residual": kind == "residual", "pieces": 3 if kind == "maxout" else None}
    params = network((D, 9, 9, 9, O), activation=activation, **options)
    by_hand, by_jax = both_ways(
        mlp.stack(params) if kind == "residual" else params,
        Batch(X, LABELS, WEIGHT),
        KEYS[5] if training else None,
        loss="softmax_cross_entropy",
        activation=activation,
        keep_prob=0.6,
        input_keep_prob=jnp.array(0.8),
        convention=convention,
        l2=0.3,
    )
    assert relative_error(by_hand, by_jax) < 1e-12


def test_l2_is_the_sum_of_squares_of_weights_and_leaves_biases_alone():
    params, batch = mlp.stack(network((D, 6, 6, 6, O))), Batch(X, LABELS, None)
    plain = mlp.value_and_grad()(params, batch, None)
    value, gradient = mlp.value_and_grad(l2=jnp.array(0.7))(params, batch, None)
    pairs = zip(*map(jax.tree.leaves_with_path, (params, plain[1], gradient)), strict=True)
    squares = 0.0
    for (path, p), (_, without), (_, found) in pairs:
        is_weight = path[-1].name == "weight"
        squares += is_weight * float(np.sum(np.square(p)))
        np.testing.assert_allclose(found - without, 1.4 * is_weight * p, rtol=1e-11, atol=1e-14)
    assert float(value - plain[0]) == pytest.approx(0.7 * squares, rel=1e-12)


def test_l2_of_weights_that_are_zero_has_a_gradient():
    params = mlp.init(KEYS[3], (D, O), start="zeros", dtype=jnp.float64)  # F27
    _, gradient = mlp.value_and_grad("squared", l2=0.1)(params, Batch(X, 0 * UNIT, None), None)
    np.testing.assert_array_equal(gradient[0].weight, jnp.zeros((O, D)))


def test_a_batch_of_any_leading_shape_is_its_rows():
    descend = mlp.value_and_grad(activation="tanh", keep_prob=0.7, input_keep_prob=0.9)
    params = network()
    box = lambda a: a.reshape(3, 3, *a.shape[1:])
    flat = descend(params, Batch(X, LABELS, WEIGHT), KEYS[5])
    assert (
        relative_error(descend(params, Batch(*map(box, (X, LABELS, WEIGHT))), KEYS[5]), flat) == 0
    )
    of_three = descend(params, Batch(X, LABELS, jnp.repeat(WEIGHT[:3], 3)), KEYS[5])
    boxes = Batch(box(X), box(LABELS), WEIGHT[:3])  # one weight for the three rows of a box
    assert relative_error(descend(params, boxes, KEYS[5]), of_three) == 0
    one = descend(params, Batch(X[0], LABELS[0], None), KEYS[5])  # F19
    assert relative_error(one, descend(params, Batch(X[:1], LABELS[:1], None), KEYS[5])) == 0
    outputs, tape = mlp.forward(params, box(X))
    gradients, grad_x = mlp.backward(params, tape, box(UNIT))
    assert outputs.shape == (3, 3, O)
    assert relative_error((gradients, grad_x.reshape(N, D)), mlp.backward(params, tape, UNIT)) == 0


def test_a_loss_of_ones_own():
    own = mlp.LOSSES["squared"]._replace(
        value=lambda h, y: jnp.sum(jnp.logaddexp(h - y, y - h), axis=1),
        gradient=lambda h, y: jnp.tanh(h - y),
    )
    by_hand, by_jax = both_ways(network(), Batch(X, UNIT, WEIGHT), loss=own, activation="silu")
    assert relative_error(by_hand, by_jax) < 1e-12


@pytest.mark.parametrize("bias", [True, False])
def test_maxout_without_dropout(bias):
    params = network(activation="identity", pieces=2, bias=bias)
    batch = Batch(X, UNIT, None)
    by_hand, by_jax = both_ways(params, batch, loss="squared", activation="identity")
    assert relative_error(by_hand, by_jax) < 1e-12


@pytest.mark.parametrize("activation", mlp.ACTIVATIONS)
def test_the_gradient_of_the_rows(activation):
    params, options = network(), {"activation": activation, "output_activation": activation}
    noise = {"keep_prob": 0.8, "key": KEYS[5]}

    @jax.jit
    def both(params, x):
        outputs, tape = mlp.forward(params, x, **options, **noise)
        _, vjp = jax.vjp(lambda p, x: mlp.apply(p, x, **options, **noise), params, x)
        return outputs, mlp.backward(params, tape, UNIT, **options), vjp(UNIT)

    outputs, by_hand, by_jax = both(params, X)
    assert outputs.shape == UNIT.shape
    assert relative_error(by_hand, by_jax) < 1e-12


def test_float32_agrees_to_its_precision_and_stays_float32():
    params = network(dtype=jnp.float32)
    batch = Batch(X.astype(jnp.float32), LABELS, WEIGHT)  # weights in float64 do not widen it
    by_hand, by_jax = both_ways(
        params, batch, KEYS[5], loss="softmax_cross_entropy", keep_prob=jnp.array(0.5)
    )
    assert relative_error(by_hand, by_jax) < 1e-5
    assert {leaf.dtype for leaf in jax.tree.leaves(by_hand)} == {jnp.dtype(jnp.float32)}


def test_differences_along_a_direction():
    params, batch = network(), Batch(X, LABELS, WEIGHT)
    value_and_grad = jax.jit(mlp.value_and_grad(activation="gelu", keep_prob=0.7))
    direction = jax.tree.map(lambda a: jnp.cos(jnp.arange(a.size)).reshape(a.shape), params)

    def value(t):
        moved = jax.tree.map(lambda a, d: a + t * d, params, direction)
        return value_and_grad(moved, batch, KEYS[5])[0]

    gradient = value_and_grad(params, batch, KEYS[5])[1]
    products = jax.tree.map(lambda g, d: jnp.sum(g * d), gradient, direction)
    slope = sum(jax.tree.leaves(products))
    assert float(slope) == pytest.approx(float(value(1e-5) - value(-1e-5)) / 2e-5, rel=1e-7)


def test_the_kronecker_form_of_the_lecture_is_the_outer_product():
    """∂l/∂W = (I ⊗ hᵀ)ᵀ (σ′ ⊙ ∂l/∂h), with W stacked row by row, for one sample."""
    params = network((D, O))
    x = X[:1]
    h, tape = mlp.forward(params, x, output_activation="tanh")
    slope = mlp.LOSSES["squared"].gradient(h, UNIT[:1])[0]
    delta = (1 - jnp.tanh(params[0].weight @ x[0] + params[0].bias) ** 2) * slope
    kron = jnp.kron(jnp.eye(O), x[0][None, :])  # (O, O D): the derivative of W h in W
    by_kron = (kron.T @ delta).reshape(O, D)
    outer = delta[:, None] * x[0][None, :]
    np.testing.assert_allclose(by_kron, outer, rtol=1e-14)
    gradients, grad_x = mlp.backward(params, tape, slope[None, :], output_activation="tanh")
    np.testing.assert_allclose(gradients[0].weight, by_kron, rtol=1e-12)
    np.testing.assert_allclose(gradients[0].bias, delta, rtol=1e-12)
    np.testing.assert_allclose(grad_x[0], params[0].weight.T @ delta, rtol=1e-12)


def test_whole_weights_repeat_rows_and_zeros_remove_them():
    params, descend = network(), jax.jit(mlp.value_and_grad("squared", activation="silu"))
    counts = jnp.array([2, 0, 1, 0, 0, 3, 1, 0, 1])
    rows = jnp.repeat(jnp.arange(N), counts)
    weighted = descend(params, Batch(X, UNIT, counts.astype(float)), None)
    repeated = descend(params, Batch(X[rows], UNIT[rows], None), None)
    assert relative_error(weighted, repeated) < 1e-12


def test_a_batch_of_padding_alone_has_no_gradient():
    descend = jax.jit(mlp.value_and_grad("squared"))
    value, gradient = descend(network(), Batch(X, UNIT, jnp.zeros(N)), None)
    assert float(value) == 0
    assert all(not bool(leaf.any()) for leaf in jax.tree.leaves(gradient))


def test_jit_is_eager_and_vmap_over_a_sweep_is_a_loop():
    keep, keys = jnp.array([0.4, 0.7, 1.0]), jax.random.split(KEYS[5], 3)
    nets = jax.vmap(lambda key: mlp.init(key, (D, 7, O), dtype=jnp.float64))(keys)
    batch = Batch(X, LABELS, WEIGHT)
    traces = []

    def fit_one(params, keep_prob, key):
        traces.append(None)
        return mlp.value_and_grad(keep_prob=keep_prob)(params, batch, key)

    swept = jax.jit(jax.vmap(fit_one))(nets, keep, keys)
    jitted = jax.jit(fit_one)
    traces.clear()
    for i in range(3):
        params = jax.tree.map(lambda a, i=i: a[i], nets)
        member = jax.tree.map(lambda a, i=i: a[i], swept)
        assert relative_error(member, jitted(params, keep[i], keys[i])) < 1e-12
    assert len(traces) == 1  # another keep_prob does not recompile
    assert relative_error(fit_one(params, keep[2], keys[2]), member) < 1e-12


@pytest.mark.parametrize("activation", ["tanh", "gelu", "softplus", "stacked silu"])
def test_second_derivatives_go_through_the_backward_pass(activation):
    params, batch = network((D, 6, O)), Batch(X, LABELS, WEIGHT)
    *stacked, activation = activation.split()
    if stacked:
        params = mlp.stack(network((D, 6, 6, 6, O), residual=True))
    direction = jax.tree.map(jnp.ones_like, params)
    by_hand = mlp.value_and_grad(activation=activation)
    by_jax = jax.value_and_grad(partial(mlp.mean_loss, activation=activation))

    def second(descend):
        def gradient(p):
            return descend(p, batch, None)[1]

        def norm(p):
            return sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient(p)))

        forward = lambda p: jax.jvp(gradient, (p,), (direction,))[1]
        return lambda p: (forward(p), jax.grad(norm)(p))

    both = jax.jit(lambda p: (second(by_hand)(p), second(by_jax)(p)))
    assert relative_error(*both(params)) < 1e-11


def test_the_hessian_of_the_gradient_by_hand_is_that_of_the_loss():
    params, batch = network((2, 3, O)), Batch(X[:, :2], LABELS, WEIGHT)
    options = {"activation": "tanh", "l2": 0.1}
    by_hand = jax.jacfwd(lambda p: mlp.value_and_grad(**options)(p, batch, None)[1])
    by_jax = jax.hessian(lambda p: mlp.mean_loss(p, batch, None, **options))
    assert relative_error(*jax.jit(lambda p: (by_hand(p), by_jax(p)))(params)) < 1e-11


def test_descending_learns_xor():
    x = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    batch = Batch(x, jnp.array([0, 1, 1, 0]), None)
    descend = mlp.value_and_grad(activation="tanh")

    def step(params, _):
        value, gradient = descend(params, batch, None)
        return jax.tree.map(lambda a, g: a - 0.5 * g, params, gradient), value

    params, values = jax.lax.scan(step, network((2, 8, 2), activation="tanh"), length=500)
    assert mlp.predict(params, x, activation="tanh").tolist() == [0, 1, 1, 0]
    assert float(values[-1]) < 0.1


PARAMS = network()
TAPE = mlp.forward(PARAMS, X)[1]
BAD_BACKWARD = [
    ({"grad_outputs": UNIT[:, :1]}, ValueError, r"grad_outputs must have shape \(9, 4\)"),
    ({"grad_outputs": LABELS}, TypeError, "grad_outputs must hold floating-point numbers"),
    ({"params": PARAMS[:2]}, ValueError, "tape must have an entry for each of 2 layers, got 3"),
    ({"params": PARAMS[::2]}, ValueError, r"weight of params\[1\] must have shape \(any, 7\)"),
    ({"activation": "swish"}, ValueError, "unknown activation 'swish'"),
    ({"output_activation": "tan"}, ValueError, "unknown output_activation 'tan'.*mean 'tanh'"),
]


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(("change", "error", "message"), BAD_BACKWARD)
def test_bad_input_of_backward(change, error, message):
    given = {"params": PARAMS, "tape": TAPE, "grad_outputs": UNIT} | change
    with pytest.raises(error, match="mlp.backward: " + message):
        mlp.backward(**given)


BAD_OPTIONS = [
    ({"loss": "mse"}, ValueError, "unknown loss 'mse'.*choose from squared"),
    ({"activation": "rellu"}, ValueError, "unknown activation 'rellu'"),
    ({"output_activation": "softmax"}, ValueError, "unknown output_activation 'softmax'"),
    ({"keep_prob": 1.1}, ValueError, r"keep_prob must be in \(0, 1\], got 1.1"),
    ({"keep_prob": -0.1}, ValueError, r"keep_prob must be in \(0, 1\], got -0.1"),
    ({"input_keep_prob": 0.0}, ValueError, r"input_keep_prob must be in \(0, 1\], got 0.0"),
    ({"l2": -1.0}, ValueError, "l2 must be non-negative and finite, got -1.0"),
    ({"convention": 1}, ValueError, "unknown convention 1; choose from inverted, classic"),
]
BAD_BATCH = [
    ({"y": LABELS.at[3].set(-1)}, ValueError, r"y must lie in \[0, 4\), got values from -1"),  # F7
    ({"y": LABELS.at[3].set(4)}, ValueError, r"y must lie in \[0, 4\), got values .* to 4"),  # F8
    ({"y": 1.0 * LABELS}, TypeError, "y must hold whole numbers, got float64"),  # F9
    ({"y": LABELS[1:]}, ValueError, r"y must have shape \(9,\), got \(8,\)"),  # F13
    ({"x": X[:, :1]}, ValueError, r"x must have shape \(any, 5\), got \(9, 1\)"),
    ({"x": X.at[0, 0].set(jnp.inf)}, ValueError, "x must be finite, got inf at .* 0, 0"),
    ({"weight": WEIGHT[1:]}, ValueError, r"weight must have shape \(9,\), got \(8,\)"),
    ({"weight": -WEIGHT}, ValueError, "weight must not be negative, got -3"),
    ({"weight": 0 * WEIGHT}, ValueError, "weight must not be zero everywhere"),
    ({"x": X[None]}, ValueError, r"y must have the leading axes \(1, 9\) of x, got shape \(9,\)"),
    ({"x": X[None], "y": LABELS[None]}, ValueError, r"weight must have shape \(1,\), got \(9,\)"),
    ({"x": X[None], "y": LABELS[None].at[0, 3].set(7)}, ValueError, r"y must lie in \[0, 4\)"),
]


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(("change", "error", "message"), BAD_OPTIONS)
def test_bad_options(change, error, message):
    with pytest.raises(error, match="mlp.value_and_grad: " + message):
        mlp.value_and_grad(**change)
    with pytest.raises(error, match="mlp.mean_loss: " + message):
        mlp.mean_loss(PARAMS, Batch(X, LABELS, WEIGHT), None, **change)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(("change", "error", "message"), BAD_BATCH)
def test_bad_batches(change, error, message):
    batch = Batch(X, LABELS, WEIGHT)._replace(**change)
    with pytest.raises(error, match="mlp.value_and_grad: " + message):
        mlp.value_and_grad()(PARAMS, batch, None)
    with pytest.raises(error, match="mlp.mean_loss: " + message):
        mlp.mean_loss(PARAMS, batch, None)


@pytest.mark.usefixtures("unchecked_types")
def test_an_activation_without_a_derivative_goes_forward_only(monkeypatch):
    absent = mlp.Activation(jnp.sin, None, 1.0)  # F6
    monkeypatch.setitem(mlp.ACTIVATIONS, "sine", absent)
    batch, message = Batch(X, UNIT, None), "activation 'sine' must have a derivative"
    value = mlp.mean_loss(PARAMS, batch, None, loss="squared", activation="sine")
    assert bool(jnp.isfinite(value))
    for make in (mlp.value_and_grad, mlp.per_sample, mlp.sample_products):
        with pytest.raises(TypeError, match=f"mlp.{make.__name__}: {message}"):
            make("squared", activation="sine")
    with pytest.raises(TypeError, match="mlp.backward: " + message):
        mlp.backward(PARAMS, TAPE, UNIT, activation="sine")


@pytest.mark.usefixtures("unchecked_types")
def test_a_key_that_is_no_key():
    with pytest.raises(TypeError, match=r"mlp\.value_and_grad: key must be a PRNG key"):
        mlp.value_and_grad()(PARAMS, Batch(X, LABELS, WEIGHT), 0)
