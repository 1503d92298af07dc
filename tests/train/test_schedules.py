"""Oracles: optax's schedules, and formulas in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from refusals import refused

from jaxnn.train import SCHEDULES, schedule
from jaxnn.train.schedules import resolve

COUNTS = np.arange(60)
PEAK = 0.3
CASES = {
    "constant": ({}, optax.constant_schedule(PEAK)),
    "cosine": ({"steps": 40, "end": 0.03}, optax.cosine_decay_schedule(PEAK, 40, alpha=0.1)),
    "warmup": ({"warmup": 9, "start": 0.1}, optax.linear_schedule(0.1, PEAK, 9)),
    "warmup_cosine": (
        {"warmup": 9, "steps": 40, "start": 0.1, "end": 0.02},
        optax.warmup_cosine_decay_schedule(0.1, PEAK, 9, 40, 0.02),
    ),
    "exponential": (
        {"decay": 0.8, "every": 3, "end": 0.01},
        optax.exponential_decay(PEAK, 3, 0.8, end_value=0.01),
    ),
    "one_cycle": (
        {"steps": 40, "rise": 0.25, "divide": 10, "final": 100},
        optax.cosine_onecycle_schedule(40, PEAK, 0.25, 10, 100),
    ),
}


def test_every_schedule_has_an_oracle():
    assert set(CASES) == set(SCHEDULES)


@pytest.fixture(scope="module")
def curves():
    """All schedules over all counts, as data of one program."""
    all_of_them = {name: schedule(name, PEAK, **numbers) for name, (numbers, _) in CASES.items()}
    return jax.jit(lambda rules, counts: {
        name: jax.vmap(rule)(counts) for name, rule in rules.items()
    })(all_of_them, COUNTS)  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_rates_are_those_of_optax(name, curves):
    """Oracle: optax in NumPy's numbers, also beyond the end."""
    expected = [float(CASES[name][1](count)) for count in COUNTS]
    np.testing.assert_allclose(curves[name], expected, rtol=1e-6, atol=1e-9)
    assert np.all(np.asarray(curves[name]) >= 0)


def test_defaults_start_or_end_at_nothing():
    """Oracle: closed forms at the corners, as torch's OneCycleLR and warm-ups have them."""
    close = lambda rule, count, rate: np.testing.assert_allclose(rule(count), rate, atol=1e-12)
    close(schedule("cosine", 0.3, steps=40), 40, 0)
    close(schedule("cosine", 0.3, steps=40), 20, 0.15)
    for name in ("warmup", "warmup_cosine"):
        rule = resolve("here", schedule(name, 0.3, warmup=10), 40)
        for count, rate in ((0, 0), (5, 0.15), (10, 0.3)):
            close(rule, count, rate)
    cycle = schedule("one_cycle", 0.3, steps=40)
    for count, rate in ((0, 0.3 / 25), (12, 0.3), (40, 0.3 / 25 / 1e4)):
        close(cycle, count, rate)
    close(schedule("exponential", 0.3, decay=0.5), 3, 0.3 / 8)
    close(schedule("warmup", 0.3, warmup=0), 0, 0.3)  # none


def test_numbers_are_data_of_one_program():
    """Invariant: a program is traced once for other numbers, also one for each member; float32
    stays float32 under x64, and half precision is not what steps are counted in."""
    traces = []

    @jax.jit
    @jax.vmap
    def rates(rule):
        traces.append(1)
        return rule(jnp.int32(7))

    for steps in (np.array([10.0, 20.0]), np.array([30.0, 40.0])):
        rule = SCHEDULES["cosine"](np.array([0.1, 0.2]), steps, np.zeros(2))
        expected = np.array([0.1, 0.2]) * (1 + np.cos(np.pi * 7 / steps)) / 2
        np.testing.assert_allclose(rates(rule), expected, rtol=1e-12)
    assert len(traces) == 1
    single = schedule("warmup_cosine", np.float32(0.1), warmup=3, steps=2**20 + 1)
    assert single(jnp.int32(5)).dtype == jnp.float32
    half = schedule("cosine", jnp.bfloat16(0.5), steps=1000)
    np.testing.assert_allclose(half(jnp.int32(499)), 0.25 * (1 + np.cos(0.499 * np.pi)), rtol=1e-6)


def test_a_schedule_without_steps_spans_the_training():
    """Oracle: the same schedule with its steps; what has them, or has no end, stays as it is."""
    for name in ("cosine", "one_cycle", "warmup_cosine"):
        numbers = {"warmup": 2} if name == "warmup_cosine" else {}
        found = resolve("here", schedule(name, 0.1, **numbers), 30)
        assert found == schedule(name, 0.1, steps=30, **numbers)
        assert resolve("here", found, 20) == found  # longer than the training
    for rate in (0.1, np.float32(0.1), schedule("exponential", 0.1, decay=0.5)):
        assert resolve("here", rate, 30) == rate


def test_ones_own_function_becomes_data():
    """Invariant: one program for one function; its rates are its own."""
    own = lambda count: 0.1 / (1 + count)
    rule = resolve("here", own, 30)
    jitted = jax.jit(lambda rule, count: rule(count))
    np.testing.assert_allclose(jitted(rule, 4), 0.02, rtol=1e-6)
    np.testing.assert_allclose(jitted(resolve("here", own, 9), 9), 0.01, rtol=1e-6)
    assert jitted._cache_size() == 1
    assert resolve("here", rule, 30) is rule
    jax.jit(lambda s: resolve("here", schedule("cosine", -1.0 * s, steps=s), 30)(3))(5.0)


MAKE = {
    "G2": (("constant", -0.1), {}, ValueError, "learning_rate must be non-negative.*-0.1"),
    "G3": (("cosine", np.nan), {"steps": 3}, ValueError, "learning_rate must be.*got nan"),
    "G11": (("cosin", 0.1), {}, ValueError, "unknown schedule 'cosin' .*mean 'cosine'.*one_cycle"),
    "G13 end": (("cosine", 0.1), {"steps": 9, "end": -0.1}, ValueError, "end must be non.*-0.1"),
    "steps 0": (("cosine", 0.1), {"steps": 0}, ValueError, "steps must be positive.*got 0"),
    "decay 2": (("exponential", 0.1), {"decay": 2.0}, ValueError, r"decay must be in \(0, 1\].*2"),
    "rise": (("one_cycle", 0.1), {"rise": 1.5}, ValueError, r"rise must be in \(0, 1\].*1.5"),
    "divide": (("one_cycle", 0.1), {"divide": 0.0}, ValueError, "divide must be positive.*0.0"),
    "final": (("one_cycle", 0.1), {"final": -1.0}, ValueError, "final must be positive.*-1.0"),
    "every": (("exponential", 0.1), {"decay": 0.5, "every": 0.0}, ValueError, "every must be pos"),
    "warmup": (("warmup", 0.1), {"warmup": -1}, ValueError, "warmup must be non-negative.*-1"),
    "start": (("warmup", 0.1), {"warmup": 1, "start": -1.0}, ValueError, "start must be non-neg"),
    "all warmup": (("warmup_cosine", 0.1), {"warmup": 9, "steps": 9}, ValueError,
                   "warmup must be below steps 9, got 9"),
    "missing": (("warmup", 0.1), {}, TypeError, "warmup does not take these.*missing.*'warmup'"),
    "unknown": (("cosine", 0.1), {"stps": 3}, TypeError, "cosine does not take these.*'stps'"),
    "string": (("cosine", "0.1"), {"steps": 3}, TypeError, "learning_rate must be a number.*'0.1'"),
    "bool": (("cosine", 0.1), {"steps": True}, TypeError, "steps must be a number, got True"),
    "vector": (("cosine", np.ones(2)), {}, ValueError, r"learning_rate must have shape \(\)"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", MAKE)
def test_bad_numbers_get_one_clear_message(case):
    """Oracle: the message names the number, what was given, and what would do."""
    args, numbers, error, message = MAKE[case]
    refused(lambda: schedule(*args, **numbers), error, message, "train.schedule: ")


FOR_TRAINING = {
    "G12": (schedule("cosine", 0.1, steps=20), ValueError,
            "schedule cosine must not end before the training, which takes 30 .* steps 20"),
    "G12 warmup": (schedule("warmup_cosine", 0.1, warmup=30), ValueError, "warmup must be below"),
    "G13": (lambda count: 0.1 - 0.01 * count, ValueError, "rates of learning_rate.*-0.0.* at 11"),
    "G13 NaN": (lambda count: jnp.log(count - 1.5), ValueError, "rates of learning_.*nan at 0"),
    "G13 made by hand": (SCHEDULES["constant"](-0.1), ValueError, "learning_rate must be non-neg"),
    "G2": (-0.1, ValueError, "learning_rate must be non-negative"),
    "None": (None, TypeError, "learning_rate must be a number, got None"),
    "if": (lambda count: 0.1 if count < 3 else 0.0, TypeError, "JAX can trace.*not with if"),
    "vector": (lambda count: jnp.ones(2), ValueError, r"rates of learning_rate must have sh.*\(30"),
}  # fmt: skip


@pytest.mark.parametrize("case", FOR_TRAINING)
def test_what_does_not_fit_the_training_is_refused(case):
    """Oracle: the message names what was given, and the update where it goes wrong."""
    rate, error, message = FOR_TRAINING[case]
    refused(lambda: resolve("train.fit", rate, 30), error, message, "train.fit: ")
