"""What was looked at before, so that a second training on the same arrays need not look again.

Arrays of JAX cannot change: what held for one holds as long as it lives.  They are held weakly.
"""

import weakref
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import PyTree

from jaxnn import checks

Sight = tuple[Any, list[weakref.ref[Any]]]
_SEEN: weakref.WeakKeyDictionary[Any, dict[str, Sight]] = weakref.WeakKeyDictionary()


def once(function: Any, role: str, kind: Any, arrays: PyTree, look: Callable[[], None]) -> None:
    """Calls `look` unless that went well the last time for this function in this role.

    Args:
        function: what is looked at.
        role: what it is looked at for.
        kind: all that the outcome depends on besides the arrays; compared by ==.
        arrays: those that the outcome depends on; tracers are looked at every time.
        look: raises where something is wrong.
    """
    leaves, structure = jax.tree.flatten(arrays)
    kind = (structure, kind)
    try:
        known = _SEEN.setdefault(function, {})
    except TypeError:  # neither weak references nor a hash
        known = {}
    last = known.get(role)
    same = lambda refs: all(ref() is leaf for ref, leaf in zip(refs, leaves, strict=True))
    if last is not None and last[0] == kind and same(last[1]):
        return
    look()
    if all(isinstance(leaf, jax.Array) and checks.concrete(leaf) for leaf in leaves):
        known[role] = (kind, [weakref.ref(leaf) for leaf in leaves])
