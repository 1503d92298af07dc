"""Bad functions: refused before anything is compiled.  More cases stand in `test_door`."""

import jax.numpy as jnp
import pytest
from refusals import refused
from training import AWAY, KEY, LINE, START, squares

from jaxnn import train


class Unhashable:
    __hash__ = None

    def __call__(self, params, batch, key=None):
        return squares(params, batch, key)


score = lambda params, batch: params["bias"]
BAD = {
    "no function": ({"value_and_grad": 3}, TypeError, "value_and_grad must be a function, got int"),
    "I13": ({"value_and_grad": Unhashable()}, TypeError, "value_and_grad must be hashable"),
    "score": ({"score": 3, "validation": AWAY}, TypeError, "score must be a function, got int"),
    "metric": ({"metrics": {"a": 3}, "validation": AWAY}, TypeError, "a must be a function"),
    "many metrics": (
        {"metrics": {"a": lambda p, b: b.y}, "validation": AWAY},
        ValueError,
        r"the value of a must have shape \(\), got \(10,\)",
    ),
    "G21 metrics": ({"metrics": {"a": score}}, ValueError, "metrics need a validation batch"),
    "G30": ({"accumulate": 0}, ValueError, "accumulate must be at least 1, got 0"),
    "every": ({"validate_every": 0}, ValueError, "validate_every must be at least 1, got 0"),
    "max_norm": ({"max_norm": 0.0}, ValueError, "max_norm must be positive"),
    "average": ({"average": "ema"}, TypeError, r"average must be a rule such as .* got str"),
    "augment": ({"augment": "noise"}, TypeError, "augment must be a rule such as .* got str"),
    "G29": ({"clip_norm": 0.0}, ValueError, "clip_norm must be positive"),
    "sampling": ({"sampling": -jnp.ones(10)}, ValueError, "sampling must not be negative"),
    "sampling short": ({"sampling": jnp.ones(3)}, ValueError, r"sampling must have shape \(10,\)"),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_message(case):
    """Oracle: the message names the argument and what was given."""
    options, error, message = BAD[case]
    options = {"value_and_grad": squares, "epochs": 1} | options
    refused(lambda: train.fit(KEY, START, LINE, **options), error, message, "train.")
