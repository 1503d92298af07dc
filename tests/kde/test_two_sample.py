"""The test of two samples: its statistic by loops, its level and its power."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import kde

RNG = np.random.default_rng(0)
N, M, D = 14, 10, 2
X, Y = RNG.normal(size=(N, D)), RNG.normal(size=(M, D)) + 0.5


def test_the_statistic_equals_a_loop():
    """Brute force: leave-one-out densities of every row by NumPy, with Scott's rule for both."""
    both = np.concatenate([X, Y])
    h = both.std(axis=0, ddof=1) * (N + M) ** (-1 / (D + 4))
    square = np.sum((both[:, None] - both[None]) ** 2 / h**2, axis=2)
    kernels = np.exp(-0.5 * square)
    np.fill_diagonal(kernels, 0.0)
    first = np.arange(N + M) < N
    own = np.array([kernels[i, first == first[i]].sum() / ((first == first[i]).sum() - 1)
                    for i in range(N + M)])  # fmt: skip
    expected = np.mean(np.log(own / (kernels.sum(axis=1) / (N + M - 1))))
    found = kde.two_sample(jax.random.key(0), jnp.asarray(X), jnp.asarray(Y), 19)
    np.testing.assert_allclose(found.statistic, expected, rtol=1e-10)
    count = 1 + np.sum(np.asarray(found.permuted) >= float(found.statistic))
    np.testing.assert_allclose(found.p_value, count / 20, rtol=1e-12)


def test_rows_that_only_the_other_sample_reaches():
    """By hand with the flat kernel: two pairs across the samples, one pair in x, one row alone.

    Where its own sample does not reach a row, its density there counts as eps times that in both.
    """
    x = jnp.array([[0.0], [10.0], [20.0], [20.5]])
    y = jnp.array([[0.1], [10.1], [30.0]])
    found = kde.two_sample(jax.random.key(0), x, y, 1, bandwidth=1.0, kernel="tophat")
    eps, rows = np.finfo(float).eps, 6
    across = 4 * np.log(eps) + 2 * np.log(rows / 3) + 2 * np.log(rows / 2)
    within, alone = 2 * np.log(rows / 3), np.log(eps * rows / 2)
    np.testing.assert_allclose(found.statistic, (across + within + alone) / 7, rtol=1e-12)


REPEATS, B = 400, 19


@jax.jit
def p_values(shift):
    def one(key):
        key_x, key_y, key_test = jax.random.split(key, 3)
        x = jax.random.normal(key_x, (N, D))
        y = jax.random.normal(key_y, (M, D)) + shift
        return kde.two_sample(key_test, x, y, B, bandwidth=0.7).p_value

    return jax.vmap(one)(jax.random.split(jax.random.key(1), REPEATS))


def test_p_values_are_uniform_under_the_null():
    """Statistics: uniform on 1/20, ..., 1; mean and each tenth in 5-standard-error bands."""
    p = np.asarray(p_values(0.0))
    sd = np.sqrt((20**2 - 1) / 12) / 20
    assert abs(p.mean() - 10.5 / 20) < 5 * sd / np.sqrt(REPEATS)
    for level in (0.1, 0.5, 0.9):
        band = 5 * np.sqrt(level * (1 - level) / REPEATS)
        assert abs((p <= level + 1e-6).mean() - level) < band


def test_a_shift_is_found():
    """Power: samples two standard deviations apart are told apart nearly always."""
    assert (np.asarray(p_values(2.0)) <= 0.0501).mean() > 0.95


def test_bad_input(unchecked_types):
    key, x = jax.random.key(0), jnp.asarray(X)
    with pytest.raises(ValueError, match="two_sample: y must have at least 2 rows, got 1"):
        kde.two_sample(key, x, x[:1])
    with pytest.raises(ValueError, match="two_sample: y must have shape"):
        kde.two_sample(key, x, x[:, :1])
    with pytest.raises(TypeError, match="two_sample: key must be a PRNG key"):
        kde.two_sample(0, x, x)
    with pytest.raises(ValueError, match="n_permutations must be at least 1"):
        kde.two_sample(key, x, x, 0)
    with pytest.raises(ValueError, match="did you mean 'scott'"):
        kde.two_sample(key, x, x, bandwidth="scot")
