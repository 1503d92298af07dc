"""Characteristic functions of kernels, φ(t) = E exp(i t·u): real, since kernels are symmetric.

The product form has a closed form in any dimension, the product over features.  The radial form
has one in any dimension for the Gaussian, exponential and Student kernels, and for the others in
one dimension only.  Frequencies t are in radians per bandwidth.

With φ the mean of a kernel density over its points factors as well: that is what evaluation on a
grid by Fourier transforms uses.
"""

import functools
import math
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxnn import checks
from jaxnn.kde.kernels import Kernel

Transform = Callable[[Float[Array, "..."]], Float[Array, "..."]]


def characteristic(kernel: Kernel, frequencies: Float[Array, "m d"]) -> Float[Array, " m"]:
    """Returns E exp(i t·u) of a kernel's draw u for each row t of `frequencies`.

    Args:
        kernel: an entry of `KERNELS`, `student_t(nu)` or a product form.
        frequencies: (m, d), radians per bandwidth.

    Raises:
        ValueError: for a radial form without a closed form in d dimensions, or bad shapes.
        TypeError: unless `frequencies` holds floating-point numbers.

    >>> import jax.numpy as jnp
    >>> from jaxnn.kde import KERNELS
    >>> [round(float(v), 3) for v in characteristic(KERNELS["tophat"], jnp.array([[0.0], [1.0]]))]
    [1.0, 0.841]
    """
    where = "kde.characteristic"
    checks.instance(where, "kernel", kernel, Kernel)
    t = checks.data(where, "frequencies", frequencies)
    d = t.shape[1]
    if kernel.form == "product":
        return jnp.prod(_transform(where, kernel, 1)(jnp.abs(t)), axis=1)
    squares = jnp.sum(t * t, axis=1)
    some = squares > 0
    length = jnp.where(some, jnp.sqrt(jnp.where(some, squares, 1.0)), 0.0)
    return _transform(where, kernel, d)(length)


def _transform(where: str, kernel: Kernel, d: int) -> Transform:
    if kernel.name in _LINE and d == 1:
        return _LINE[kernel.name]
    if kernel.name in _SPACE:
        return functools.partial(_SPACE[kernel.name], d=d)
    raise ValueError(
        f"{where}: kernel {kernel.name!r} has no closed form with {d} features; "
        "take its product form"
    )


def _student(t: Float[Array, "..."], d: int, nu: int) -> Float[Array, "..."]:
    """Returns that of Student's t, in any dimension, for ν = 1, 3, 5 (Hurst, 1995)."""
    z = math.sqrt(nu) * t
    polynomial = {1: jnp.ones_like(z), 3: 1 + z, 5: 1 + z + z * z / 3}[nu]
    return polynomial * jnp.exp(-z)


def _beta(t: Float[Array, "..."], p: int) -> Float[Array, "..."]:
    """Returns that of (1 - u²)^p, (2p + 1)!! j_p(t) / t^p with the spherical Bessel function.

    A power series up to t = 4, where the upward recurrence of j_p would cancel.
    """
    near = t < 4
    z = -jnp.square(jnp.where(near, t, 0.0)) / 4
    series = jnp.ones_like(t)
    for k in range(24, 0, -1):
        series = 1 + series * z / (k * (p + k + 0.5))
    far = jnp.where(near, 4.0, t)
    below, value = jnp.cos(far) / far, jnp.sin(far) / far
    for k in range(p):
        below, value = value, (2 * k + 1) * value / far - below
    return jnp.where(near, series, math.prod(range(1, 2 * p + 2, 2)) * value / far**p)


def _over_sinh(t: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns πt / sinh(πt), which neither overflows nor divides by zero."""
    z = math.pi * jnp.where(t > 0, t, 1.0)
    return jnp.where(t > 0, 2 * z * jnp.exp(-z) / -jnp.expm1(-2 * z), 1.0)


def _sech(t: Float[Array, "..."]) -> Float[Array, "..."]:
    z = math.pi / 2 * t
    return 2 * jnp.exp(-z) / (1 + jnp.exp(-2 * z))


def _cosine(t: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns a² cos(t) / (a² - t²), a = π/2, with cos(t) = sin(a - t) to divide at t = a."""
    a = math.pi / 2
    return a * a / (a + t) * jnp.sinc((a - t) / math.pi)


_LINE: dict[str, Transform] = {
    "tophat": functools.partial(_beta, p=0),
    "epanechnikov": functools.partial(_beta, p=1),
    "biweight": functools.partial(_beta, p=2),
    "triweight": functools.partial(_beta, p=3),
    "linear": lambda t: jnp.square(jnp.sinc(t / (2 * math.pi))),
    "cosine": _cosine,
    "logistic": _over_sinh,
    "sigmoid": _sech,
}
_SPACE: dict[str, Callable[..., Float[Array, "..."]]] = {
    "gaussian": lambda t, d: jnp.exp(-0.5 * t * t),
    "exponential": lambda t, d: (1 + t * t) ** (-(d + 1) / 2),
    "student_t": functools.partial(_student, nu=3),
    **{f"student_t({nu})": functools.partial(_student, nu=nu) for nu in (1, 3, 5)},
}
