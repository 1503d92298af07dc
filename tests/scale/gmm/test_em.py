"""Oracle: `gmm.fit` on all rows in memory; devices and processes are in `tests/scale`."""

import jax
import numpy as np
import pytest
from refusals import refused

from jaxnn import gmm, scale, train

rng = np.random.default_rng(0)
X = rng.normal(size=(90, 2)) + 3 * rng.integers(3, size=(90, 1))
W = rng.uniform(0.5, 1.5, 90)
W[40:55] = 0
START = gmm.init(jax.random.key(0), X, 3)
WHERE = "scale.gmm.fit"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    np.save(folder / "x.npy", X)
    np.save(folder / "w.npy", W)
    return folder


def test_a_stream_of_a_file_gives_the_fit_in_memory(path):
    source = scale.npy(path / "x.npy", weight=path / "w.npy")
    options = {"ridge": 1e-3, "ridge_absolute": 1e-3, "tol": 1e-7,
               "prior": gmm.default_prior(X, 3)}  # fmt: skip
    seen = []
    found = scale.gmm.fit(
        START, source, chunk=20, progress=lambda *line: seen.append(line), **options
    )
    expected = gmm.fit(START, X, sample_weight=W, **options)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-9), found, expected)
    assert [steps for steps, _ in seen] == list(range(int(expected.steps) + 1))
    np.testing.assert_allclose(seen[-1][1], expected.objective)


def test_a_fit_can_be_taken_step_by_step():
    """What a checkpoint would keep: the state alone goes on where it was."""
    climb, state = scale.gmm.begin(START, train.Batch(X, weight=W), chunk=20, max_steps=3)
    for _ in range(2):
        state, more = scale.gmm.advance(climb, state)
        assert more
    kept = jax.tree.map(np.asarray, state)
    again, _ = scale.gmm.begin(START, train.Batch(X, weight=W), chunk=20, max_steps=3)
    more = True
    while more:
        kept, more = scale.gmm.advance(again, kept)
    found = scale.gmm.finish(again, kept)
    expected = gmm.fit(START, X, sample_weight=W, max_steps=3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-9), found, expected)
    assert found.status == gmm.Status.OUT_OF_STEPS


@pytest.mark.usefixtures("unchecked_types")
def test_what_does_not_fit_is_refused():
    few = X[:5]
    broken = START._replace(means=START.means * np.nan)
    cases = [
        (lambda: scale.gmm.fit(3, X), TypeError, "mixture must be a GMM"),
        (lambda: scale.gmm.fit(broken, X), ValueError, "mixture must be finite"),
        (lambda: scale.gmm.fit(START, X[:, :1]), ValueError, "the 2 columns of the mixture, got 1"),
        (lambda: scale.gmm.fit(START, X.astype(np.float32)), TypeError, "must be float64 like"),
        (lambda: scale.gmm.fit(START, X, ridge=-1.0), ValueError, "ridge must be non-negative"),
        (lambda: scale.gmm.fit(START, X, tol=np.nan), ValueError, "tol must be"),
        (lambda: scale.gmm.fit(START, X, max_steps=-1), ValueError, "max_steps must be at least"),
        (
            lambda: scale.gmm.fit(START, few[:2]),
            ValueError,
            "at least 3 rows for 3",
        ),
        (lambda: scale.gmm.fit(START, X, prior=3), TypeError, "prior"),
    ]
    for call, error, message in cases:
        refused(call, error, message, WHERE)
