"""Oracle: `fit` itself, run to the same end."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxnn import gmm

X = jax.random.normal(jax.random.key(0), (40, 2)) * jnp.array([[1.0, 3.0]])
KEY = jax.random.key(1)


def start(hp, key, x):
    return gmm.init(key, x, 2, family="diag", start="random points")


@pytest.mark.parametrize(
    ("hparams", "options"),
    [
        ({"ridge": 1e-3}, {"tol": 1e-6, "steps": 7}),  # converges in some piece
        ({"max_steps": 11}, {"tol": 0.0, "steps": 4}),  # three pieces, the last one shorter
        ({"tol": 1e6}, {"steps": 3}),  # one step is enough
        ({"max_steps": 0}, {"tol": 1e-3}),
    ],
)
def test_pieces_add_up_to_the_whole_fit(hparams, options):
    """Oracle: `fit` with the same numbers: equal steps and status, the same parameters."""
    hparams = {name: jnp.asarray(value) for name, value in hparams.items()}
    protocol = gmm.segments(start, **options)
    state, pieces = protocol.init(hparams, KEY, X), 0
    while not bool(protocol.halted(state)):
        state, pieces = protocol.advance(state, X), pieces + 1
    numbers = {name: options[name] for name in ("tol",) if name in options} | hparams
    whole = gmm.fit(start(hparams, KEY, X), X, **numbers)
    got = protocol.result(state)
    assert pieces == -(-int(whole.steps) // options.get("steps", 16))
    assert int(got.steps) == int(whole.steps)
    close = partial(np.testing.assert_allclose, rtol=1e-8, atol=1e-10)
    jax.tree.map(close, got._replace(gain=0.0), whole._replace(gain=0.0))
    np.testing.assert_allclose(protocol.score(state), -whole.log_lik, rtol=1e-10)
    again = protocol.advance(state, X)  # a halted state comes back as it is
    jax.tree.map(np.testing.assert_array_equal, again, state)


def test_a_member_that_is_not_finite_has_no_score():
    """Oracle: NaN, by the protocol."""
    protocol = gmm.segments(start)
    state = protocol.init({}, KEY, X)
    broken = state._replace(fit=state.fit._replace(status=jnp.int32(gmm.Status.NOT_FINITE)))
    assert bool(jnp.isnan(protocol.score(broken)))
    assert bool(protocol.halted(broken))


BAD = {
    "start": (lambda: gmm.segments(None), TypeError, "start must be a function, got NoneType"),
    "steps 0": (lambda: gmm.segments(start, steps=0), ValueError, "steps must be at least 1"),
    "ridge": (lambda: gmm.segments(start, ridge=-1.0), ValueError, "ridge must be non-negative"),
    "no mixture": (
        lambda: gmm.segments(lambda hp, key, x: x).init({}, KEY, X),
        TypeError,
        "mixture must be a GMM",
    ),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_message(case):
    """Oracle: the message names the argument and what is expected."""
    call, error, message = BAD[case]
    refused(call, error, message, "gmm.segments: ")
