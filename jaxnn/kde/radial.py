"""The parts of radial kernels: profiles, normalisers over d dimensions, and exact draws of |u|.

V_d is the volume of the unit ball in d dimensions, and the area of its surface is d V_d; so the
integral of a radial profile is d V_d times its moment ∫ r^(d-1) profile(r) dr.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, DTypeLike, Float, Int

from jaxnn.types import Key

Radius = Callable[[Key, int, int, DTypeLike], Float[Array, " n"]]
Proposals = tuple[Int[Array, ""], Float[Array, " n"], Bool[Array, " n"]]  # step, radius, done


def log_volume(d: int) -> float:
    """Returns log V_d."""
    return d / 2 * math.log(math.pi) - math.lgamma(d / 2 + 1)


def log_area(d: int) -> float:
    """Returns log(d V_d)."""
    return log_volume(d) + math.log(d)


def root(r2: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns the square root, with a gradient of zero at 0: the mean of its two sides."""
    positive = r2 > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, r2, 1.0)), 0.0)


def alternating_sum(term: Callable[[int], float], n: int = 30) -> float:
    """Returns Σ (-1)^k term(k) over k >= 0, summed as Abel does where it does not converge.

    By Algorithm 1 of Cohen, Rodriguez Villegas and Zagier (2000): for moments of a positive measure
    the relative error of n terms is below 5.8^-n.
    """
    scale = (3 + math.sqrt(8)) ** n
    scale = (scale + 1 / scale) / 2
    b, c, total = -1.0, -scale, 0.0
    for k in range(n):
        c = b - c
        total += c * term(k)
        b *= (k + n) * (k - n) / ((k + 0.5) * (k + 1))
    return total / scale


def log_logistic_moment(s: int) -> float:
    """Returns log ∫ r^(s-1) 4 / (2 cosh(r/2))² dr = log(4 Γ(s) η(s-1)), η Dirichlet's."""
    eta = alternating_sum(lambda k: (k + 1.0) ** (1 - s))
    return math.log(4 * eta) + math.lgamma(s)


def log_sigmoid_moment(s: int) -> float:
    """Returns log ∫ r^(s-1) / cosh(r) dr = log(2 Γ(s) β(s)), β Dirichlet's."""
    beta = alternating_sum(lambda k: (2 * k + 1.0) ** (-s))
    return math.log(2 * beta) + math.lgamma(s)


# cos(πr/2) = (1 - r²) g(r²), and the power series g has as coefficients the partial sums of that
# of the cosine, which add up to cos(π/2) = 0: so each is minus the sum of the terms to come.
# That keeps full relative precision at the edge, needs no root, and is much faster than `cos`.
_COSINE = [(-1) ** k * (math.pi / 2) ** (2 * k) / math.factorial(2 * k) for k in range(25)]
_COSINE_RATIO = [-math.fsum(_COSINE[k + 1 :]) for k in range(11)]


def cosine_ratio(r2: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns cos(πr/2) / (1 - r²), which falls from 1 to π/4 on [0, 1]."""
    value = jnp.full_like(r2, _COSINE_RATIO[-1])
    for coefficient in reversed(_COSINE_RATIO[:-1]):
        value = value * r2 + coefficient
    return value


def cosine_moment(s: int) -> float:
    """Returns the integral of r^(s-1) cos(πr/2) over [0, 1], term by term."""
    return math.fsum(c / (2 * k + s) for k, c in enumerate(_COSINE))


def normal_radius(key: Key, d: int, n: int, dtype: DTypeLike) -> Float[Array, " n"]:
    """Draws |u| of a standard normal u."""
    normal = jax.random.normal(key, (n, d), dtype)
    return jnp.sqrt(jnp.sum(normal * normal, axis=1))


def gamma_radius(key: Key, d: int, n: int, dtype: DTypeLike) -> Float[Array, " n"]:
    """Draws |u| of the density proportional to exp(-|u|)."""
    return jax.random.gamma(key, d, (n,), dtype)


def student_radius(nu: int) -> Radius:
    """Returns draws of |u| for Student's t: a normal radius over the root of a mean square."""

    def radius(key: Key, d: int, n: int, dtype: DTypeLike) -> Float[Array, " n"]:
        above, below = jax.random.split(key)
        return normal_radius(above, d, n, dtype) * nu**0.5 / normal_radius(below, nu, n, dtype)

    return radius


def uniform_root(key: Key, power: int, n: int, dtype: DTypeLike) -> Float[Array, " n"]:
    """Draws U^(1/power), the largest of `power` uniform numbers."""
    return jax.random.uniform(key, (n,), dtype) ** (1 / power)


def beta_radius(p: int) -> Radius:
    """Returns draws of |u| for the density proportional to (1 - |u|²)^p.

    There r² ~ Beta(d/2, p + 1), which is a product of Beta(d/2 + j, 1), j = 0, ..., p.
    """

    def radius(key: Key, d: int, n: int, dtype: DTypeLike) -> Float[Array, " n"]:
        keys = jax.random.split(key, p + 1)
        draws = jnp.ones(n, dtype)
        for j in range(p + 1):
            draws = draws * uniform_root(keys[j], d + 2 * j, n, dtype)
        return draws

    return radius


def linear_radius(key: Key, d: int, n: int, dtype: DTypeLike) -> Float[Array, " n"]:
    """Draws |u| for the density proportional to 1 - |u|: a Beta(d, 2), a product as above."""
    first, second = jax.random.split(key)
    return uniform_root(first, d, n, dtype) * uniform_root(second, d + 1, n, dtype)


def thinned(proposal: Radius, chance: Callable[[Float[Array, " n"]], Float[Array, " n"]]) -> Radius:
    """Returns draws by rejection: a radius of `proposal` is taken with probability `chance`."""

    def radius(key: Key, d: int, n: int, dtype: DTypeLike) -> Float[Array, " n"]:
        def unfinished(state: Proposals) -> Bool[Array, ""]:
            return jnp.any(~state[2])

        def propose(state: Proposals) -> Proposals:
            step, radius, done = state
            key_radius, key_accept = jax.random.split(jax.random.fold_in(key, step))
            drawn = proposal(key_radius, d, n, dtype)
            accept = jax.random.uniform(key_accept, (n,), dtype) < chance(drawn)
            return step + 1, jnp.where(done, radius, drawn), done | accept

        start = (jnp.array(0), jnp.zeros(n, dtype), jnp.zeros(n, bool))
        return lax.while_loop(unfinished, propose, start)[1]

    return radius
