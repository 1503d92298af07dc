"""Oracle: `init` of the transformation that the state is claimed to belong to."""

import jax
import numpy as np
import pytest
from refusals import refused

from jaxnn.train import OPTIMIZERS, check_state, optimizer, schedule

NET = {"weight": np.ones((2, 3)), "bias": np.ones(2)}
WIDER = {"weight": np.ones((4, 3)), "bias": np.ones(4)}
DEEPER = {"weight": np.ones((2, 3)), "bias": np.ones(2), "more": np.ones(1)}


def of(name, params=NET, **options):
    return optimizer(name, 0.1, **options).init(params)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_state_fits_its_optimizer_at_any_numbers(name):
    """Invariant: neither the numbers, nor clipping, decay or a schedule make another state."""
    options = {} if name == "lbfgs" else {"clip_norm": 1.0, "weight_decay": 0.1}
    rate = schedule("exponential", 0.3, decay=0.9)
    check_state(optimizer(name, rate, l2=0.1, **options), NET, of(name))


def test_it_holds_under_jit_and_after_updates():
    """Invariant: only shapes and names are looked at."""
    transformation = optimizer("adam", 0.1)

    @jax.jit
    def step(state):
        check_state(transformation, NET, state)
        return transformation.update(NET, state, NET)[1]

    check_state(transformation, NET, step(step(of("adam"))))


SINGLE = jax.tree.map(np.float32, NET)
CASES = {
    "G14 names": ("adam", of("nadam"), "opt_state must be of optimizer 'adam', got 'nadam'"),
    "G14 same arrays": ("momentum", of("nesterov"), "of optimizer 'momentum', got 'nesterov'"),
    "G14 flavour": ("adam", of("adam", flavour="torch"), "'adam', got 'torch adam'"),
    "G14 no state": ("adam", NET, "of optimizer 'adam', got 'dict'"),
    "G14 options": ("sgd", of("sgd", momentum=0.9), r"has opt_state.inner\[0\].trace\['bias'\]"),
    "G15 wider": ("adam", of("adam", WIDER),
                  r"mu\['bias'\] must be float64 of shape \(2,\) as params .*of shape \(4,\)"),
    "G15 deeper": ("adam", of("adam", DEEPER), r"got one that has opt_state.*\['more'\]"),
    "G15 flatter": ("adam", of("adam", {"weight": np.ones((2, 3))}), r"lacks opt_.*\['bias'\]"),
    "G15 dtype": ("adam", of("adam", SINGLE), "must be float64 .*, got float32 of shape"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_state_of_something_else_is_refused(case):
    """Oracle: the message says what differs."""
    name, state, message = CASES[case]
    refused(lambda: check_state(optimizer(name, 0.1), NET, state), ValueError, message,
            "train.check_state: ")  # fmt: skip
