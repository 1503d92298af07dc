"""Powers of two against NumPy in long double."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.kde.exp2 import exp2


@pytest.mark.parametrize(("dtype", "error"), [("float32", 3e-7), ("float64", 1e-15)])
def test_equals_numpy(dtype, error):
    top = -np.finfo(dtype).minexp
    t = np.linspace(-top, top, 20001).astype(dtype)
    t = np.concatenate([t, np.arange(-top, top + 1), np.arange(-top, top) + 0.5]).astype(dtype)
    got = np.asarray(jax.jit(exp2)(jnp.asarray(t)))
    assert got.dtype == dtype
    np.testing.assert_allclose(got / np.exp2(t.astype(np.longdouble)), 1, atol=error)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_below_the_range_it_is_the_smallest_number_and_nan_stays(dtype):
    tiny = np.finfo(dtype).tiny
    got = exp2(jnp.asarray([-jnp.inf, -1e30, np.finfo(dtype).minexp - 0.5, jnp.nan], dtype))
    np.testing.assert_allclose(got[:3], tiny, rtol=1e-6)
    assert jnp.isnan(got[3])


def test_derivatives_are_those_of_the_power():
    t = jnp.asarray([-3.2, 0.0, 0.5, 7.9])
    second = jax.vmap(jax.grad(jax.grad(exp2)))(t)
    np.testing.assert_allclose(second, np.log(2) ** 2 * 2.0**t, rtol=1e-14)
