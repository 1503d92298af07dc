"""Oracles: norms in NumPy, and the definition of a projection."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxnn.train import max_norm
from jaxnn.train.norms import clip_by_norm, clip_by_value

draw = np.random.default_rng(0)
TREE = {"weight": draw.normal(size=(4, 3)), "bias": 9 * draw.normal(size=4)}


def test_no_unit_is_longer_than_the_limit_and_shorter_ones_are_left():
    """Oracle: each row by hand; the limit lies amid their norms."""
    lengths = np.linalg.norm(TREE["weight"], axis=1)
    limit = float(np.median(lengths))
    found = max_norm(TREE, limit)
    np.testing.assert_array_equal(found["bias"], TREE["bias"])
    for row, given, length in zip(found["weight"], TREE["weight"], lengths, strict=True):
        np.testing.assert_allclose(row, given * min(1, limit / length), rtol=1e-14)
    assert 0 < np.sum(lengths > limit) < 4


def test_max_norm_is_a_projection():
    """Invariants: taken twice it changes nothing more; nothing in the ball is nearer (a first-order
    condition); it is differentiable at 0, with stacked layers and columns as units too."""
    once = max_norm(TREE, 0.7)
    np.testing.assert_allclose(max_norm(once, 0.7)["weight"], once["weight"], rtol=1e-15)
    inside = draw.normal(size=(100, 4, 3))
    inside /= np.maximum(1, np.linalg.norm(inside, axis=-1, keepdims=True) / 0.7)
    apart = TREE["weight"] - np.asarray(once["weight"])
    assert np.all(np.sum(apart * (inside - np.asarray(once["weight"])), axis=-1) <= 1e-14)
    stacked = max_norm({"weight": np.stack([TREE["weight"]] * 2)}, 0.7)["weight"]
    np.testing.assert_allclose(stacked[1], once["weight"])
    across = max_norm({"kernel": TREE["weight"].T}, 0.7, axis=-2)["kernel"]
    np.testing.assert_allclose(across.T, once["weight"])
    slope = jax.grad(lambda w: jnp.sum(max_norm({"weight": w}, 0.7)["weight"]))(jnp.zeros((2, 3)))
    np.testing.assert_array_equal(slope, np.ones((2, 3)))


def test_a_single_number_and_nothing_are_left_alone():
    """Invariant: a temperature is no weight of a unit; None is no leaf."""
    found = max_norm({"scale": np.float64(9.0), "bias": None, "weight": np.ones((1, 4))}, 1.0)
    assert float(found["scale"]) == 9
    np.testing.assert_allclose(found["weight"], np.full((1, 4), 0.5))


def test_a_long_gradient_is_shortened_as_one_vector():
    """Oracle: the norm of all entries in NumPy, of which one array alone has less."""
    norm = np.sqrt(sum(np.sum(g**2) for g in TREE.values()))
    for limit in (0.9 * norm, 1.1 * norm, 1e-3):
        found = clip_by_norm(TREE, limit)
        for name, g in TREE.items():
            np.testing.assert_allclose(found[name], g * min(1, limit / norm), rtol=1e-14)


def test_clipping_survives_squares_out_of_range():
    """Oracle: (3, 4)/5, where the squares overflow or underflow float32; 0 stays 0."""
    clip = jax.jit(clip_by_norm)
    for size in (1e30, 1e-30):
        g = jnp.array([3 * size, 4 * size], jnp.float32)
        np.testing.assert_allclose(clip(g, jnp.float32(size)), g / 5, rtol=1e-6)
    np.testing.assert_array_equal(clip(jnp.zeros(2, jnp.float32), jnp.float32(1)), np.zeros(2))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_g16_g17_a_gradient_that_is_not_finite_shows_where(bad):
    """Invariant: neither clip hides it, or spreads it over the other entries."""
    given = {"a": np.array([1.0, bad]), "b": np.array([2.0])}
    found = clip_by_norm(given, 1.0)
    np.testing.assert_array_equal(found["b"], given["b"])
    np.testing.assert_array_equal(found["a"], given["a"])
    if np.isnan(bad):
        np.testing.assert_array_equal(clip_by_value(given, 3.0)["a"], given["a"])


def test_entries_are_brought_into_their_range():
    """Oracle: numpy.clip."""
    found = clip_by_value(TREE, 0.5)
    for name, g in TREE.items():
        np.testing.assert_array_equal(found[name], np.clip(g, -0.5, 0.5))


BAD = {
    "zero": ((TREE, 0.0), ValueError, "limit must be positive and finite, got 0.0"),
    "negative": ((TREE, -1.0), ValueError, "limit must be positive and finite, got -1.0"),
    "NaN": ((TREE, np.nan), ValueError, "limit must be positive and finite, got nan"),
    "vector": ((TREE, np.ones(2)), ValueError, r"limit must have shape \(\), got \(2,\)"),
    "whole": (({"weight": np.ones((2, 2), int)}, 1.0), TypeError, r"params\['weight'\] must hold"),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_message(case):
    """Oracle: the message names the argument and what was given."""
    args, error, message = BAD[case]
    refused(lambda: max_norm(*args), error, message, "train.max_norm: ")
