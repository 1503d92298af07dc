"""No silent wrong sums: the guard's flag, and the computations that were wrong without it."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn import backend, gmm, mlp


def test_flag_is_set_where_it_is_needed_and_only_there():
    for release, flags, wanted in (
        ("0.10.2", "", f"{backend.FLAG}=-reduce"),
        ("0.10.2", "--other=1", f"--other=1 {backend.FLAG}=-reduce"),
        ("0.10.2", f"{backend.FLAG}=", f"{backend.FLAG}="),
        ("0.10.1", "--other=1", "--other=1"),
    ):
        environment = {"XLA_FLAGS": flags}
        backend.guard(environment, release)
        assert environment["XLA_FLAGS"] == wanted


def test_large_tiles_add_up():
    """Oracle: the same rows in small parts.  Wrong by 14 nats in jaxlib 0.10.2 unguarded."""
    x = np.random.default_rng(0).normal(size=(40_000, 3)).astype(np.float32)
    for family in ("full", "tied"):
        mixture = gmm.init(jax.random.key(0), x[:500], 4, family=family)
        parts = [gmm.log_prob(mixture, x[i : i + 1000]) for i in range(0, len(x), 1000)]
        np.testing.assert_allclose(gmm.log_prob(mixture, x), np.concatenate(parts), atol=1e-4)


def test_losses_of_many_networks_add_up():
    """Oracle: one network at a time.  Wrong from the 45th on in jaxlib 0.10.2 unguarded."""
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(96, 719, 10)), jnp.float32)
    labels = jnp.asarray(rng.integers(0, 10, 719))
    loss = jax.jit(lambda h: mlp.LOSSES["softmax_cross_entropy"].value(h, labels).mean())
    together = jax.jit(jax.vmap(loss))(logits)
    np.testing.assert_allclose(together, jnp.stack([loss(h) for h in logits]), rtol=1e-5)


def test_the_upstream_example_adds_up():
    """Oracle: NumPy, on the example of jax-ml/jax#39103."""
    for dtype, n in ((jnp.float64, 16_385), (jnp.float32, 32_769)):
        i = jnp.arange(n, dtype=dtype)
        x = jnp.stack((i, jnp.zeros_like(i), jnp.zeros_like(i)), axis=1)
        matrix = jnp.eye(3, dtype=dtype)
        squares = jax.jit(jax.vmap(lambda row, m=matrix: jnp.sum((m @ row) ** 2)))(x)
        np.testing.assert_allclose(squares, np.square(np.arange(n, dtype=float)), rtol=1e-6)
