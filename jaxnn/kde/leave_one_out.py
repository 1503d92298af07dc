"""Leave-one-out sums: each point under the kernels of all the others, for many bandwidths.

Shapes: n points, d features, B bandwidths.  The memory is O(n (d + B)) and one tile.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxnn.kde.kernels import Kernel
from jaxnn.kde.logsum import log_kernel_sum


def leave_one_out_sum(
    points: Float[Array, "n d"],
    log_weights: Float[Array, " n"],
    kernel: Kernel,
    scales: Float[Array, " B"],
) -> Float[Array, "B n"]:
    """Returns log Σ_{j≠i} exp(log_weights_j + log_profile(|x_i - x_j|² / s²)) for all s and i.

    The term of a point on itself is masked, not subtracted: nothing is lost where it dominates.
    """
    own = jnp.arange(points.shape[0])

    def one(scale: Float[Array, ""]) -> Float[Array, " n"]:
        scaled = points / scale
        return log_kernel_sum(kernel, scaled, scaled, log_weights, own=own)

    return lax.map(one, scales)
