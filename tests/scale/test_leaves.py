"""Oracle: what `every_kind` of leaf was before it was taken apart."""

import jax
import jax.numpy as jnp
import numpy as np
from toys import every_kind as state

from jaxnn.scale.leaves import described, digest, names, original, plain


def test_a_digest_tells_values_shapes_dtypes_and_keys_apart():
    trees = [
        state(0), state(1), {"a": jnp.zeros(2)}, {"b": jnp.zeros(2)}, {"a": jnp.zeros((2, 1))},
        {"a": jnp.zeros(2, jnp.float32)}, {"a": -jnp.zeros(2)}, jax.random.key(0),
        jax.random.key_data(jax.random.key(0)), jax.random.key(0, impl="unsafe_rbg"),
    ]  # fmt: skip
    assert len({digest(tree) for tree in trees}) == len(trees)
    assert digest(state(0)) == digest(state(0))


def test_a_tree_comes_back_from_its_parts():
    arrays, impls = plain(state(3))
    for like in (state(), jax.tree.structure(state())):
        again = original(arrays, impls, like)
        assert jax.tree.structure(again) == jax.tree.structure(state())
        assert digest(again) == digest(state(3))
    assert [impl for impl in impls if impl] == ["threefry2x32", "rbg"]


def test_names_and_shapes_are_those_of_the_leaves():
    tree = {"b": (np.zeros((2, 0)), jax.random.key(0)), "a": np.float64(1)}
    assert names(tree) == names(jax.tree.structure(tree)) == ["['a']", "['b'][0]", "['b'][1]"]
    with jax.enable_x64(False):
        assert described(tree) == [[[], "float64"], [[2, 0], "float64"], [[2], "uint32"]]
