"""Oracles: operations counted by hand, and every partition by brute force."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.sweep import cost

A = jnp.ones((3, 4))
COUNTS = {
    "sum of two": (lambda a: a + a, 12),
    "product": (lambda a: a @ a.T, 12 + 2 * 4 * 9),  # the transposed, too
    "scan": (lambda a: jax.lax.scan(lambda c, _: (c * 2, None), a, length=7)[0], 7 * 12),
    "branches": (lambda a: jax.lax.cond(True, lambda x: x * 2 * 2, lambda x: x, a), 24),
    "jit": (lambda a: jax.jit(lambda x: x * 2)(a), 12),
    "while": (lambda a: jax.lax.while_loop(lambda x: True, lambda x: x * 2, a), cost.TURNS * 12),
}


@pytest.mark.parametrize("case", COUNTS)
def test_operations(case):
    """Oracle: counted by hand, give or take the scalars that steer a loop."""
    function, expected = COUNTS[case]
    assert cost.operations(function, A) == pytest.approx(expected, abs=3)


@pytest.mark.parametrize("compile_seconds", [0.0, 0.3, 3.0, 1e3])
def test_programs_are_those_of_the_least_cost(compile_seconds):
    """Oracle: all 2^6 ways to cut seven sizes."""
    draw = np.random.default_rng(0)
    for _ in range(20):
        seconds, members = np.sort(draw.exponential(size=7)), draw.integers(1, 9, 7)

        def total(places, seconds=seconds, members=members):
            return compile_seconds * len(set(places)) + sum(
                m * seconds[p] for m, p in zip(members, places, strict=True)
            )

        ways = []
        for cuts in itertools.product([False, True], repeat=6):
            ends = [i for i, cut in enumerate(cuts) if cut] + [6]
            ways.append([min(e for e in ends if e >= i) for i in range(7)])
        got = cost.programs(seconds.tolist(), members.tolist(), compile_seconds)
        assert total(got) == pytest.approx(min(map(total, ways)))
    # The ends: a program for all, and one for each.
    assert compile_seconds < 1e3 or got == [6] * 7
    assert compile_seconds > 0 or got == list(range(7))
