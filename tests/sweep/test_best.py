"""Oracle: the best of a few numbers, worked by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxnn import sweep

NAN, INF = float("nan"), float("inf")
# (values, mode, member), worked by hand; the first of equals
BEST = {
    "min": ([3.0, 1.0, 2.0], "min", 1),
    "max": ([3.0, 1.0, 2.0], "max", 0),
    "tie": ([2.0, 1.0, 1.0], "min", 1),
    "NaN": ([NAN, 3.0, NAN, 2.0], "min", 3),
    "NaN max": ([NAN, 3.0, NAN, 2.0], "max", 1),
    "NaN and inf": ([NAN, INF, INF], "min", 1),
    "NaN and -inf": ([NAN, -INF], "max", 1),
    "integers": ([3, 1, 2], "max", 0),
    "unsigned": (np.array([1, 255, 2], np.uint8), "max", 1),
    "unsigned 0": (np.array([1, 0, 2], np.uint8), "min", 1),
    "booleans": ([False, True, True], "max", 1),
}


@pytest.mark.parametrize("case", BEST)
def test_the_best_member_is_found_and_taken_out(case):
    """Oracle: worked by hand."""
    values, mode, member = BEST[case]
    values = jnp.asarray(values)
    number = jnp.arange(len(values))
    done = sweep.Sweep(hparams={"i": number}, results=(values, {"j": 10 * number}))
    pick = partial(sweep.best, by=lambda results: results[0], mode=mode)
    for got in (pick(done), jax.jit(pick)(done)):
        assert int(got.member) == int(got.hparams["i"]) == member
        assert int(got.result[1]["j"]) == 10 * member


AXIS = {"x": jnp.ones(2)}
DONE = sweep.Sweep(hparams=AXIS, results=jnp.array([1.0, 2.0]))
ALL_NAN = sweep.Sweep(hparams=AXIS, results=jnp.full(2, jnp.nan))
SAME = lambda results: results
BAD = {
    "mode": (sweep.best, (DONE, SAME), {"mode": "most"}, ValueError, "mode 'most'.*min, max"),
    "all NaN": (sweep.best, (ALL_NAN, SAME), {}, ValueError, "must hold a number, got only NaN"),
    "one value": (sweep.best, (DONE, jnp.sum), {}, ValueError, r"by\(results\).*\(2,\), got \(\)"),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_message(case):
    """Oracle: the message names the argument and what was given."""
    function, args, options, error, message = BAD[case]
    refused(lambda: function(*args, **options), error, message, "sweep.")
