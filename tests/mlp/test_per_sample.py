"""Oracle: the Jacobian of the losses of all rows, which holds each row's own gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import mlp
from jaxnn.train import Batch

KEYS = jax.random.split(jax.random.key(10), 5)
N = 7
X = jax.random.normal(KEYS[0], (N, 3))
LABELS = jnp.arange(N) % 2
WEIGHT = jnp.array([1.0, 0.5, 2.0, 0.0, 1.0, 3.0, 0.1])
CLIP = 1.2
KINDS = {
    "dense without bias": {"activation": "tanh", "bias": False},
    "residual stack": {"activation": "tanh", "residual": True, "stacked": True},
    "maxout": {"activation": "identity", "pieces": 3},
}


def moved(params):
    """Biases off zero."""
    return jax.tree.map(lambda a: a + 0.1 * jnp.cos(jnp.arange(a.size)).reshape(a.shape), params)


@pytest.fixture(scope="module", params=KINDS)
def found(request):
    """By hand, and from the Jacobian in its flat form, as lists of layers."""
    options = KINDS[request.param]
    params = moved(mlp.init(KEYS[1], (3, 4, 4, 4, 2), dtype=jnp.float64, **options))
    batch = Batch(X, LABELS, WEIGHT)
    direction = jax.tree.map(jnp.sin, params)
    forward = {"activation": options["activation"], "keep_prob": 0.8, "input_keep_prob": 0.9}

    def losses(params, x):
        outputs = mlp.apply(params, x, key=KEYS[2], **forward)
        return mlp.LOSSES["softmax_cross_entropy"].value(outputs, LABELS)

    @jax.jit
    def run(params, direction):
        rows = mlp.per_sample(**forward)(params, batch, KEYS[2])
        products = mlp.sample_products(**forward)(params, batch, direction, KEYS[2])
        clipped = mlp.clipped_value_and_grad(clip=CLIP, l2=0.2, **forward)
        jacobian, by_row = jax.jacrev(losses, (0, 1))(params, X)
        grad_x = jnp.einsum("nnd->nd", by_row)
        return rows, products, clipped(params, batch, KEYS[2]), losses(params, X), jacobian, grad_x

    return params, direction, run(params, direction)


def by_layer(params, jacobian):
    """The gradient of each row at each layer, flat."""
    blocks = []
    for layer, jac in zip(params, jacobian, strict=True):
        if isinstance(layer, mlp.Stack):
            for i in range(layer.layers.weight.shape[0]):
                blocks.append([leaf[:, i] for leaf in jax.tree.leaves(jac)])
        else:
            blocks.append(jax.tree.leaves(jac))
    return [np.concatenate([np.asarray(a).reshape(N, -1) for a in block], 1) for block in blocks]


def test_norms_values_and_gradients_of_the_rows(found):
    params, _, (rows, _, _, losses, jacobian, grad_x) = found
    norms = np.stack([np.linalg.norm(g, axis=1) for g in by_layer(params, jacobian)], axis=1)
    assert norms.shape == (N, 4)
    np.testing.assert_allclose(rows.norm, norms, rtol=1e-12)
    np.testing.assert_allclose(rows.value, losses, rtol=1e-13)
    np.testing.assert_allclose(rows.grad_x, grad_x, rtol=1e-11, atol=1e-14)


def test_products_with_a_direction(found):
    params, direction, (_, products, _, _, jacobian, _) = found
    v = [np.concatenate([np.asarray(a).ravel() for a in jax.tree.leaves(layer)])
         for layer in mlp.unstack(direction)]  # fmt: skip
    wanted = sum(g @ w for g, w in zip(by_layer(params, jacobian), v, strict=True))
    np.testing.assert_allclose(products, wanted, rtol=1e-11, atol=1e-14)


def test_the_clipped_gradient_is_the_mean_of_clipped_rows(found):
    params, _, (_, _, (value, gradient), losses, jacobian, _) = found
    norm = np.linalg.norm(np.concatenate(by_layer(params, jacobian), axis=1), axis=1)
    assert 0 < np.sum(norm > CLIP) < N  # some are clipped and some are not
    share = np.asarray(WEIGHT) / np.sum(WEIGHT)
    factor = share * np.minimum(1, CLIP / norm)
    squares = 0.0
    triples = zip(*map(jax.tree.leaves_with_path, (params, gradient, jacobian)), strict=True)
    for (path, p), (_, g), (_, rows) in triples:
        weight = path[-1].name == "weight"
        wanted = np.tensordot(factor, rows, 1) + 0.4 * weight * np.asarray(p)
        np.testing.assert_allclose(g, wanted, rtol=1e-11, atol=1e-14)
        squares += weight * float(np.sum(np.square(p)))
    assert float(value) == pytest.approx(float(share @ losses) + 0.2 * squares, rel=1e-12)


def test_a_batch_of_any_leading_shape():
    params = mlp.init(KEYS[1], (3, 4, 2), dtype=jnp.float64)
    box = lambda a: a[:6].reshape(2, 3, *a.shape[1:])
    boxes, flat = Batch(box(X), box(LABELS), None), Batch(X[:6], LABELS[:6], None)
    look = mlp.per_sample()
    jax.tree.map(
        np.testing.assert_array_equal,
        look(params, boxes, None),
        jax.tree.map(box, look(params, flat, None)),
    )
    assert mlp.sample_products()(params, boxes, params, None).shape == (2, 3)


BATCH = Batch(X, LABELS, None)
NET = mlp.init(KEYS[1], (3, 2), dtype=jnp.float64)
BAD = [
    (lambda: mlp.clipped_value_and_grad(clip=0.0), ValueError, "clip must be positive"),
    (lambda: mlp.clipped_value_and_grad(clip=1.0, l2=-1.0), ValueError, "l2 must be non-negative"),
    (lambda: mlp.per_sample("mse"), ValueError, "unknown loss 'mse'"),
    (lambda: mlp.sample_products()(NET, BATCH, NET[0], None), TypeError, "direction must be built"),
    (lambda: mlp.sample_products()(NET, BATCH, jax.tree.map(lambda a: a[:1], NET), None),
     ValueError, r"direction\[0\].weight must have shape \(2, 3\), got \(1, 3\)"),
    (lambda: mlp.sample_products()(NET, BATCH, jax.tree.map(jnp.float32, NET), None),
     TypeError, r"direction\[0\].weight must be float64 like params, got float32"),
    (lambda: mlp.per_sample()(NET, Batch(X, LABELS[1:], None), None), ValueError,
     "y must have shape"),
]  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=r"^mlp\.\w+: " + message):
        call()
