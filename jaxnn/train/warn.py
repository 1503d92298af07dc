"""What a training may be given and should not: legal rows that mislead, said in a warning."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxnn import checks
from jaxnn.train.data import Batch

MOST_BYTES = 2**26  # of rows that are compared one by one
MUCH = 0.1  # share of held-out rows that cannot be a few rows which happen to be alike
CALLER = 4  # levels from a door's check to whoever called the public function


def sorted_labels(where: str, y: Any) -> None:
    """Warns if batches in the order given would each hold few of the classes."""
    if y is None or not isinstance(y, jax.Array) or not checks.concrete(y):
        return
    if y.ndim != 1 or not jnp.issubdtype(y.dtype, jnp.integer):
        return
    labels = y.__array__()
    if (labels[1:] >= labels[:-1]).all() and labels[0] != labels[-1]:
        warnings.warn(
            f"{where}: batch.y is sorted and shuffle is False, so that a batch has rows of one or "
            "two classes; shuffle the rows",
            UserWarning,
            stacklevel=CALLER,
        )


def overlap(where: str, batch: Batch, validation: Batch) -> None:
    """Warns if a tenth or more of the held-out rows, with their targets, are trained on as well."""
    known, held_out = (jax.tree.leaves((rows.x, rows.y)) for rows in (batch, validation))
    if not all(checks.concrete(leaf) for leaf in known + held_out):
        return
    if sum(leaf.nbytes for leaf in known) > MOST_BYTES:
        return
    common = set(_bytes(known))
    again = sum(row in common for row in _bytes(held_out))
    total = len(held_out[0])
    if again > MUCH * total:
        warnings.warn(
            f"{where}: validation has {again} of {total} rows in common with batch; their score "
            "does not say how the network does on new rows",
            UserWarning,
            stacklevel=CALLER + 2,  # called through `seen.once`
        )


def _bytes(leaves: list[Any]) -> list[PyTree]:
    """Returns each row as something that can be compared and hashed."""
    columns = []
    for leaf in leaves:
        rows = leaf.__array__().reshape(len(leaf), -1)
        width = rows.dtype.itemsize * rows.shape[1]
        columns.append(rows.copy().view(f"V{width}").ravel().tolist() if width else [])
    return list(zip(*(column for column in columns if column), strict=True))
