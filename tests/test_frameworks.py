"""The comparison of frameworks: whoever is installed agrees, and whoever does not is named.

Oracles: gradients by central differences of a loss in NumPy, and planted faults.
"""

import jax
import numpy as np
import pytest

from experiments import frameworks, frameworks_report
from experiments.frameworks_peers import PEERS, Peer

CONFIG = frameworks.Config(hidden=(5,), activations=("sigmoid",), rows=12, steps=3)
INSTALLED = [name for name, peer in PEERS.items() if peer.installed()]


@pytest.fixture(scope="module")
def problem():
    """The problem in float64."""
    return list(frameworks.problems(CONFIG, 0))[1]


@pytest.fixture(scope="module")
def mine(problem):
    """What jaxnn says."""
    return frameworks.jaxnn_answer(problem)


def loss(arrays, problem):
    (w1, b1, w2, b2), rows = arrays, range(len(problem.y))
    logits = 1 / (1 + np.exp(-(problem.x @ w1.T + b1))) @ w2.T + b2
    log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return -log_probs[rows, problem.y].mean(), log_probs


def test_jaxnn_agrees_with_numpy(problem, mine):
    start = [a for pair in zip(problem.weights, problem.biases, strict=True) for a in pair]
    np.testing.assert_allclose(mine.log_probs, loss(start, problem)[1], rtol=1e-12)
    for i, gradient in enumerate(mine.gradient):
        along = np.random.default_rng(i).normal(size=gradient.shape)
        up, down = (
            loss([a + s * 1e-5 * along if j == i else a for j, a in enumerate(start)], problem)[0]
            for s in (1, -1)
        )
        assert (up - down) / 2e-5 == pytest.approx(float((gradient * along).sum()), rel=1e-7)
        np.testing.assert_allclose(
            mine.steps[0][i], start[i] - problem.learning_rate * gradient, rtol=1e-12, atol=1e-15
        )
    assert len(mine.steps) == CONFIG.steps


@pytest.mark.parametrize("name", INSTALLED)
def test_a_framework_agrees(problem, mine, name):
    found = frameworks_report.differences(mine, PEERS[name].answer(problem))
    assert max(found["outputs"], found["gradient"], *found["weights"]) < 1e-13
    assert len(found["weights"]) == CONFIG.steps


def test_differences_are_relative_to_each_array():
    mine = [np.array([1.0, -2.0]), np.array([100.0])]
    theirs = [np.array([1.0, -1.0]), np.array([101.0])]
    assert frameworks_report.relative(mine, theirs) == 0.5  # 1 of 2, not 1 of 100
    assert frameworks_report.relative(mine, mine) == 0.0


def test_there_are_always_two_rivals():
    assert {"flax", "scikit-learn"} <= set(INSTALLED)


def test_a_wrong_framework_and_a_missing_one_are_named(problem, mine):
    wrong = mine._replace(gradient=[1.001 * g for g in mine.gradient])
    answers = {
        (name, precision, "sigmoid"): answer
        for name, answer in {"jaxnn": mine, "flax": mine, "PyTorch": wrong}.items()
        for precision in frameworks_report.PRECISIONS
    }
    versions = {"flax": "1", "PyTorch": "2"}
    outcome = frameworks_report.report(CONFIG, answers, versions, ["TensorFlow"])
    assert "DISAGREEING: PyTorch (float32) and PyTorch (float64)" in outcome.finding
    assert "not installed, hence not compared: TensorFlow." in outcome.finding
    outcome = frameworks_report.report(CONFIG, {**answers}, {"flax": "1"}, [])
    assert "flax 1 agree" in outcome.finding
    assert "DISAGREE" not in outcome.finding
    assert not Peer("no_such_package", lambda problem: mine).installed()


def test_precision_is_asked_for_and_left_as_it_was(problem):
    before = jax.config.read("jax_enable_x64")
    single = next(frameworks.problems(CONFIG, 0))
    assert single.x.dtype == np.float32
    np.testing.assert_array_equal(single.weights[0], problem.weights[0])  # the same numbers
    with jax.enable_x64(False):
        answer = frameworks.jaxnn_answer(single)
    assert {a.dtype for a in (answer.log_probs, *answer.gradient)} == {np.dtype(np.float32)}
    assert jax.config.read("jax_enable_x64") == before
