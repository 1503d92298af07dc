"""The arrays of a pytree as a file keeps them: by number, by name, and by all their bits."""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree


def digest(tree: PyTree) -> str | None:
    """Returns a SHA-256 of all arrays of a tree; None if other processes hold a part of them."""
    total = hashlib.sha256(str(jax.tree.structure(tree)).encode())
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return None
        plain = leaf
        if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            total.update(str(jax.random.key_impl(leaf)).encode())
            plain = jax.random.key_data(leaf)
        array = np.ascontiguousarray(plain)
        total.update(f"{array.dtype}{array.shape}".encode())
        total.update(array.reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def plain(tree: PyTree) -> tuple[dict[str, Any], list[str | None]]:
    """Returns the leaves of a tree by number, keys as their bits, and the kinds of the keys."""
    arrays, impls = {}, []
    for i, leaf in enumerate(jax.tree.leaves(tree)):
        typed = jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)
        impls.append(str(jax.random.key_impl(leaf)) if typed else None)
        arrays[f"{i:05d}"] = jax.random.key_data(leaf) if typed else leaf
    return arrays, impls


def original(arrays: dict[str, Any], impls: list[str | None], like: PyTree) -> PyTree:
    """Returns what `plain` was given, in the structure of `like` (a pytree or its structure)."""
    leaves = [
        array if impl is None else jax.random.wrap_key_data(array, impl=impl)
        for (_, array), impl in zip(sorted(arrays.items()), impls, strict=True)
    ]
    tree = like if isinstance(like, jax.tree_util.PyTreeDef) else jax.tree.structure(like)
    return jax.tree.unflatten(tree, leaves)


def described(tree: PyTree) -> list[list[Any]]:
    """Returns shape and dtype of each array, as JSON has them."""
    arrays, _ = plain(tree)
    # The dtype of its own: without x64 JAX would call a float64 array of NumPy a float32 one.
    kind = lambda a: getattr(a, "dtype", None) or jnp.result_type(a)
    return [[list(jnp.shape(a)), str(kind(a))] for _, a in sorted(arrays.items())]


def names(tree: PyTree) -> list[str]:
    """Returns where in a tree, or in the tree of this structure, each array is."""
    if isinstance(tree, jax.tree_util.PyTreeDef):
        tree = jax.tree.unflatten(tree, range(tree.num_leaves))
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
