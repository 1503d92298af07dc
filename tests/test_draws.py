"""Oracles: `jax.random` bit for bit; for orders, counts within 5 standard errors and symmetry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import draws

KEYS = {
    "typed": jax.random.key(3),
    "old": jax.random.PRNGKey(3),
    "rbg": jax.random.key(3, impl="rbg"),
}


def same(a, b):
    assert a.dtype == b.dtype
    if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
        a, b = jax.random.key_data(a), jax.random.key_data(b)
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", KEYS)
def test_keys_and_draws_are_those_of_jax(kind):
    key = KEYS[kind]
    same(draws.split(key), jax.random.split(key))
    same(draws.split(key, (2, 3)), jax.random.split(key, (2, 3)))
    same(draws.fold_in(key, 7), jax.random.fold_in(key, 7))
    for p in (0.0, 0.3, 1.0):
        p = jnp.float32(p)
        same(draws.bernoulli(key, p, (5, 7)), jax.random.bernoulli(key, p, (5, 7)))
    for dtype in (jnp.float32, jnp.float64):
        ours, theirs = draws.normal(key, (5, 7), dtype), jax.random.normal(key, (5, 7), dtype)
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, theirs, rtol=3e-7)  # erf_inv may be fused otherwise


def test_keys_and_draws_are_those_of_jax_under_vmap():
    keys, numbers = jax.random.split(KEYS["typed"], 3), jnp.arange(3)
    same(jax.vmap(draws.fold_in)(keys, numbers), jax.vmap(jax.random.fold_in)(keys, numbers))
    same(jax.vmap(draws.split)(keys), jax.vmap(jax.random.split)(keys))
    p = jnp.float32([0.2, 0.5, 0.9])
    ours = jax.vmap(lambda key, p: draws.bernoulli(key, p, (4, 5)))(keys, p)
    same(ours, jax.vmap(lambda key, p: jax.random.bernoulli(key, p, (4, 5)))(keys, p))


def orders(keys, n):
    return jax.vmap(lambda key: draws.order(key, n))(keys)


def test_every_order_is_as_likely():
    m, n = 12_000, 4
    drawn = np.asarray(jax.jit(orders, static_argnums=1)(jax.random.split(KEYS["typed"], m), n))
    _, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(counts) == 24
    assert np.abs(counts - m / 24).max() < 5 * (m / 24 * 23 / 24) ** 0.5


@pytest.mark.parametrize("n", [1, 2, 4096, 5000])  # the last one takes two rounds
@pytest.mark.parametrize("kind", KEYS)
def test_an_order_holds_each_number_once(n, kind):
    first = draws.order(KEYS[kind], n)
    np.testing.assert_array_equal(jnp.sort(first), jnp.arange(n))
    if n > 2:
        second = draws.order(draws.fold_in(KEYS[kind], 1), n)
        for other in (jnp.arange(n), second):
            rho = jnp.corrcoef(first.astype(float), other.astype(float))[0, 1]
            assert abs(float(rho)) < 5 / n**0.5


def test_of_tied_numbers_either_is_first():
    m, n = 4_000, 6
    keys = jax.random.split(KEYS["typed"], m)
    drawn = jax.vmap(lambda key: draws._sorted(key, n, 31))(keys)  # one random bit: ties abound
    place = jnp.argsort(drawn, axis=1)
    before = jnp.mean(place[:, :, None] < place[:, None, :], axis=0)
    off = np.abs(np.asarray(before) - 0.5)[~np.eye(n, dtype=bool)]
    assert off.max() < 5 * 0.5 / m**0.5
