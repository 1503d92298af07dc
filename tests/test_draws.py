"""Oracles: `jax.random` bit for bit; for orders, counts within 5 standard errors and symmetry.

For `bernoulli`, the blocks of `jax.extend.random.threefry_2x32` read in NumPy, and counts.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32

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
    for dtype in (jnp.float32, jnp.float64):
        ours, theirs = draws.normal(key, (5, 7), dtype), jax.random.normal(key, (5, 7), dtype)
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, theirs, rtol=3e-7)  # erf_inv may be fused otherwise


def test_keys_and_draws_are_those_of_jax_under_vmap():
    keys, numbers = jax.random.split(KEYS["typed"], 3), jnp.arange(3)
    same(jax.vmap(draws.fold_in)(keys, numbers), jax.vmap(jax.random.fold_in)(keys, numbers))
    same(jax.vmap(draws.split)(keys), jax.vmap(jax.random.split)(keys))


P = (0.0, 1e-6, 0.3, 0.8, 1.0)


def coins(key, shape):
    return jax.vmap(lambda p: draws.bernoulli(key, p, shape))(jnp.float32(P))


@pytest.mark.parametrize("kind", KEYS)
def test_bernoulli_compares_both_words_of_each_block_and_them_with_halves_swapped(kind):
    n, key = 35, KEYS[kind]
    drawn = coins(key, (5, 7))
    if kind == "rbg":
        same(drawn, jnp.stack([jax.random.bernoulli(key, jnp.float32(p), (5, 7)) for p in P]))
        return
    blocks = 10  # 4 draws of each, and an even number of them
    data = jax.random.key_data(key) if kind == "typed" else key
    count = np.arange(blocks, dtype=np.uint32)
    words = np.asarray(threefry_2x32(data, jnp.concatenate([0 * count, count])))
    words = words.reshape(2, 2, 5).swapaxes(0, 1).reshape(-1)  # the first five blocks first
    bits = np.concatenate([words, words << 16 | words >> 16])[:n]
    want = [(bits // 2**9 / 2**23 < np.float32(p)).reshape(5, 7) for p in P]
    np.testing.assert_array_equal(drawn, want)


def test_bernoulli_has_its_probability_and_no_two_draws_have_to_do_with_each_other():
    m, n = 20_000, 16
    keys = jax.random.split(KEYS["typed"], m)
    drawn = np.asarray(jax.jit(jax.vmap(lambda key: coins(key, (n,))))(keys)).astype(float)
    mean = drawn.mean(axis=0)
    for p, each in zip(P, mean, strict=True):
        assert np.abs(each - p).max() <= 5 * (p * (1 - p) / m) ** 0.5
    for i in (2, 3):
        rho = np.corrcoef(drawn[:, i].T) - np.eye(n)
        assert np.abs(rho).max() < 5 / m**0.5


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
