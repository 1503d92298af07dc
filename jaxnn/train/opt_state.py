"""What an optimizer remembers between updates, and whether it belongs to these parameters."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import optax
from jaxtyping import PyTree

WHERE = "train.check_state"


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("count", "inner"),
    meta_fields=("optimizer",),
)
@dataclass(frozen=True)
class OptimizerState:
    """The number of updates done, the optax state, and (static) whose state it is."""

    count: PyTree  # a whole number, but for what tree.map may put in its place
    inner: PyTree
    optimizer: str


def check_state(
    transformation: optax.GradientTransformation, params: PyTree, opt_state: PyTree
) -> None:
    """Raises ValueError unless a state is one of this transformation for these parameters.

    Only names, shapes and dtypes are looked at, so that it also holds under `jit`.
    """
    wanted = jax.eval_shape(transformation.init, params)
    whose, given = (getattr(s, "optimizer", type(s).__name__) for s in (wanted, opt_state))
    if given != whose:
        raise ValueError(f"{WHERE}: opt_state must be of optimizer {whose!r}, got {given!r}")
    ours, theirs = _leaves(wanted), _leaves(opt_state)
    for name in [*theirs, *ours]:
        if name not in theirs or name not in ours:
            more = "has" if name in theirs else "lacks"
            raise ValueError(
                f"{WHERE}: opt_state must be of the same architecture and options as params and "
                f"transformation, got one that {more} {name}"
            )
        if theirs[name] != ours[name]:
            raise ValueError(
                f"{WHERE}: {name} must be {_words(ours[name])} as params have it, "
                f"got {_words(theirs[name])}"
            )


def _leaves(state: PyTree) -> dict[str, tuple[Any, Any]]:
    found = jax.tree_util.tree_leaves_with_path(state)
    return {
        f"opt_state{jax.tree_util.keystr(path)}": (leaf.shape, leaf.dtype) for path, leaf in found
    }


def _words(kind: tuple[Any, Any]) -> str:
    return f"{kind[1]} of shape {kind[0]}"
