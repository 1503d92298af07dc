"""The words that every signature of jaxnn is written in.

Rows are samples.  Letters in shapes: n samples, d features, k components, m query points.
A `Data` argument may be anything NumPy takes for floating-point rows; `checks` turns it into a
JAX array at the door, and behind the door everything is an `Array`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, PyTree, UInt32

Data = Float[ArrayLike, "n d"]
Weights = Float[ArrayLike, " n"]
Scalar = Float[ArrayLike, ""] | float  # a traced number: learning rate, ridge, tolerance, ...
Key = PRNGKeyArray | UInt32[Array, "2"]  # typed or old-style


@runtime_checkable
class LossFn(Protocol):
    """Loss of each row: outputs and targets in, one number a row out."""

    def __call__(self, outputs: Array, targets: Array, /) -> Float[Array, " n"]:
        """Returns the loss of every row."""
        ...


@runtime_checkable
class ValueAndGrad(Protocol):
    """What the trainer descends: a value and its gradient in the shape of the parameters.

    `jax.value_and_grad` of a loss, hand-written backpropagation and contrastive divergence all
    fit.  `key` is fresh for every step, and None where the value is only evaluated (no dropout).
    """

    def __call__(
        self, params: PyTree, batch: Any, key: Key | None, /
    ) -> tuple[Float[Array, ""], PyTree]:
        """Returns the value at `params` on `batch` and its gradient."""
        ...


class Segments(NamedTuple):
    """A fit cut into equal pieces, for whoever stops, compacts, saves or spreads it.

    Pure functions of one member, to be `vmap`ped over many.  A state holds all that the next piece
    needs besides the shared data, so members that are done leave a batch by indexing.

    Attributes:
        init: `(hparams, key, *shared) -> state`.
        advance: `(state, *shared) -> state`, one more piece; a halted state comes back as it is.
        score: `state -> number`, lower is better; NaN where the member diverged.
        halted: `state -> bool`, whether nothing is left to do.
        result: `state -> pytree`, what the whole fit returns.
    """

    init: Callable[..., PyTree]
    advance: Callable[..., PyTree]
    score: Callable[[PyTree], Float[Array, ""]]
    halted: Callable[[PyTree], Array]
    result: Callable[[PyTree], PyTree]
