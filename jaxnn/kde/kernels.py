"""Kernels: the shapes that a kernel density puts on its points.

The radial form of a kernel in d dimensions is K(u) = exp(log_profile(|u|²) - log_norm(d)), a
density over u, where u is a difference in units of the bandwidth.  The product form is
K(u) = Π_j K₁(u_j), with K₁ the same kernel in one dimension.  For the Gaussian they are equal.

A new kernel is one more entry of `KERNELS`; the tests integrate it, sample it, differentiate it
and transform it.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from jaxnn import checks, linalg
from jaxnn.kde import radial
from jaxnn.types import Key

Profile = Callable[..., Float[Array, "..."]]
FORMS = ("radial", "product")


@jax.tree_util.register_static
@dataclass(frozen=True)
class Kernel:
    """A kernel; a static pytree without leaves, so that it travels inside a model.

    Attributes:
        name: its key in `KERNELS`.
        log_profile: (r², d = 1) to the log of the unnormalised radial kernel, elementwise; 0 at
            the centre and -inf from `support` on.  Its gradients are finite everywhere, at the
            centre and outside the support as well.  Only Student's t depends on d.
        log_norm: d to the log of the integral of the kernel over d dimensions.
        variance: d to the variance of one coordinate of a draw, in squared bandwidths.
        radius: (key, d, n, dtype) to n exact draws of |u| of the radial form.
        profile: exp(log_profile), where that needs no `exp`; None where it could underflow.
        support: the radius where the profile ends.
        form: "radial" or "product".
    """

    name: str
    log_profile: Profile
    log_norm: Callable[[int], float]
    variance: Callable[[int], float]
    radius: radial.Radius
    profile: Profile | None = None
    support: float = math.inf
    form: str = "radial"

    @property
    def compact(self) -> bool:
        """Whether the kernel is zero beyond a radius, that is, `log_prob` can be -inf."""
        return math.isfinite(self.support)

    def squares(self, points: Float[Array, "k d"], queries: Float[Array, "m d"]) -> Array:
        """Returns what `exponents_of` takes: |q - x|², (k, m), or its d summands, (d, k, m)."""
        if self.form == "radial":
            return linalg.square_distances(points, queries)
        return jnp.square(points.T[:, :, None] - queries.T[:, None, :])

    def exponents_of(self, squares: Float[Array, "..."], d: int) -> Float[Array, "..."]:
        """Returns the log of the unnormalised kernel, from `squares` in squared bandwidths."""
        if self.form == "radial":
            return self.log_profile(squares, d)
        return jnp.sum(self.log_profile(squares, 1), axis=0)

    def exponents(
        self,
        points: Float[Array, "k d"],
        queries: Float[Array, "m d"],
        inverse_squares: Float[Array, " k"] | None = None,
    ) -> Float[Array, "k m"]:
        """Returns log K(q - x) + log_norm for all pairs, all in units of the bandwidth.

        `inverse_squares`, one for each point, multiplies the squared distances to it.
        """
        return self.exponents_of(self._scaled(points, queries, inverse_squares), points.shape[1])

    def values(
        self,
        points: Float[Array, "k d"],
        queries: Float[Array, "m d"],
        inverse_squares: Float[Array, " k"] | None = None,
    ) -> Float[Array, "k m"]:
        """Returns exp of `exponents` for a kernel with a `profile`, without the exp."""
        assert self.profile is not None
        values = self.profile(self._scaled(points, queries, inverse_squares))
        return values if self.form == "radial" else jnp.prod(values, axis=0)

    def _scaled(
        self,
        points: Float[Array, "k d"],
        queries: Float[Array, "m d"],
        inverse_squares: Float[Array, " k"] | None,
    ) -> Array:
        squares = self.squares(points, queries)
        if inverse_squares is None:
            return squares
        return squares * inverse_squares.reshape((1,) * (squares.ndim - 2) + (-1, 1))

    def draw(self, key: Key, n: int, d: int, dtype: DTypeLike) -> Float[Array, "n d"]:
        """Returns n draws of u: a radius times a direction uniform on the sphere."""
        if self.form == "product":
            return dataclasses.replace(self, form="radial").draw(key, n * d, 1, dtype).reshape(n, d)
        key_radius, key_direction = jax.random.split(key)
        normal = jax.random.normal(key_direction, (n, d), dtype)
        length = jnp.sqrt(jnp.sum(normal * normal, axis=1))
        return normal * (self.radius(key_radius, d, n, dtype) / length)[:, None]


def _compact(
    name: str,
    inside: Profile,
    *,
    log_norm: Callable[[int], float],
    variance: Callable[[int], float],
    radius: radial.Radius,
) -> Kernel:
    """Returns the kernel with the profile `inside` up to radius 1, and zero from there on."""

    def profile(r2: Float[Array, "..."], d: int = 1) -> Float[Array, "..."]:
        return jnp.where(r2 >= 1, 0.0, inside(jnp.minimum(r2, 1.0)))

    def log_profile(r2: Float[Array, "..."], d: int = 1) -> Float[Array, "..."]:
        # `where` twice: in reverse mode the branch not taken still meets its input, and NaN times
        # zero is NaN.
        outside = r2 >= 1
        return jnp.where(outside, -jnp.inf, jnp.log(inside(jnp.where(outside, 0.0, r2))))

    return Kernel(
        name=name,
        log_profile=log_profile,
        log_norm=log_norm,
        variance=variance,
        radius=radius,
        profile=profile,
        support=1.0,
    )


def _beta(name: str, p: int) -> Kernel:
    """Returns the kernel (1 - r²)^p, whose r² has a beta distribution."""

    def log_norm(d: int) -> float:
        gammas = math.lgamma(d / 2 + 1) + math.lgamma(p + 1) - math.lgamma(d / 2 + p + 1)
        return radial.log_volume(d) + gammas

    return _compact(
        name,
        lambda r2: (1 - r2) ** p,
        log_norm=log_norm,
        variance=lambda d: 1 / (d + 2 * p + 2),
        radius=radial.beta_radius(p),
    )


def _log_logistic(r2: Float[Array, "..."], d: int = 1) -> Float[Array, "..."]:
    r = radial.root(r2)  # log of 4 / (2 cosh(r/2))²
    return 2 * math.log(2) - r - 2 * jnp.log1p(jnp.exp(-r))


def _log_sigmoid(r2: Float[Array, "..."], d: int = 1) -> Float[Array, "..."]:
    r = radial.root(r2)  # log of 1 / cosh(r)
    return math.log(2) - r - jnp.log1p(jnp.exp(-2 * r))


@functools.cache
def student_t(nu: int) -> Kernel:
    """Returns the kernel of Student's t with `nu` degrees of freedom, (1 + r²/ν)^(-(ν+d)/2).

    In d dimensions it is the multivariate t of Kotz and Nadarajah (2004, eq. 1.1).  Its variance
    ν / (ν - 2) is infinite for ν up to 2; ν = 1 is Cauchy's.  The same ν gives the same object.

    Raises:
        TypeError: unless `nu` is a whole number; ValueError for `nu` below 1.

    >>> student_t(5).variance(2), student_t(1).variance(2)
    (1.6666666666666667, inf)
    """
    nu = checks.count("kde.student_t", "nu", nu)
    return Kernel(
        name=f"student_t({nu})",
        log_profile=lambda r2, d=1: -0.5 * (nu + d) * jnp.log1p(r2 / nu),
        log_norm=lambda d: (
            math.lgamma(nu / 2) - math.lgamma((nu + d) / 2) + d / 2 * math.log(nu * math.pi)
        ),
        variance=lambda d: nu / (nu - 2) if nu > 2 else math.inf,
        radius=radial.student_radius(nu),
    )


_TABLE = (
    Kernel(
        name="gaussian",
        log_profile=lambda r2, d=1: -0.5 * r2,
        log_norm=lambda d: d / 2 * math.log(2 * math.pi),
        variance=lambda d: 1.0,
        radius=radial.normal_radius,
    ),
    _beta("tophat", 0),
    _beta("epanechnikov", 1),
    _beta("biweight", 2),
    _beta("triweight", 3),
    _compact(  # 1 - r, also called triangular
        "linear",
        lambda r2: 1 - radial.root(r2),
        log_norm=lambda d: radial.log_volume(d) - math.log(d + 1),
        variance=lambda d: (d + 1) / ((d + 2) * (d + 3)),
        radius=radial.linear_radius,
    ),
    _compact(  # cos(πr/2)
        "cosine",
        lambda r2: (1 - r2) * radial.cosine_ratio(r2),
        log_norm=lambda d: radial.log_area(d) + math.log(radial.cosine_moment(d)),
        variance=lambda d: radial.cosine_moment(d + 2) / (d * radial.cosine_moment(d)),
        radius=radial.thinned(radial.beta_radius(1), lambda r: radial.cosine_ratio(r * r)),
    ),
    Kernel(  # exp(-r), also called Laplace's
        name="exponential",
        log_profile=lambda r2, d=1: -radial.root(r2),
        log_norm=lambda d: radial.log_area(d) + math.lgamma(d),
        variance=lambda d: d + 1.0,
        radius=radial.gamma_radius,
    ),
    Kernel(  # 4 / (exp(r/2) + exp(-r/2))²
        name="logistic",
        log_profile=_log_logistic,
        log_norm=lambda d: radial.log_area(d) + radial.log_logistic_moment(d),
        variance=lambda d: (
            math.exp(radial.log_logistic_moment(d + 2) - radial.log_logistic_moment(d)) / d
        ),
        radius=radial.thinned(radial.gamma_radius, lambda r: (1 + jnp.exp(-r)) ** -2),
    ),
    Kernel(  # 2 / (exp(r) + exp(-r))
        name="sigmoid",
        log_profile=_log_sigmoid,
        log_norm=lambda d: radial.log_area(d) + radial.log_sigmoid_moment(d),
        variance=lambda d: (
            math.exp(radial.log_sigmoid_moment(d + 2) - radial.log_sigmoid_moment(d)) / d
        ),
        radius=radial.thinned(radial.gamma_radius, lambda r: 1 / (1 + jnp.exp(-2 * r))),
    ),
    dataclasses.replace(student_t(3), name="student_t"),
)

KERNELS: dict[str, Kernel] = {kernel.name: kernel for kernel in _TABLE}


@functools.cache
def product(kernel: Kernel) -> Kernel:
    """Returns the product form of a kernel in radial form; the Gaussian has but one form."""
    if kernel.name == "gaussian":
        return kernel
    return dataclasses.replace(
        kernel,
        form="product",
        log_norm=lambda d: d * kernel.log_norm(1),
        variance=lambda d: kernel.variance(1),
    )


def in_form(where: str, kernel: Any, form: str) -> Kernel:
    """Returns a kernel of `KERNELS`, or one given as such, in a form; raises for a wrong name."""
    if not isinstance(kernel, Kernel):
        checks.in_table(where, "kernel", kernel, KERNELS)
        kernel = KERNELS[kernel]
    checks.in_table(where, "form", form, FORMS)
    if form == "product" and kernel.form == "radial":
        return product(kernel)
    return kernel
