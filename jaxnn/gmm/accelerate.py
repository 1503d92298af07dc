"""Longer steps for slow EM: squared extrapolation, SQUAREM (Varadhan and Roland, 2008).

From three iterates a, b = EM(a), c = EM(b) with r = b − a and v = c − b − r, the jump goes to
a + 2αr + α²v with α = |r| / |v| (their scheme S3): α = 1 is c. It is taken among `coordinates`,
where every point is a mixture, and differences are in units of the data, so that a change of units
changes nothing. Whoever jumps must look whether the likelihood agrees.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxnn.gmm.coordinates import Free, coordinates_of
from jaxnn.gmm.model import GMM

Unit = Float[Array, " d"]  # the standard deviation of each column


def _free(mixture: GMM, unit: Unit) -> tuple[Array, Array, Free]:
    on = mixture.log_weights > -jnp.inf
    return (
        jnp.where(on, mixture.log_weights, 0.0),
        mixture.means / unit[None],
        coordinates_of("gmm.fit accelerate", mixture.cov).free(mixture.cov, unit),
    )


FIRST_BOUND = 4.0


def bound(
    jumped: Bool[Array, ""],
    accepted: Bool[Array, ""],
    length: Float[Array, ""],
    longest: Float[Array, ""],
) -> Float[Array, ""]:
    """Returns the next bound on the length of a jump.

    Four times longer where the bound was in the way of a good jump, four times shorter after a bad
    one, but never below 2.
    """
    bolder = jnp.where(length >= longest, 4 * longest, longest)
    return jnp.where(jumped, jnp.where(accepted, bolder, jnp.maximum(longest / 4, 2)), longest)


def extrapolate(
    a: GMM, b: GMM, c: GMM, unit: Unit, longest: Float[Array, ""]
) -> tuple[GMM, Float[Array, ""]]:
    """Returns the jump from three successive iterates of EM, and its length α.

    α is at least 1, which is no jump but `c`, and at most `longest`. A component that is off in
    `c` stays off.
    """
    free_a, free_b, free_c = (_free(mixture, unit) for mixture in (a, b, c))
    r = jax.tree.map(jnp.subtract, free_b, free_a)
    v = jax.tree.map(lambda z, y, r: (z - y) - r, free_c, free_b, r)
    norm = lambda tree: jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)))
    bend = norm(v)
    length = jnp.where(bend > 0, norm(r) / jnp.where(bend > 0, bend, 1.0), 1.0)
    length = jnp.clip(length, 1.0, longest)
    log_weights, means, cov = jax.tree.map(
        lambda x, r, v: x + 2 * length * r + jnp.square(length) * v, free_a, r, v
    )
    on = c.log_weights > -jnp.inf
    log_weights = jax.nn.log_softmax(jnp.where(on, log_weights, -jnp.inf))
    cov = coordinates_of("gmm.fit accelerate", c.cov).bound(cov, unit)
    return GMM(log_weights=log_weights, means=means * unit[None], cov=cov), length
