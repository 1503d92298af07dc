"""Any model under any loss: the same numbers as the gradient by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import mlp, train

rng = np.random.default_rng(0)
X = jnp.asarray(rng.normal(size=(6, 3)))
W = jnp.asarray(rng.uniform(0.5, 2, 6)).at[4].set(0)
NET = mlp.init(jax.random.key(0), (3, 4, 2), activation="tanh", dtype=jnp.float64)
Y = {"softmax_cross_entropy": jnp.array([0, 1, 0, 1, 1, 0]), "squared": X[:, :2]}


def outputs(params, x, key):
    return mlp.apply(params, x, activation="tanh", keep_prob=0.7, key=key)


@pytest.mark.parametrize("loss", Y)
@pytest.mark.parametrize("key", [None, jax.random.key(1)], ids=["evaluation", "training"])
def test_the_same_as_by_hand(loss, key):
    batch = train.Batch(X, Y[loss], W)
    by_hand = mlp.value_and_grad(loss, activation="tanh", keep_prob=0.7)(NET, batch, key)
    found = mlp.autodiff(outputs, loss)(NET, batch, key)
    assert jax.tree.structure(found) == jax.tree.structure(by_hand)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(by_hand), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-15)


def test_class_weights_count():
    """Oracle: the weights of the rows themselves."""
    batch = train.Batch(X, Y["softmax_cross_entropy"])
    classes = jnp.array([1.0, 3.0])
    entropy = mlp.loss("softmax_cross_entropy", class_weight=classes)
    found = mlp.autodiff(outputs, entropy)(NET, batch, None)[0]
    weighed = batch._replace(weight=classes[batch.y])
    expected = mlp.value_and_grad(activation="tanh", keep_prob=0.7)(NET, weighed, None)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"mlp.autodiff: unknown loss 'square'"):
        mlp.autodiff(outputs, "square")
    with pytest.raises(ValueError, match=r"mlp.autodiff: y must have shape \(6, 2\)"):
        mlp.autodiff(outputs, "squared")(NET, train.Batch(X, X), None)
