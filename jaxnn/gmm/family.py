"""What a covariance family must offer to the rest of the mixtures.

A family is two things: the entry of the table that starts it (`Family`), and the arrays with the
methods that EM, densities and samples are made of (`Covariances`).  Where the kind of a family is
in the shapes of its arrays, one class can be both.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Bool, Float, Int, PyTree

Whitener = Callable[[Float[Array, "c d"]], Float[Array, "k d c"]]
Means = Float[Array, "k d"]


class Whitened(NamedTuple):
    """The E-step's sums as the M-step wants them, in whitened coordinates.

    `second` Σ r yyᵀ as far as the family needs it; `counts` Σ r (1 where not alive); `shift` δ of
    the means; `alive` marks the components that have rows to learn from.
    """

    second: PyTree
    counts: Float[Array, " k"]
    shift: Float[Array, "k d"]
    alive: Bool[Array, " k"]


@runtime_checkable
class Family(Protocol):
    """What `init` starts a mixture with; hashable, since a family is a static choice."""

    def from_variances(self, variances: Float[Array, " d"], k: int, /) -> "Covariances":
        """Returns k components that all have these variances of the columns."""
        ...


@runtime_checkable
class NamedFamily(Family, Protocol):
    """An entry of `COVARIANCES`: can also be made from given covariances."""

    def shape(self, k: int, d: int, /) -> tuple[int, ...]:
        """Returns the shape of the covariances that `from_covariances` takes."""
        ...

    def valid(self, covariances: Array, /) -> Bool[Array, ""]:
        """Returns whether these are covariances of the family: symmetric, positive definite."""
        ...

    def from_covariances(self, covariances: Array, /) -> "Covariances":
        """Returns the family with these covariances (data units squared)."""
        ...


@runtime_checkable
class Covariances(Protocol):
    """The arrays of k covariances and what can be done with them."""

    def covariances(self, means: Means) -> Float[Array, "k d d"]:
        """Returns all covariance matrices, data units squared."""
        ...

    def whitener(self, means: Means) -> Whitener:
        """Returns the map of rows x to S_k⁻¹(x − m_k), rows last."""
        ...

    def log_det(self, means: Means) -> Float[Array, " k"]:
        """Returns log det S_k, half the log-determinant of the covariance (nats)."""
        ...

    def colour(self, component: Int[Array, " n"], y: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """Returns S y, from whitened coordinates of the given components to data units."""
        ...

    def second(self, y: Float[Array, "k d c"], resp: Float[Array, "k c"]) -> PyTree:
        """Returns the additive second moment Σ r yyᵀ, as far as the family needs it."""
        ...

    def update(self, sums: Whitened, ridge: Float[Array, " d"]) -> "Covariances":
        """Returns the M-step's family; components that are not alive keep what they had."""
        ...

    def n_parameters(self, k: int | Array, d: int) -> int | Array:
        """Returns how many free numbers k covariances have."""
        ...
