"""Oracles: ranges and tables written down here."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxnn import checks
from jaxnn.train import rules


class Rule(NamedTuple):
    a: float
    b: float | None = 0.5


RANGES = {"a": checks.positive, "b": rules.fraction}


def build(name="rule", *args, **numbers):
    return rules.make("here", "thing", name, {"rule": Rule}, *args, **numbers)


def test_a_rule_is_made_with_its_numbers_traced_or_not():
    """Invariant: numbers in their ranges pass, and tracers are not looked at."""
    rule = build("rule", 2.0, b=None)
    assert rule == Rule(2.0, None)
    rules.within("here", rule, RANGES, optional="b")
    for number in (1, 1.0, np.float32(1), jnp.ones(())):
        rules.within("here", build(a=number), RANGES)
    jax.jit(lambda a: rules.within("here", build(a=a), RANGES))(-1.0)


CASES = {
    "unknown": (lambda: build("ruler", 1.0), ValueError, "unknown thing 'ruler'.*'rule'"),
    "missing": (build, TypeError, "rule does not take these numbers: it missing 1 .*'a'"),
    "other": (lambda: build(a=1, c=2), TypeError, "it got an unexpected .*'c'"),
    "range": (lambda: rules.within("here", Rule(0.0), RANGES), ValueError, "a must be positive"),
    "one": (lambda: rules.within("here", Rule(1, 1.0), RANGES), ValueError, "b must be below 1"),
    "below": (lambda: rules.fraction("here", "b", -0.1), ValueError, "b must be non-negative"),
    "None": (lambda: rules.within("here", Rule(1, None), RANGES), TypeError, "b must be a number"),
    "None of two": (lambda: rules.within("here", Rule(None), RANGES, "b"), TypeError, "a must be"),
    "bool": (lambda: rules.within("here", Rule(True), RANGES), TypeError, "a must be a n.*True"),
    "string": (lambda: rules.within("here", Rule("1"), RANGES), TypeError, "a must be a n.*'1'"),
    "vector": (lambda: rules.within("here", Rule(np.ones(2)), RANGES), ValueError, r"shape \(\)"),
    "option": (lambda: rules.options("here", "adam", ["b11"], ["b1", "eps"]), TypeError,
               r"adam does not take 'b11' \(did you mean 'b1'\?\); choose from b1, eps"),
    "no options": (lambda: rules.options("here", "sgd", ["b1"], []), TypeError, "it has no numb"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_input_gets_one_clear_message(case):
    """Oracle: the message names the number and what was given."""
    call, error, message = CASES[case]
    refused(call, error, message, "here: ")
