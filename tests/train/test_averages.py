"""Oracles: the averages written out over the whole path in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxnn.train import averaging

PATH = np.random.default_rng(0).normal(size=(12, 3)).cumsum(axis=0)


@jax.jit
def run(rule, path):
    """The average after each update."""

    def step(average, w):
        average = rule.update(average, {"w": w})
        return average, average.params["w"]

    return jax.lax.scan(step, rule.init({"w": path[0] * 0 + 100}), path)[1]


@pytest.mark.parametrize(("decay", "start"), [(0.9, 0), (0.999999, 4), (0.0, 2)])
def test_ema_is_the_weighted_mean_of_the_path(decay, start):
    """Oracle: weights decay^age, divided by their sum, in NumPy; before, the parameters."""
    found = run(averaging("ema", decay=decay, start=float(start)), PATH)
    for t in range(1, len(PATH) + 1):
        seen = PATH[start:t] if t > start else PATH[t - 1 : t]
        weights = decay ** np.arange(len(seen))[::-1]
        np.testing.assert_allclose(found[t - 1], weights @ seen / weights.sum(), rtol=1e-9)


@pytest.mark.parametrize(("start", "every"), [(0, 1), (3, 1), (2, 4)])
def test_swa_is_the_mean_of_what_it_takes(start, every):
    """Oracle: the plain mean of every so many parameters after the start, in NumPy."""
    found = run(averaging("swa", start=float(start), every=float(every)), PATH)
    for t in range(1, len(PATH) + 1):
        taken = PATH[start:t:every] if t > start else PATH[t - 1 : t]
        np.testing.assert_allclose(found[t - 1], np.mean(taken, axis=0), rtol=1e-12)


def test_it_is_fit_for_use_before_the_first_update_and_keeps_the_dtype():
    """Invariant: the average of nothing is what training starts from; float32 stays float32."""
    single = jnp.ones(3, jnp.float32)
    for rule in (averaging("ema", decay=jnp.float64(0.5)), averaging("swa")):
        average = rule.init(single)
        assert average.params is single
        assert jax.eval_shape(rule.update, average, single).params.dtype == jnp.float32


def test_numbers_are_data_of_one_program():
    """Invariant: other decays and starts compile nothing; members have their own."""
    before = run._cache_size()
    run(averaging("ema", decay=0.3, start=1.0), PATH)
    assert run._cache_size() <= before + 1
    rules = averaging("ema")._replace(decay=np.array([0.5, 0.7]), start=np.zeros(2))
    both = jax.vmap(run, in_axes=(0, None))(rules, PATH)
    for i, decay in enumerate((0.5, 0.7)):
        alone = run(averaging("ema", decay=decay, start=0.0), PATH)
        np.testing.assert_allclose(both[i], alone, rtol=1e-12)


BAD = {
    "unknown": (("emma", {}), ValueError, "unknown average 'emma' .*mean 'ema'.*ema, swa"),
    "decay 1": (("ema", {"decay": 1.0}), ValueError, "decay must be below 1, got 1.0"),
    "decay < 0": (("ema", {"decay": -0.1}), ValueError, "decay must be non-negative.*-0.1"),
    "decay NaN": (("ema", {"decay": np.nan}), ValueError, "decay must be.*got nan"),
    "start": (("swa", {"start": -1}), ValueError, "start must be non-negative.*-1"),
    "every": (("swa", {"every": 0}), ValueError, "every must be positive.*got 0"),
    "other": (("swa", {"decay": 0.9}), TypeError, "swa does not take these numbers.*'decay'"),
    "string": (("ema", {"decay": "0.9"}), TypeError, "decay must be a number, got '0.9'"),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_message(case):
    """Oracle: the message names the number and what was given."""
    (name, numbers), error, message = BAD[case]
    refused(lambda: averaging(name, **numbers), error, message, "train.averaging: ")
