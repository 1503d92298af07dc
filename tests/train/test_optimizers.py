"""Oracles: the update rules of the papers in NumPy float64, and minima known in closed form."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from refusals import refused

from jaxnn.train import OPTIMIZERS, optimizer

CURVATURE = np.array([1.0, 4.0, 10.0])
# A learning rate at which 1000 steps solve a well-scaled problem, for each optimizer.
RATES = {
    "sgd": 0.1,
    "momentum": 0.02,
    "nesterov": 0.02,
    "adagrad": 0.5,
    "rmsprop": 0.01,
    "adadelta": 1.0,
    "adam": 0.05,
    "adamax": 0.05,
    "nadam": 0.05,
    "amsgrad": 0.05,
    "adamw": 0.05,
}
# For Rosenbrock's valley, whose curvatures lie between 1 and 1000.
VALLEY_RATES = RATES | {"adadelta": 0.3, "sgd": 1e-3, "momentum": 2e-4, "nesterov": 2e-4}


def sgd(w, g, memory, t, lr):
    return w - lr * g


def momentum(w, g, m, t, lr, momentum=0.9):
    m["v"] = momentum * m.get("v", 0) + g
    return w - lr * m["v"]


def nesterov(w, g, m, t, lr):
    m["v"] = 0.9 * m.get("v", 0) + g
    return w - lr * (g + 0.9 * m["v"])


def adagrad(w, g, m, t, lr):
    m["s"] = m.get("s", 0.1) + g**2  # optax starts the sum at 0.1
    return w - lr * g / np.sqrt(m["s"] + 1e-7)


def rmsprop(w, g, m, t, lr, decay=0.9):
    m["s"] = decay * m.get("s", 0) + (1 - decay) * g**2
    return w - lr * g / np.sqrt(m["s"] + 1e-8)


def adadelta(w, g, m, t, lr):
    m["g2"] = 0.9 * m.get("g2", 0) + 0.1 * g**2
    step = np.sqrt(m.get("x2", 0) + 1e-6) / np.sqrt(m["g2"] + 1e-6) * g
    m["x2"] = 0.9 * m.get("x2", 0) + 0.1 * step**2
    return w - lr * step


def moments(g, m, b1=0.9, b2=0.999):
    m["m"] = b1 * m.get("m", 0) + (1 - b1) * g
    m["v"] = b2 * m.get("v", 0) + (1 - b2) * g**2
    return m["m"], m["v"]


def adam(w, g, memory, t, lr, b1=0.9):
    m, v = moments(g, memory, b1)
    return w - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)


def adamax(w, g, memory, t, lr):
    m, _ = moments(g, memory)
    memory["u"] = np.maximum(0.999 * memory.get("u", 0), np.abs(g) + 1e-8)
    return w - lr / (1 - 0.9**t) * m / memory["u"]


def nadam(w, g, memory, t, lr):
    m, v = moments(g, memory)
    ahead = 0.9 * m / (1 - 0.9 ** (t + 1)) + 0.1 * g / (1 - 0.9**t)
    return w - lr * ahead / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)


def amsgrad(w, g, memory, t, lr):
    m, v = moments(g, memory)
    memory["max"] = np.maximum(memory.get("max", 0), v / (1 - 0.999**t))
    return w - lr * (m / (1 - 0.9**t)) / (np.sqrt(memory["max"]) + 1e-8)


def adamw(w, g, memory, t, lr):
    return adam(w, g, memory, t, lr) - lr * 1e-4 * w


RULES = {f.__name__: f for f in (sgd, momentum, nesterov, adagrad, rmsprop, adadelta)}
RULES |= {f.__name__: f for f in (adam, adamax, nadam, amsgrad, adamw)}


def quadratic(w):
    return 0.5 * jnp.sum(CURVATURE.astype(w.dtype) * w**2)


def rosenbrock(w):
    return (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2


@partial(jax.jit, static_argnums=(0, 1), static_argnames="steps")
def descend(name, loss, start, learning_rate, *, steps, **options):
    transformation = optimizer(name, learning_rate, **options)

    def step(carry, _):
        w, state = carry
        updates, state = transformation.update(jax.grad(loss)(w), state, w)
        w = optax.apply_updates(w, updates)
        return (w, state), w

    (_, state), path = jax.lax.scan(step, (start, transformation.init(start)), None, length=steps)
    return path, state


def by_hand(rule, rate, steps, **options):
    w, memory, path = np.array([1.0, -2.0, 0.5]), {}, []
    for t in range(1, steps + 1):
        w = rule(w, CURVATURE * w, memory, t, rate, **options)
        path.append(w)
    return np.array(path)


def test_every_optimizer_has_an_oracle():
    assert set(RULES) == set(RATES) == set(OPTIMIZERS)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_twenty_steps_are_those_of_the_paper(name):
    """Oracle: the rule of the paper in NumPy, with optax's defaults."""
    start = jnp.array([1.0, -2.0, 0.5])
    path, _ = descend(name, quadratic, start, 0.03, steps=20)
    np.testing.assert_allclose(path, by_hand(RULES[name], 0.03, 20), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("name", "options"),
    [("adam", {"b1": 0.5}), ("momentum", {"momentum": 0.3}), ("rmsprop", {"decay": 0.6})],
)
def test_options_reach_the_optimizer(name, options):
    """Oracle: the same rule in NumPy with another constant, traced here."""
    path, _ = descend(name, quadratic, jnp.array([1.0, -2.0, 0.5]), 0.03, steps=20, **options)
    oracle = by_hand(RULES[name], 0.03, 20, **options)
    np.testing.assert_allclose(path, oracle, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_finds_the_minimum_of_a_quadratic(name):
    """Oracle: the minimum is 0, at 0; RMSprop without decay stays within a step of it."""
    path, _ = descend(name, quadratic, jnp.array([1.0, -2.0, 0.5]), RATES[name], steps=1000)
    np.testing.assert_allclose(path[-1], 0, atol=2 * RATES["rmsprop"])
    assert float(quadratic(path[-1])) < 1e-3 * float(quadratic(path[0]))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_goes_down_the_valley_of_rosenbrock(name):
    """Oracle: the value at the start, f(-1, 1) = 4, and on the floor of the valley, near 0."""
    start = jnp.array([-1.0, 1.0])
    path, _ = descend(name, rosenbrock, start, VALLEY_RATES[name], steps=4000)
    assert bool(jnp.all(jnp.isfinite(path)))
    assert float(rosenbrock(path[-1])) < 0.4


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_float32_stays_float32_and_the_state_keeps_its_shape(name):
    """Invariant: parameters and state have the same shapes and dtypes before and after a step."""
    start = jnp.array([1.0, -2.0, 0.5], jnp.float32)
    before = optimizer(name, 0.1).init(start)
    path, after = descend(name, quadratic, start, jnp.float32(0.1), steps=3)
    assert path.dtype == jnp.float32
    kind = lambda tree: jax.tree.map(lambda a: (a.shape, a.dtype), tree)
    assert kind(before) == kind(after)
    assert jnp.float64 not in {leaf.dtype for leaf in jax.tree.leaves(after)}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_learning_rate_zero_changes_nothing(name):
    """Invariant: bit for bit."""
    start = jnp.array([1.0, -2.0, 0.5])
    path, _ = descend(name, quadratic, start, 0.0, steps=3)
    np.testing.assert_array_equal(path, np.tile(start, (3, 1)))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_another_learning_rate_compiles_nothing(name):
    """Invariant: the body is traced once for two learning rates, and the paths differ."""
    traces = []

    @jax.jit
    def step(w, learning_rate):
        traces.append(name)
        transformation = optimizer(name, learning_rate)
        return transformation.update(jax.grad(quadratic)(w), transformation.init(w), w)[0]

    w = jnp.ones(3)
    first, second = step(w, 0.1), step(w, 0.2)
    assert len(traces) == 1
    assert bool(jnp.all(first != second))


BAD = {
    "G2 negative": (("adam", -0.1), {}, ValueError, "learning_rate must be non-neg.*got -0.1"),
    "G3 NaN": (("adam", float("nan")), {}, ValueError, "learning_rate must be.*finite, got nan"),
    "G4 inf": (("adam", float("inf")), {}, ValueError, "learning_rate must be.*finite, got inf"),
    "string": (("adam", "0.1"), {}, TypeError, "learning_rate must be non-neg.*got '0.1'"),
    "None": (("adam", None), {}, TypeError, "learning_rate must be.*got None"),
    "G11 near": (("adm", 0.1), {}, ValueError, "optimizer 'adm'.*mean 'adam'.*choose.*nadam"),
    "G11 no name": ((3, 0.1), {}, ValueError, "unknown optimizer 3; choose from sgd, momentum"),
    "unknown option": (("sgd", 0.1), {"b1": 0.9}, TypeError, "sgd does not take.*'b1'"),
    "flag": (("rmsprop", 0.1), {"centered": True}, TypeError, "centered must be a number.*True"),
    "function": (("adamw", 0.1), {"mask": len}, TypeError, "mask must be a number.*OPTIMIZERS"),
    "G6 beta 1": (("adam", 0.1), {"b1": 1.0}, ValueError, "b1 must be below 1, got 1.0"),
    "G7 beta < 0": (("adam", 0.1), {"b2": -0.1}, ValueError, "b2 must be non-neg.*got -0.1"),
    "G9 decay < 0": (("adamw", 0.1), {"weight_decay": -1.0}, ValueError, "weight_decay.*-1.0"),
    "G10 momentum": (("momentum", 0.1), {"momentum": 1.5}, ValueError, "momentum must.*1.5"),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_message(case):
    """Oracle: the message names the argument, what was given, and what to do."""
    args, options, error, message = BAD[case]
    refused(lambda: optimizer(*args, **options), error, message, "train.optimizer: ")
