"""Radial kernels: the shapes that a kernel density puts on its points.

A kernel in d dimensions is K(u) = exp(log_profile(|u|²) - log_norm(d)), a density over u, where u
is a difference in units of the bandwidth.  The formulas are scikit-learn's.  V_d is the volume of
the unit ball in d dimensions, and the area of its surface is d V_d.

A new kernel is one more entry of `KERNELS`; the tests integrate it, sample it and differentiate it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, DTypeLike, Float, Int

from jaxnn.types import Key

Profile = Callable[[Float[Array, "..."]], Float[Array, "..."]]
Radius = Callable[[Key, int, int, DTypeLike], Float[Array, " n"]]
Proposals = tuple[Int[Array, ""], Float[Array, " n"], Bool[Array, " n"]]  # step, radius, done


@jax.tree_util.register_static
@dataclass(frozen=True)
class Kernel:
    """A radial kernel; a static pytree without leaves, so that it travels inside a model.

    Attributes:
        name: its key in `KERNELS`.
        log_profile: squared radii to the log of the unnormalised kernel, elementwise; 0 at the
            centre and -inf from `support` on.  Its gradients are finite everywhere, at the centre
            and outside the support as well.
        log_norm: d to the log of the integral of the profile over d dimensions.
        variance: d to the variance of one coordinate of a draw, in squared bandwidths.
        radius: (key, d, n, dtype) to n exact draws of |u| in d dimensions.
        profile: exp(log_profile), where that needs no `exp`; None where it could underflow.
        support: the radius where the profile ends.
    """

    name: str
    log_profile: Profile
    log_norm: Callable[[int], float]
    variance: Callable[[int], float]
    radius: Radius
    profile: Profile | None = None
    support: float = math.inf

    @property
    def compact(self) -> bool:
        """Whether the kernel is zero beyond a radius, that is, `log_prob` can be -inf."""
        return math.isfinite(self.support)

    def draw(self, key: Key, n: int, d: int, dtype: DTypeLike) -> Float[Array, "n d"]:
        """Returns n draws of u: a radius times a direction uniform on the sphere."""
        key_radius, key_direction = jax.random.split(key)
        normal = jax.random.normal(key_direction, (n, d), dtype)
        length = jnp.sqrt(jnp.sum(normal * normal, axis=1))
        return normal * (self.radius(key_radius, d, n, dtype) / length)[:, None]


def _log_volume(d: int) -> float:
    return d / 2 * math.log(math.pi) - math.lgamma(d / 2 + 1)


def _compact(
    name: str,
    inside: Profile,
    *,
    log_norm: Callable[[int], float],
    variance: Callable[[int], float],
    radius: Radius,
) -> Kernel:
    """Returns the kernel with the profile `inside` up to radius 1, and zero from there on."""

    def profile(r2: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.where(r2 >= 1, 0.0, inside(r2))

    def log_profile(r2: Float[Array, "..."]) -> Float[Array, "..."]:
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


def _root(r2: Float[Array, "..."]) -> Float[Array, "..."]:
    # The gradient of the root is infinite at 0; a zero there is the mean of its two sides.
    positive = r2 > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, r2, 1.0)), 0.0)


# cos(πr/2) = (1 - r²) g(r²), and the power series g has as coefficients the partial sums of that
# of the cosine, which add up to cos(π/2) = 0: so each is minus the sum of the terms to come.
# That keeps full relative precision at the edge, needs no root, and is much faster than `cos`.
_COSINE = [(-1) ** k * (math.pi / 2) ** (2 * k) / math.factorial(2 * k) for k in range(25)]
_COSINE_RATIO = [-math.fsum(_COSINE[k + 1 :]) for k in range(11)]


def _cosine_ratio(r2: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns cos(πr/2) / (1 - r²), which falls from 1 to π/4 on [0, 1]."""
    value = jnp.full_like(r2, _COSINE_RATIO[-1])
    for coefficient in reversed(_COSINE_RATIO[:-1]):
        value = value * r2 + coefficient
    return value


def _cosine_moment(s: int) -> float:
    """Returns the integral of r^(s-1) cos(πr/2) over [0, 1], term by term."""
    return math.fsum(c / (2 * k + s) for k, c in enumerate(_COSINE))


def _uniform_root(key: Key, power: int, n: int, dtype: DTypeLike) -> Float[Array, " n"]:
    """Returns U^(1/power), the largest of `power` uniform numbers."""
    return jax.random.uniform(key, (n,), dtype) ** (1 / power)


def _gaussian_radius(key: Key, d: int, n: int, dtype: DTypeLike) -> Float[Array, " n"]:
    normal = jax.random.normal(key, (n, d), dtype)
    return jnp.sqrt(jnp.sum(normal * normal, axis=1))


def _tophat_radius(key: Key, d: int, n: int, dtype: DTypeLike) -> Float[Array, " n"]:
    return _uniform_root(key, d, n, dtype)


def _epanechnikov_radius(key: Key, d: int, n: int, dtype: DTypeLike) -> Float[Array, " n"]:
    # r² ~ Beta(d/2, 2); a Beta(a, 2) is the product of a Beta(a, 1) and a Beta(a + 1, 1).
    first, second = jax.random.split(key)
    return _uniform_root(first, d, n, dtype) * _uniform_root(second, d + 2, n, dtype)


def _exponential_radius(key: Key, d: int, n: int, dtype: DTypeLike) -> Float[Array, " n"]:
    return jax.random.gamma(key, d, (n,), dtype)


def _linear_radius(key: Key, d: int, n: int, dtype: DTypeLike) -> Float[Array, " n"]:
    # r ~ Beta(d, 2), as above.
    first, second = jax.random.split(key)
    return _uniform_root(first, d, n, dtype) * _uniform_root(second, d + 1, n, dtype)


def _cosine_radius(key: Key, d: int, n: int, dtype: DTypeLike) -> Float[Array, " n"]:
    """Draws by rejection from the Epanechnikov kernel; at least π/4 of the proposals are taken."""

    def unfinished(state: Proposals) -> Bool[Array, ""]:
        return jnp.any(~state[2])

    def propose(state: Proposals) -> Proposals:
        step, radius, done = state
        key_radius, key_accept = jax.random.split(jax.random.fold_in(key, step))
        proposal = _epanechnikov_radius(key_radius, d, n, dtype)
        level = jax.random.uniform(key_accept, (n,), dtype)
        accept = level < _cosine_ratio(proposal * proposal)
        return step + 1, jnp.where(done, radius, proposal), done | accept

    start = (jnp.array(0), jnp.zeros(n, dtype), jnp.zeros(n, bool))
    return lax.while_loop(unfinished, propose, start)[1]


_TABLE = (
    Kernel(
        name="gaussian",
        log_profile=lambda r2: -0.5 * r2,
        log_norm=lambda d: d / 2 * math.log(2 * math.pi),
        variance=lambda d: 1.0,
        radius=_gaussian_radius,
    ),
    _compact(
        "tophat",
        jnp.ones_like,
        log_norm=_log_volume,
        variance=lambda d: 1 / (d + 2),
        radius=_tophat_radius,
    ),
    _compact(  # 1 - r²
        "epanechnikov",
        lambda r2: 1 - r2,
        log_norm=lambda d: _log_volume(d) + math.log(2 / (d + 2)),
        variance=lambda d: 1 / (d + 4),
        radius=_epanechnikov_radius,
    ),
    Kernel(  # exp(-r)
        name="exponential",
        log_profile=lambda r2: -_root(r2),
        log_norm=lambda d: _log_volume(d) + math.lgamma(d + 1),
        variance=lambda d: d + 1.0,
        radius=_exponential_radius,
    ),
    _compact(  # 1 - r
        "linear",
        lambda r2: 1 - _root(r2),
        log_norm=lambda d: _log_volume(d) - math.log(d + 1),
        variance=lambda d: (d + 1) / ((d + 2) * (d + 3)),
        radius=_linear_radius,
    ),
    _compact(  # cos(πr/2)
        "cosine",
        lambda r2: (1 - r2) * _cosine_ratio(r2),
        log_norm=lambda d: _log_volume(d) + math.log(d * _cosine_moment(d)),
        variance=lambda d: _cosine_moment(d + 2) / (d * _cosine_moment(d)),
        radius=_cosine_radius,
    ),
)

KERNELS: dict[str, Kernel] = {kernel.name: kernel for kernel in _TABLE}
