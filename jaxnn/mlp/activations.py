"""Activation functions, each with its derivative written by hand.

An activation is one entry of `ACTIVATIONS`: two elementwise functions of the pre-activation
a = W h + b and a number for the initialisation.  A new one is a new entry; the tests and the
back-propagation reach it through the table.

Values and derivatives keep the dtype of a and stay finite far beyond saturation (|a| = 1e4).  At
a kink the derivative is one choice of subgradient, the one `jax.nn` makes: 0 for `relu` at 0
(Bertoin et al., 2021), 1 for `leaky_relu` at 0.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

LEAK = 0.01  # slope of the leaky ReLU below zero


class Activation(NamedTuple):
    """One activation function σ.

    Attributes:
        value: σ(a), elementwise.
        derivative: σ′(a), elementwise, as a function of the pre-activation a.
        gain: E[σ(z)²]^(-1/2) for a standard normal z.  Weights of standard deviation
            gain / sqrt(fan_in) keep the second moment of the pre-activations at one from layer
            to layer (He et al., 2015, equation 10, where σ is the ReLU and the gain is √2).
    """

    value: Callable[[Array], Array]
    derivative: Callable[[Array], Array]
    gain: float


def _sigmoid_derivative(a: Array) -> Array:
    s = jax.nn.sigmoid(a)
    return s * (1 - s)


def _tanh_derivative(a: Array) -> Array:
    t = jnp.tanh(a)
    return (1 - t) * (1 + t)


def _relu_derivative(a: Array) -> Array:
    return (a > 0).astype(a.dtype)


def _leaky_relu_derivative(a: Array) -> Array:
    return jnp.where(a >= 0, 1.0, LEAK).astype(a.dtype)


def _elu_derivative(a: Array) -> Array:
    below = jnp.where(a > 0, 0.0, a)  # exp must not overflow in the branch that is not taken
    return jnp.where(a > 0, 1.0, jnp.exp(below))


def _normal_cdf(a: Array) -> Array:
    return 0.5 * jax.lax.erfc(a * -(0.5**0.5))


def _gelu(a: Array) -> Array:
    return a * _normal_cdf(a)


def _gelu_derivative(a: Array) -> Array:
    density = jnp.exp(-0.5 * jnp.square(a)) * (2 * jnp.pi) ** -0.5
    return _normal_cdf(a) + a * density  # the same cdf as in the value: XLA computes it once


def _silu_derivative(a: Array) -> Array:
    s = jax.nn.sigmoid(a)
    return s * (1 + a * (1 - s))


ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(lambda a: a, jnp.ones_like, 1.0),
    "sigmoid": Activation(jax.nn.sigmoid, _sigmoid_derivative, 1.8462285453386054),
    "tanh": Activation(jnp.tanh, _tanh_derivative, 1.59253741972283),
    "relu": Activation(jax.nn.relu, _relu_derivative, 2.0**0.5),
    "leaky_relu": Activation(jax.nn.leaky_relu, _leaky_relu_derivative, (2 / (1 + LEAK**2)) ** 0.5),
    "elu": Activation(jax.nn.elu, _elu_derivative, 1.2451983007007004),
    "softplus": Activation(jax.nn.softplus, jax.nn.sigmoid, 1.0418668355353018),
    "gelu": Activation(_gelu, _gelu_derivative, 1.533530441195535),
    "silu": Activation(jax.nn.silu, _silu_derivative, 1.676532470331091),
}
"""Name -> `Activation`.

With s the logistic function and Φ, φ the standard normal distribution and density:

| name | σ(a) | σ′(a) |
|---|---|---|
| identity | a | 1 |
| sigmoid | s(a) | s(a) (1 - s(a)) |
| tanh | tanh a | 1 - tanh² a |
| relu | max(a, 0) | 1 above 0, else 0 |
| leaky_relu | a above 0, else 0.01 a | 1 from 0 on, else 0.01 |
| elu | a above 0, else exp(a) - 1 | 1 above 0, else exp(a) |
| softplus | log(1 + exp(a)) | s(a) |
| gelu | a Φ(a), exact (the error function, not the tanh approximation) | Φ(a) + a φ(a) |
| silu | a s(a) | s(a) (1 + a (1 - s(a))) |
"""
