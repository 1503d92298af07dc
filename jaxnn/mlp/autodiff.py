"""The mean loss of any model whose outputs are rows, for the trainer: JAX differentiates it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxnn.mlp.losses import Loss, loss_of
from jaxnn.mlp.objective import rows_of
from jaxnn.types import Key, ValueAndGrad


def autodiff(
    outputs: Callable[[PyTree, Any, Key | None], Array],
    loss: str | Loss = "softmax_cross_entropy",
) -> ValueAndGrad:
    """Returns what `train.fit` descends for a model of your own, or of another library.

    Args:
        outputs: `(params, x, key) -> (n, o)`; `key` is None where the value is only evaluated.
        loss: A name in `mlp.LOSSES`, or what `mlp.loss` returns.

    Returns:
        `(params, batch, key) -> (value, gradient)`: the mean Σ w_r l_r / Σ w_r over rows, and its
        gradient by `jax.grad`.  `batch` is as in `mlp.value_and_grad`.

    Raises:
        ValueError: If the loss is unknown; from the returned function also if y or weight do not
            fit the outputs.

    >>> from jaxnn import train
    >>> descend = autodiff(lambda params, x, key: x @ params, "squared")
    >>> batch = train.Batch(jnp.eye(2, dtype=jnp.float32), jnp.ones((2, 1), jnp.float32))
    >>> value, gradient = descend(jnp.zeros((2, 1), jnp.float32), batch, None)
    >>> float(value), gradient.tolist()
    (1.0, [[-1.0], [-1.0]])
    """
    where = "mlp.autodiff"
    chosen = loss_of(where, loss)

    def mean(params: PyTree, batch: Any, key: Key | None) -> Float[Array, ""]:
        found = outputs(params, batch.x, key)
        rows = rows_of(where, batch, found, found.shape[:1], chosen)
        return jnp.sum(rows.share * chosen.value(found, rows.targets))

    return jax.value_and_grad(mean)
