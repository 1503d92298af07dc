"""The E-step, of rows with gaps or without.

Shapes: n samples, d features, k components.
"""

import jax
from jaxtyping import Array, Float

from jaxnn import memory
from jaxnn.gmm.missing import Observed, by_pattern, observe
from jaxnn.gmm.model import GMM, door
from jaxnn.gmm.moments import Moments, moments, row_weights
from jaxnn.types import Data, Weights


def expect(mixture: GMM, x: Float[Array, "n d"] | Observed, weight: Float[Array, " n"]) -> Moments:
    """Returns the E-step's moments; `log_lik` is the exact one of what was observed."""
    if not isinstance(x, Observed):
        return moments(mixture, x, weight)
    if x.groups is None:
        return moments(mixture, x.x, weight, missing=True)
    return by_pattern(mixture, x.x, x.groups, weight)


_expect = jax.jit(expect)


@memory.budgeted
def e_step(
    mixture: GMM,
    x: Data,
    sample_weight: Weights | None = None,
    *,
    missing: bool = False,
    memory_budget: memory.Budget = None,
) -> Moments:
    """Returns the additive moments of `x` under `mixture` (Bishop, 2006, eq. 9.23).

    Moments of parts of the data, under the same mixture, add up to the moments of the whole.

    Args:
        mixture: whose responsibilities count, and in whose coordinates moments are.
        x: rows of shape (n, d), float32 or float64.
        sample_weight: shape (n,); an integer weight is a repetition, zero an absence.
        missing: NaN stands for what is missing at random: expectations are over that too, given
            what was observed, and `log_lik` is that of the observed (Little and Rubin, 2002,
            section 11.2).  Rows of NaN alone take no part, and a column of NaN alone is no error
            here: other parts of the data may know it.  Static.
        memory_budget: bytes on top of the arguments, or "auto"; see `jaxnn.memory`.

    Raises:
        TypeError, ValueError: bad rows or weights; gaps in a family that knows none.
    """
    where = "gmm.e_step"
    x = door(where, mixture, x, missing)
    weight = row_weights(where, x, sample_weight)
    if not missing:
        return _expect(mixture, x, weight)
    return _expect(mixture, *observe(x, weight, mixture.cov, mixture.means.shape[0]))
