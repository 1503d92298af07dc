"""The best leave-one-out bandwidths against SciPy's optimiser on the likelihood written out."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize
from scipy.special import logsumexp

from jaxnn import kde

RNG = np.random.default_rng(0)
N = 40
W = RNG.uniform(0.2, 1.0, size=N)
X = (RNG.normal(size=(N, 2)) + 3 * (np.arange(N) % 2)[:, None]) @ np.array([[1, 20], [0, 30.0]])


def logistic(u: np.ndarray) -> np.ndarray:
    """sech²(|u|/2) over its integral in the plane, 8π log 2."""
    half = np.sqrt(np.sum(u**2, axis=2)) / 2
    return -2 * np.log(np.cosh(half)) - np.log(8 * np.pi * np.log(2))


KINDS = {"gaussian": lambda u: np.sum(stats.norm.logpdf(u), axis=2), "logistic": logistic}


def likelihood(root: np.ndarray, weights: np.ndarray, log_kernel) -> float:
    w = weights / weights.sum()
    white = X @ np.linalg.inv(root).T
    exponents = log_kernel(white[:, None] - white[None]) + np.log(w)[None]
    np.fill_diagonal(exponents, -np.inf)
    log_prob = logsumexp(exponents, axis=1) - np.log(1 - w)
    return np.sum(w * log_prob) - np.linalg.slogdet(root)[1]


@pytest.mark.parametrize(("kernel", "full"), [("gaussian", False), ("logistic", True)])
def test_equals_scipys_optimum_of_the_written_out_likelihood(kernel, full):
    """The floor, a ten-thousandth of a variance, is invisible."""

    def root(theta):
        diagonal = np.diag(np.exp(theta[:2]))
        return diagonal + np.array([[0, 0], [theta[2], 0]]) if full else diagonal

    log_kernel = KINDS[kernel]
    found = kde.maximise_leave_one_out(
        jnp.asarray(X), full=full, kernel=kernel, sample_weight=jnp.asarray(9 * W)
    )
    start = np.append(np.log(X.std(axis=0) * 0.5), 0.0)[: 3 if full else 2]
    peer = minimize(lambda t: -likelihood(root(t), W, log_kernel), start, method="Nelder-Mead",
                    options={"xatol": 1e-6, "fatol": 1e-12, "maxiter": 5000})  # fmt: skip
    best = root(peer.x)
    expected = best @ best.T if full else np.diag(best)
    assert bool(found.converged)
    assert not bool(found.floored)
    np.testing.assert_allclose(found.bandwidth, expected, rtol=2e-3)
    given = np.asarray(found.bandwidth)
    mine = np.linalg.cholesky(given) if full else np.diag(given)
    assert float(found.log_prob) == pytest.approx(likelihood(mine, W, log_kernel), rel=1e-9)
    assert float(found.log_prob) > -peer.fun - 1e-6


def test_repeated_rows_are_held_by_the_floor():
    x = jnp.asarray(np.repeat([[0.0, 0], [1, 2], [3, 1], [4, 5]], 10, axis=0))
    found = kde.maximise_leave_one_out(x)
    assert bool(found.floored)
    np.testing.assert_allclose(found.bandwidth, 0.01 * kde.silverman(x), rtol=0.05)


def test_units_and_traced_steps():
    """Scales factor out; no step is the start, Silverman's; nothing is compiled again."""
    scale = np.array([1e-3, 1e4])
    run = lambda x, steps: kde.maximise_leave_one_out(x, max_steps=steps)
    base = run(jnp.asarray(X), 200)
    moved = run(jnp.asarray(X * scale + 1e5), 200)
    np.testing.assert_allclose(moved.bandwidth, base.bandwidth * scale, rtol=1e-5)
    short = run(jnp.asarray(X), 1)
    assert not bool(short.converged)
    np.testing.assert_allclose(short.bandwidth, kde.silverman(jnp.asarray(X)), rtol=1e-4)


def test_a_compact_kernel_is_refused(unchecked_types):
    with pytest.raises(ValueError, match="maximise_leave_one_out: kernel must have infinite"):
        kde.maximise_leave_one_out(jnp.asarray(X), kernel="biweight")
