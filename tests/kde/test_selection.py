"""A fallback says so: by a warning where values are known, by its flag everywhere."""

import warnings

import jax
import jax.numpy as jnp
import pytest

from jaxnn.kde.selection import Selection, told


def test_only_a_known_fallback_warns():
    at = lambda found: told("f", Selection(jnp.ones(1), found), "fell back")
    with pytest.warns(UserWarning, match="^f: fell back$"):
        at(jnp.array([True, False]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        at(jnp.array([True, True]))
        assert not jax.jit(at)(jnp.array(False)).found
