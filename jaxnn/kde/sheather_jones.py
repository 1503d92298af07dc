"""Plug-in bandwidths in one dimension, from estimates of the curvature of the density.

The best bandwidth of a Gaussian kernel for n points from the density f is, for large n,
(1 / (2 √π n ψ₄))^(1/5), where ψ_r = ∫ f^(r) f is estimated by the mean over all pairs of points of
the r-th derivative of a Gaussian of another bandwidth (Sheather and Jones, 1991; Wand and Jones,
1995, sections 3.5 and 3.6).  Constants and results are those of R's `bw.SJ`.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxnn.kde.spread import Spread, middle_half, spread
from jaxnn.types import Data, Weights

BINS = 2000
WIDTH = 1.01 / BINS  # of a bin, in units of the range


def sheather_jones(x: Data, sample_weight: Weights | None = None) -> Float[Array, " d"]:
    """Returns the bandwidths that solve Sheather's and Jones's equation, feature by feature.

    The distances of pairs are taken from 2,000 bins over the range: time and memory are
    O(n + bins) per feature.  With more than one feature each rule serves its own marginal density,
    which is less than a joint density of that many features wants (use `likelihood` for it).
    A constant to differentiation.

    Args:
        x: data, (n, d), with n at least 2.
        sample_weight: weights of the rows, (n,), not negative; importances, as in `scott`.

    Returns:
        Bandwidths (d,) in the units and the dtype of `x`.

    Raises:
        ValueError: for a feature that does not vary, or bad shapes or values.
        TypeError: unless `x` and `sample_weight` hold floating-point numbers.

    >>> import jax.numpy as jnp
    >>> x = jnp.concatenate([jnp.linspace(0, 1, 50), jnp.linspace(10, 11, 50)])[:, None]
    >>> bool(sheather_jones(x)[0] < 0.3)
    True
    """
    return _each(lax.stop_gradient(spread("kde.sheather_jones", x, sample_weight)), _solve)


def plug_in(x: Data, sample_weight: Weights | None = None) -> Float[Array, " d"]:
    """Returns the direct plug-in bandwidths of Sheather and Jones, feature by feature.

    R's `bw.SJ(method = "dpi")`.  Arguments, exceptions and the rest are those of `sheather_jones`.

    >>> import jax.numpy as jnp
    >>> x = jnp.concatenate([jnp.linspace(0, 1, 50), jnp.linspace(10, 11, 50)])[:, None]
    >>> bool(plug_in(x)[0] < 1)
    True
    """
    return _each(lax.stop_gradient(spread("kde.plug_in", x, sample_weight)), _direct)


@functools.partial(jax.jit, static_argnames="rule")
def _each(found: Spread, rule: Callable[["_Pairs"], Float[Array, ""]]) -> Float[Array, " d"]:
    """Returns the rule for every feature, in data units."""

    def one(z: Float[Array, " n"], sigma: Float[Array, ""]) -> Float[Array, ""]:
        iqr = middle_half(z, found.weights) / 1.349
        scale = jnp.where(iqr > 0, jnp.minimum(sigma, iqr), sigma)
        return rule(_Pairs(_pairs(z, found.weights), scale, found.size))

    return found.span * jax.vmap(one, in_axes=(1, 0))(found.z, found.sigma)


class _Pairs(NamedTuple):
    """Pairs of points by their distance in bins, in units where the range of the data is one."""

    shares: Float[Array, " bins"]
    scale: Float[Array, ""]
    size: Float[Array, ""]

    def functional(self, order: int, h: Float[Array, ""]) -> Float[Array, ""]:
        """Returns the estimate of ψ_order, 4 or 6, by a Gaussian of bandwidth h."""
        square = jnp.square(jnp.arange(BINS, dtype=h.dtype) * (WIDTH / h))
        hermite = {  # of the order, at the root of `square`
            4: (square - 6) * square + 3,
            6: ((square - 15) * square + 45) * square - 15,
        }[order]
        total = jnp.sum(self.shares * hermite * jnp.exp(-0.5 * square))
        others = jnp.where(self.size > 1, 1 - 1 / self.size, 1.0)
        return total / (math.sqrt(2 * math.pi) * h ** (order + 1) * others)

    def sixth(self) -> Float[Array, ""]:
        """Returns -ψ₆; that of a normal distribution, where the points are too few to tell."""
        estimate = -self.functional(6, 1.23 * self.scale * self.size ** (-1 / 9))
        normal = 15 / (16 * math.sqrt(math.pi) * self.scale**7)
        return jnp.where(estimate > 0, estimate, normal)


def _pairs(z: Float[Array, " n"], weights: Float[Array, " n"]) -> Float[Array, " bins"]:
    """Returns the share of all pairs of rows, each with itself included, at k bins."""
    place = (z - jnp.min(z)) / WIDTH
    left = jnp.floor(place).astype(jnp.int32)
    right = place - left  # each row is shared by two bins: the error is a tenth of R's
    counts = jnp.zeros(BINS, z.dtype).at[left].add(weights * (1 - right))
    counts = counts.at[left + 1].add(weights * right)
    ahead = jnp.concatenate([counts, jnp.zeros_like(counts)])
    at = lambda k: jnp.sum(counts * lax.dynamic_slice_in_dim(ahead, k, BINS))
    shares = lax.map(at, jnp.arange(BINS), batch_size=100)
    return shares * jnp.where(jnp.arange(BINS) > 0, 2, 1)


def _direct(pairs: _Pairs) -> Float[Array, ""]:
    pilot = (2.394 / (pairs.size * pairs.sixth())) ** (1 / 7)
    fourth = pairs.functional(4, pilot)
    normal = 3 / (8 * math.sqrt(math.pi) * pairs.scale**5)
    fourth = jnp.where(fourth > 0, fourth, normal)
    return (2 * math.sqrt(math.pi) * pairs.size * fourth) ** -0.2


def _solve(pairs: _Pairs) -> Float[Array, ""]:
    """Bisects h = (2 √π n ψ₄(α h^(5/7)))^(-1/5), which always has a solution.

    For tiny h the estimate of ψ₄ is that of points far apart and the right side is larger, for
    huge h that of one point and the right side is smaller.
    """
    fourth = pairs.functional(4, 1.24 * pairs.scale * pairs.size ** (-1 / 7))
    normal = 3 / (8 * math.sqrt(math.pi) * pairs.scale**5)
    ratio = jnp.where(fourth > 0, fourth, normal) / pairs.sixth()
    alpha = 1.357 * ratio ** (1 / 7)
    largest = 1.144 * pairs.scale * pairs.size**-0.2

    def too_small(h: Float[Array, ""]) -> Bool[Array, ""]:
        curvature = pairs.functional(4, alpha * h ** (5 / 7))
        return 2 * math.sqrt(math.pi) * pairs.size * curvature * h**5 < 1

    # Between a tenth of the bandwidth that smooths most and that one, as R; wider if need be.
    low = jnp.where(too_small(0.1 * largest), 0.1, 1e-3) * largest
    high = jnp.where(too_small(largest), 100.0, 1.0) * largest

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        middle = jnp.sqrt(ends[0] * ends[1])
        below = too_small(middle)
        return jnp.where(below, middle, ends[0]), jnp.where(below, ends[1], middle)

    low, high = lax.fori_loop(0, 50, halve, (low, high))
    return jnp.sqrt(low * high)
