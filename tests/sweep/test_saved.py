"""Oracle: what was written is read again, equal; and messages."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxnn.sweep import (
    Choice,
    Design,
    Grid,
    Integers,
    LogUniform,
    Normal,
    Product,
    Uniform,
    When,
    Zip,
    from_json,
    to_json,
)

AXES = {
    "is": Uniform(0.0, 1.0),
    "kind": LogUniform(1e-4, 1.0),
    "axes": Integers(1, 4),
    "n": When("axes", [1, 2], Normal(0.0, 1.0), otherwise=0.0),
}
SPACE = Product(
    (
        Grid({"rule": ["sgd", None], "sizes": [(8,), (4, (2, 2))], "rate": np.float32([0.1, 1])}),
        When("rule", "sgd", Zip((Grid({"a": [1]}), Grid({"b": Choice([True], static=True)})))),
        Design(5, AXES, "sobol"),
    )
)


def test_a_space_is_read_as_it_was_written():
    """Invariant: equal and with the same hash, whatever its axes are called; plain JSON."""
    text = to_json(SPACE)
    json.loads(text, parse_constant=pytest.fail)
    again = from_json(text)
    assert again == SPACE
    assert repr(again) == repr(SPACE)
    assert hash(again) == hash(SPACE)


class Two:
    def sample(self, key, n):
        return jnp.full(n, 2.0)


BAD = {
    "K37 no JSON": (lambda: from_json("{"), ValueError, "text must be JSON, got Expecting"),
    "K37 deep": (lambda: from_json("[" * 100_000), ValueError, "text must be JSON"),
    "no space": (lambda: from_json("[1]"), ValueError, "must hold a space, got a tuple"),
    "an axis": (
        lambda: from_json('{"is": "Uniform", "low": 0, "high": 1}'),
        ValueError,
        "must hold a space, got a Uniform",
    ),
    "K36 unknown": (
        lambda: from_json('{"is": "Gird", "axes": {}}'),
        ValueError,
        r"unknown kind of space 'Gird' \(did you mean 'Grid'",
    ),
    "fields": (
        lambda: from_json('{"is": "Grid", "axis": {}}'),
        ValueError,
        "a Grid must have axes, got axis",
    ),
    "own": (
        lambda: to_json(Design(1, {"x": Two()})),
        TypeError,
        "x must consist of numbers.*got <.*Two",
    ),
    "no data": (lambda: to_json({"a": 1}), TypeError, "must be a space such as Grid, got {'a': 1}"),
    "infinite": (lambda: to_json(Grid({"x": [float("inf")]})), ValueError, "must be finite"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
@pytest.mark.usefixtures("unchecked_types")
def test_bad_text_and_spaces_get_one_clear_message(case):
    """Oracle: the message says what is wrong and where."""
    call, error, message = BAD[case]
    refused(call, error, message, ("sweep.to_json", "sweep.from_json"))
