"""Shapes that a class declares: letters, alternatives, axes shared by all, batches."""

import re
from typing import NamedTuple

import jax.numpy as jnp
import pytest
from jaxtyping import Array, Float

from jaxnn import shapes


class Part(NamedTuple):
    turn: Float[Array, "#k d d"]
    noise: Float[Array, "n"] | None


class Whole(NamedTuple):
    log_weights: Float[Array, "k"]
    width: Float[Array, ""] | Float[Array, "d"]
    part: Part
    rest: Float[Array, "k *more"]
    name: str = "left alone"


def whole(k=3, d=2, lead=(), width=(), turn=None, noise=None, rest=()):
    ones = lambda *shape: jnp.ones((*lead, *shape))
    return Whole(
        ones(k),
        ones(*width),
        Part(ones(k if turn is None else turn, d, d), None if noise is None else ones(noise)),
        ones(k, *rest),
    )


@pytest.mark.parametrize("lead", [(), (5,), (5, 2)])
@pytest.mark.parametrize(
    "given", [{}, {"width": (2,)}, {"turn": 1}, {"noise": 7}, {"rest": (4, 6)}], ids=str
)
def test_shapes_as_declared_pass(given, lead):
    assert shapes.agree("f", "m", whole(lead=lead, **given), lead=len(lead))["k"] == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"turn": 2}, "m.part.turn must have shape (1 or 3, d, d), got (2, 2, 2)"),
        ({"width": (3,)}, "m.part.turn must have shape (1 or 3, 3, 3), got (3, 2, 2)"),
        ({"width": (2, 2)}, "m.width must have shape () or (d,), got (2, 2)"),
        ({"lead": (1,)}, "m.log_weights must have shape (k,), got (1, 3)"),
    ],
    ids=str,
)
def test_other_shapes_are_named(given, message):
    with pytest.raises(ValueError, match=re.escape(f"f: {message}")):
        shapes.agree("f", "m", whole(**given))


def test_letters_may_be_known_before():
    with pytest.raises(ValueError, match=re.escape("m.log_weights must have shape (4,), got (3,)")):
        shapes.agree("f", "m", whole(), {"k": 4})


def test_a_batch_has_the_same_leading_axes_everywhere():
    model = whole(lead=(5,))
    with pytest.raises(ValueError, match=r"m.rest must have shape \(5, 3, \*more\), got \(4, 3\)"):
        shapes.agree("f", "m", model._replace(rest=jnp.ones((4, 3))), lead=1)


def test_what_is_no_array_is_named():
    with pytest.raises(TypeError, match=r"m\.width must be an array, got float"):
        shapes.agree("f", "m", whole()._replace(width=1.0))
    with pytest.raises(TypeError, match=r"m\.log_weights must be an array, got NoneType"):
        shapes.agree("f", "m", whole()._replace(log_weights=None))
