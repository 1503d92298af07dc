"""Oracles: SciPy's minimiser, closed forms, and `jax.nn`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, softmax

from jaxnn import metrics, mlp

rng = np.random.default_rng(0)
N, D, C = 60, 2, 3
LOGITS = 4 * rng.normal(size=(N, C))
# Labels that follow the logits at a temperature of 2.5, and weights.
Y = np.array([rng.choice(C, p=softmax(row / 2.5)) for row in LOGITS])
W = rng.uniform(size=N)
NET = mlp.init(jax.random.key(0), (D, 4, C), dtype=jnp.float64)
X = rng.normal(size=(5, D))


def loss_at(logits, y, w, log_t):
    each = -log_softmax(logits / np.exp(log_t), axis=1)[np.arange(len(y)), y]
    return np.average(each, weights=w)


@pytest.mark.parametrize("scale", [1.0, 1e5])
@pytest.mark.parametrize("weight", [None, W])
def test_temperature_is_the_best_one(scale, weight):
    found = mlp.fit_temperature(scale * LOGITS, Y, sample_weight=weight)
    w = np.ones(N) if weight is None else weight
    best = minimize_scalar(lambda t: loss_at(LOGITS, Y, w, t), bracket=(0, 1), tol=1e-12)
    np.testing.assert_allclose(found.temperature, scale * np.exp(best.x), rtol=1e-6)
    np.testing.assert_allclose(found.log_loss, best.fun, rtol=1e-12)
    assert bool(found.bounded)


def test_temperature_of_float32_and_of_two_classes_from_one_output():
    lead = LOGITS[:, :1].astype(np.float32)
    y = (Y == 0).astype(int)
    found = mlp.fit_temperature(lead, y)
    both = np.concatenate([0 * lead, lead], axis=1).astype(float)
    best = minimize_scalar(lambda t: loss_at(both, y, np.ones(N), t), bracket=(0, 1), tol=1e-12)
    np.testing.assert_allclose(found.temperature, np.exp(best.x), rtol=1e-4)
    assert found.temperature.dtype == jnp.float32


def test_calibration_brings_confidence_to_accuracy():
    """Guo et al.: overconfident logits have a smaller calibration error at their temperature."""
    before = softmax(LOGITS, axis=1)
    after = softmax(LOGITS / float(mlp.fit_temperature(LOGITS, Y).temperature), axis=1)
    error = [float(metrics.calibration_error(p, Y, bins=5)) for p in (before, after)]
    assert error[1] < error[0] / 2


@pytest.mark.parametrize("y", ["right", "wrong", "flat"])
def test_where_no_temperature_is_best_it_says_so_and_stays_finite(y):
    logits = LOGITS if y != "flat" else np.zeros((N, C))
    labels = logits.argmax(axis=1) if y != "wrong" else logits.argmin(axis=1)
    found = mlp.fit_temperature(logits, labels)
    assert not bool(found.bounded)
    assert 0 < float(found.temperature) < np.inf
    limit = {"right": 0, "wrong": np.log(C), "flat": np.log(C)}[y]
    np.testing.assert_allclose(found.log_loss, limit, atol=1e-4)


def test_the_temperature_moves_with_the_logits_as_differences_say():
    slope = jax.jit(jax.grad(lambda h: mlp.fit_temperature(h, Y).temperature))(LOGITS)
    step = 1e-4 * np.cos(np.arange(N * C)).reshape(N, C)
    up, down = (float(mlp.fit_temperature(LOGITS + s, Y).temperature) for s in (step, -step))
    np.testing.assert_allclose(np.sum(slope * step) * 2, up - down, rtol=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_probabilities(temperature):
    """Oracle: softmax and the logistic function of SciPy; F17, of no class at all, thirds."""
    proba = jax.jit(lambda p, t: mlp.predict_proba(p, X, temperature=t, activation="tanh"))
    found = proba(NET, temperature)
    logits = np.asarray(mlp.apply(NET, X, activation="tanh"))
    np.testing.assert_allclose(found, softmax(logits / temperature, axis=1), rtol=1e-12)
    none = proba((NET[0], NET[1]._replace(bias=jnp.full(C, -jnp.inf))), temperature)
    np.testing.assert_allclose(none, np.full((5, C), 1 / C), rtol=1e-12)
    last = mlp.Dense(NET[1].weight[:1], None)
    one = proba((NET[0], last), temperature)
    lead = np.asarray(mlp.apply((NET[0], last), X, activation="tanh"))[:, 0] / temperature
    np.testing.assert_allclose(one, np.stack([expit(-lead), expit(lead)], axis=1), rtol=1e-12)


BAD = {
    "length": (lambda: mlp.fit_temperature(LOGITS, Y[:5]), ValueError, r"y must have shape \(60,"),
    "label": (lambda: mlp.fit_temperature(LOGITS, Y - 1), ValueError, r"y must lie in \[0, 3\)"),
    "floats": (lambda: mlp.fit_temperature(LOGITS, Y * 1.0), TypeError, "whole numbers"),
    "nan": (lambda: mlp.fit_temperature(LOGITS * np.nan, Y), ValueError, "logits must be finite"),
    "F17 -inf": (lambda: mlp.fit_temperature(LOGITS - np.inf, Y), ValueError, "got -inf at row"),
    "weight": (lambda: mlp.fit_temperature(LOGITS, Y, sample_weight=-W), ValueError, "negative"),
    "zero": (lambda: mlp.predict_proba(NET, X, temperature=0.0), ValueError, "must be positive"),
    "many": (lambda: mlp.predict_proba(NET, X, temperature=W), ValueError, "must have shape"),
    "width": (lambda: mlp.predict_proba(NET, X[:, :1]), ValueError, "x must have shape"),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    refused(*BAD[case], ("mlp.fit_temperature: ", "mlp.predict_proba: "))
