"""Oracle: the fit in one program; who adds up the moments must not matter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import gmm
from jaxnn.gmm import loop

X = np.random.default_rng(0).normal(size=(60, 2)) + np.arange(60)[:, None] % 3 * 4.0
START = gmm.init(jax.random.key(0), X, 3)
STEP = jax.jit(loop.advance, static_argnames="accelerate")


@pytest.mark.parametrize("accelerate", [False, True])
def test_a_loop_on_the_host_over_moments_of_parts_is_the_fit(accelerate):
    given = {"ridge": 1e-3, "tol": 1e-6, "max_steps": 20}
    variance = jnp.var(jnp.asarray(X), axis=0)
    plan = loop.Plan(
        rows=jnp.array(60.0), variance=variance, ridges=1e-3 * variance,
        on=jnp.ones(3, bool), prior=None, tol=jnp.array(1e-6), max_steps=jnp.array(20),
    )  # fmt: skip
    state = loop.start(START, gmm.e_step(START, X), plan)
    while loop.unfinished(state, plan):
        parts = [gmm.e_step(state.candidate, half) for half in (X[:40], X[40:])]
        state = STEP(state, jax.tree.map(jnp.add, *parts), plan, accelerate=accelerate)
    found = loop.finish(state, plan)
    expected = gmm.fit(START, X, accelerate=accelerate, **given)
    assert found.status == expected.status
    assert found.steps == expected.steps
    assert expected.steps > 3
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9),
                 found.mixture, expected.mixture)  # fmt: skip
