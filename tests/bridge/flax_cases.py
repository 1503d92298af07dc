"""What the tests of both bridges to flax share: a network, rows, and what must be equal."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import mlp, train

rng = np.random.default_rng(0)
X = jnp.asarray(rng.normal(size=(6, 3)))
Y = jnp.array([0, 1, 0, 1, 1, 0])
BATCH = train.Batch(X, Y, jnp.asarray(rng.uniform(0.5, 2, 6)))
NET = mlp.init(jax.random.key(0), (3, *[4] * 11, 2), activation="tanh", dtype=jnp.float64)
BY_HAND = mlp.value_and_grad(activation="tanh")
OUTPUTS = mlp.apply(NET, X, activation="tanh")
VALUE, GRADIENT = BY_HAND(NET, BATCH, None)


def same(a, b, rtol=1e-12):
    """Asserts the same structure and, to rounding, numbers."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for p, q in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert p.dtype == q.dtype
        np.testing.assert_allclose(p, q, rtol=rtol, atol=1e-14)
