"""Oracles: `fold_in` by hand, and invariants of the keys of members."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxnn import sweep

KEY, OTHER = jax.random.split(jax.random.key(3))


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_members_of_one_seed_share_their_random_numbers():
    """Invariant: equal seeds, equal draws; other seeds, others; whatever the other axes say."""
    hparams = sweep.grid(rate=[0.1, 0.2, 0.3], seed=[5, 6])
    draws = sweep.run(lambda hp, key: jax.random.normal(key), hparams, KEY).results.reshape(3, 2)
    equal(draws[0], draws[1])
    equal(draws[0], draws[2])
    assert float(draws[0, 0]) != float(draws[0, 1])


def test_without_seeds_every_member_has_its_own_key():
    """Invariant: no two members share one, member i keeps its own in a longer sweep."""
    draw = lambda hp, key: jax.random.normal(key)
    many = sweep.run(draw, {"x": jnp.zeros(20)}, KEY).results
    assert len(set(many.tolist())) == 20
    equal(many[:7], sweep.run(draw, {"x": jnp.zeros(7)}, KEY).results)
    other = sweep.run(draw, {"x": jnp.zeros(20)}, OTHER).results
    assert not set(many.tolist()) & set(other.tolist())


def test_typed_and_old_style_keys_are_the_same():
    """Invariant: bit for bit, also as results, in ragged chunks."""
    draw = lambda hp, key: (key, jax.random.normal(key))
    run = partial(sweep.run, draw, {"x": jnp.zeros(5)}, chunk=2)
    (typed, a), (old, b) = run(jax.random.key(4)).results, run(jax.random.PRNGKey(4)).results
    equal(a, b)
    assert typed.shape == (5,)
    equal(jax.random.key_data(typed), old)


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint32, jnp.int64])
def test_seeds_of_any_whole_dtype_up_to_32_bits(dtype):
    """Oracle: fold_in by hand, at the ends of the range."""
    top = min(2**32 - 1, int(jnp.iinfo(dtype).max))
    keys = sweep.member_keys(KEY, {"seed": jnp.array([0, top], dtype)})
    for key, seed in zip(keys, (0, top), strict=True):
        hand = jax.random.fold_in(KEY, np.uint32(seed))
        equal(jax.random.key_data(key), jax.random.key_data(hand))


ONE = lambda hp, key: hp["x"]
AXIS = {"x": jnp.ones(2)}
BAD = {
    "float seed": (
        sweep.run,
        (ONE, AXIS | {"seed": jnp.ones(2)}, KEY),
        {},
        TypeError,
        "seed must hold whole numbers, got float64",
    ),
    "H11 seed < 0": (
        sweep.run,
        (ONE, AXIS | {"seed": jnp.array([-1, 0])}, KEY),
        {},
        ValueError,
        r"seed must lie in \[0, 2\*\*32\), got values from -1 to 0",
    ),
    "H10 seed 2**32": (
        sweep.member_keys,
        (KEY, {"seed": jnp.array([0, 2**32])}),
        {},
        ValueError,
        "from 0 to 4294967296",
    ),
    "two seeds": (
        sweep.member_keys,
        (KEY, {"seed": jnp.ones((2, 2), int)}),
        {},
        ValueError,
        r"seed must have shape \(2,\), got \(2, 2\)",
    ),
    "keys of an int": (sweep.member_keys, (1, AXIS), {}, TypeError, "key must be a PRNG key"),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_message(case):
    """Oracle: the message names the argument and what was given."""
    function, args, options, error, message = BAD[case]
    refused(lambda: function(*args, **options), error, message, "sweep.")
