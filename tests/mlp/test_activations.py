"""Oracles: jax.grad, central differences, SciPy's formulas, quadrature for the gains."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxnn.mlp import ACTIVATIONS

NAMES = list(ACTIVATIONS)
GRID = np.linspace(-6.0, 6.0, 240)  # an even number of points: the kink at 0 is not among them

FORMULAS = {
    "identity": lambda a: a,
    "sigmoid": special.expit,
    "tanh": np.tanh,
    "relu": lambda a: np.where(a > 0, a, 0.0),
    "leaky_relu": lambda a: np.where(a > 0, a, 0.01 * a),
    "elu": lambda a: np.where(a > 0, a, np.expm1(np.minimum(a, 0))),
    "softplus": lambda a: np.logaddexp(a, 0.0),
    "gelu": lambda a: a * special.ndtr(a),
    "silu": lambda a: a * special.expit(a),
}


@cache
def program(name):
    """The value, the derivative by hand and that of JAX, in one program for each shape."""
    value, derivative, _ = ACTIVATIONS[name]
    return jax.jit(lambda a: (value(a), derivative(a), jax.vmap(jax.grad(value))(a)))


@pytest.mark.parametrize("name", NAMES)
def test_value_is_the_formula(name):
    value, _, _ = program(name)(GRID)
    np.testing.assert_allclose(value, FORMULAS[name](GRID), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_derivative_is_that_of_jax_and_of_differences(name):
    _, by_hand, by_jax = program(name)(GRID)
    np.testing.assert_allclose(by_hand, by_jax, rtol=1e-12, atol=1e-14)
    step = 1e-5
    up, down = (np.asarray(program(name)(GRID + by)[0]) for by in (step, -step))
    differences = (up - down) / (2 * step)
    np.testing.assert_allclose(by_hand, differences, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_far_beyond_saturation_all_is_finite_and_at_its_limit(name, dtype):
    a = np.array([-1e30, -1e4, -50.0, 50.0, 1e4, 1e30], dtype)
    value, by_hand, by_jax = program(name)(a)
    assert np.all(np.isfinite(value))
    assert np.all(np.isfinite(by_hand))
    np.testing.assert_allclose(by_hand, by_jax, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(value, FORMULAS[name](a), rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64])
def test_the_dtype_is_kept(name, dtype):
    a = jax.ShapeDtypeStruct((3,), dtype)
    assert jax.eval_shape(ACTIVATIONS[name].value, a).dtype == dtype
    assert jax.eval_shape(ACTIVATIONS[name].derivative, a).dtype == dtype


@pytest.mark.parametrize("name", NAMES)
def test_the_gain_keeps_the_second_moment_of_a_standard_normal(name):
    z = np.linspace(-12, 12, 240_001)  # the trapezoidal rule; its error at the kink is O(step³)
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    moment = np.trapezoid(FORMULAS[name](z) ** 2 * density, z)
    assert ACTIVATIONS[name].gain == pytest.approx(moment**-0.5, rel=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_at_zero_the_subgradient_is_that_of_jax(name):
    _, by_hand, by_jax = program(name)(np.zeros(6))
    np.testing.assert_allclose(by_hand, by_jax, rtol=1e-15)


def test_the_subgradients_at_the_kinks_are_the_documented_ones():
    zero = jnp.array(0.0)
    assert float(ACTIVATIONS["relu"].derivative(zero)) == 0.0  # F26: jnp.maximum would say 0.5
    assert float(ACTIVATIONS["leaky_relu"].derivative(zero)) == 1.0
