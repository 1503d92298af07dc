"""Oracles: 5 standard errors for what is random, closed forms for what is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.mlp import CONVENTIONS, dropout, thinning

KEYS = jax.random.split(jax.random.key(1), 5)
H = jax.random.normal(KEYS[0], (7, 3))


@pytest.mark.parametrize("keep_prob", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_dropout_keeps_the_fraction_and_scales_by_the_convention(keep_prob, convention):
    n = 100_000
    out = dropout(KEYS[4], jnp.ones(n), keep_prob, convention)
    kept = out != 0
    error = (keep_prob * (1 - keep_prob) / n) ** 0.5
    assert abs(float(jnp.mean(kept)) - keep_prob) < 5 * error
    value = {"inverted": 1 / keep_prob, "classic": 1.0}[convention]
    np.testing.assert_allclose(out[kept], value, rtol=1e-12)
    # What training gives on average, evaluation gives at once.
    evaluation = float(dropout(None, jnp.ones(1), keep_prob, convention)[0])
    assert abs(float(jnp.mean(out)) - evaluation) < 5 * error * value


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("key", [None, KEYS[4]])
def test_to_keep_all_changes_nothing(convention, key):
    for one in (1.0, jnp.array(1.0)):
        np.testing.assert_array_equal(dropout(key, H, one, convention), H)


def test_masks_are_the_same_in_every_precision():
    wide = dropout(KEYS[4], jnp.ones((40, 40)), jnp.array(0.3))
    narrow = dropout(KEYS[4], jnp.ones((40, 40), jnp.float32), jnp.array(0.3, jnp.float32))
    assert narrow.dtype == jnp.float32
    np.testing.assert_array_equal(wide != 0, narrow != 0)


def test_old_style_keys_work_and_units_drop_one_by_one():
    out = dropout(jax.random.PRNGKey(3), jnp.ones((2000, 6)), 0.5, "classic")
    correlation = jnp.corrcoef(out.T) - jnp.eye(6)
    assert float(jnp.abs(correlation).max()) < 5 / 2000**0.5


BAD = [
    ({"keep_prob": 0.0}, ValueError, r"keep_prob must be in \(0, 1\], got 0.0"),  # H13
    ({"keep_prob": 1.5}, ValueError, r"keep_prob must be in \(0, 1\], got 1.5"),  # H14
    ({"keep_prob": jnp.nan}, ValueError, r"keep_prob must be in \(0, 1\], got nan"),  # H15
    ({"keep_prob": "half"}, TypeError, r"keep_prob must be in \(0, 1\], got 'half'"),
    ({"keep_prob": jnp.array([0.5])}, ValueError, r"keep_prob must have shape \(\)"),
    ({"key": 0}, TypeError, "key must be a PRNG key such as .*, got int"),  # H1
    ({"key": np.random.default_rng(0)}, TypeError, "key must be a PRNG key .* Generator"),  # H5
    ({"key": KEYS}, TypeError, r"key must be a single key, got keys of shape \(5,\)"),
    ({"convention": "invert"}, ValueError, "unknown convention 'invert'.*mean 'inverted'"),
    ({"h": H.at[1, 1].set(jnp.nan)}, ValueError, "h must be finite, got nan"),
    ({"h": jnp.arange(3)}, TypeError, "h must hold floating-point numbers"),
]


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(("change", "error", "message"), BAD)
def test_bad_input(change, error, message):
    given = {"key": KEYS[4], "h": H, "keep_prob": 0.5, "convention": "inverted"} | change
    with pytest.raises(error, match="mlp.dropout: " + message):
        dropout(**given)
    values = {"keep_prob", "h"} & set(change)
    if not values:  # what is static is also checked under jit
        with pytest.raises(error, match="mlp.dropout: " + message):
            jax.jit(lambda h: dropout(**given | {"h": h}))(H)


def test_what_was_dropped_can_be_read_off():
    h = jnp.array([[1.0, -2.0, 0.0, -0.0], [3.0, 0.0, -0.0, -4.0]])
    kept = jnp.array([[True, False, True, True], [False, False, False, True]])
    thinned, again = thinning.thin_marked(h, kept, jnp.array(2.0))
    np.testing.assert_array_equal(thinned, thinning.thin(h, kept, jnp.array(2.0)))
    np.testing.assert_array_equal(again, kept)
    narrow, again = thinning.thin_marked(h.astype(jnp.bfloat16), kept, jnp.bfloat16(2))
    assert narrow.dtype == jnp.bfloat16
    np.testing.assert_array_equal(again, kept)
