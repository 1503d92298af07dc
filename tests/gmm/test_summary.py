"""Whole mixtures against NumPy, SciPy's normal distribution, and their own inverse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from scipy import stats

from jaxnn import gmm

rng = np.random.default_rng(6)
WEIGHTS, MEANS, DEVIATIONS = np.array([0.5, 0.2, 0.3]), np.array([-3.0, 0.5, 4.0]), [0.5, 1.0, 2.0]
LINE = gmm.from_covariances(WEIGHTS, MEANS[:, None], np.square(DEVIATIONS), family="spherical")
X = np.linspace(-12, 15, 40)
P = np.array([1e-12, 0.01, 0.3, 0.5, 0.9, 0.999])


def test_mean_and_covariance_are_those_of_draws():
    """Oracle: closed moments in NumPy, E[xxᵀ] − mmᵀ."""
    root, means = rng.normal(size=(3, 2, 2)), rng.normal(size=(3, 2))
    dense = root @ root.transpose(0, 2, 1) + np.eye(2)
    mixture = gmm.from_covariances(WEIGHTS, means, dense)
    mean = WEIGHTS @ means
    second = np.einsum("k,kij->ij", WEIGHTS, dense + means[:, :, None] * means[:, None])
    np.testing.assert_allclose(gmm.mean(mixture), mean, rtol=1e-12)
    np.testing.assert_allclose(
        gmm.covariance(mixture), second - np.outer(mean, mean), rtol=1e-12, atol=1e-12
    )


def test_cdf_is_scipys():
    expected = stats.norm.cdf(X[:, None], MEANS, DEVIATIONS) @ WEIGHTS
    np.testing.assert_allclose(gmm.cdf(LINE, X[:, None]), expected, rtol=1e-12, atol=1e-300)


def test_quantile_inverts_the_cdf():
    """Oracle: scipy's cdf at the answer; a dead component far away changes nothing."""
    found = gmm.quantile(LINE, P)
    back = stats.norm.cdf(found, MEANS, DEVIATIONS) @ WEIGHTS
    np.testing.assert_allclose(back, P, rtol=1e-11)
    moved = LINE._replace(
        log_weights=jnp.log(np.array([0.5, 0.2, 0]) / 0.7), means=LINE.means.at[2].set(1e6)
    )
    alive = stats.norm.cdf(gmm.quantile(moved, P), MEANS[:2], DEVIATIONS[:2]) @ WEIGHTS[:2]
    np.testing.assert_allclose(alive, P * 0.7, rtol=1e-11)


def test_a_gap_has_a_finite_quantile_without_slope():
    """Half of the mass at -1e3, half at 1e3: every point between is a median."""
    gap = gmm.from_covariances(
        np.array([0.5, 0.5, 0]), np.array([[-1e3], [1e3], [0]]), np.ones(3), family="spherical"
    )
    value, slope = jax.value_and_grad(lambda p: gmm.quantile(gap, p)[0, 0])(jnp.array([0.5]))
    assert abs(value) <= 1e3
    assert slope == 0


BAD = {
    "two columns": (lambda: gmm.cdf(gmm.GMM(jnp.zeros(1), jnp.zeros((1, 2)), LINE.cov), X[:, None]),
                    ValueError, "one column, got 2; gmm.marginal"),
    "p": (lambda: gmm.quantile(LINE, np.array([0.5, 1.0])), ValueError, "strictly between 0 and 1"),
    "p shape": (lambda: gmm.quantile(LINE, P[:, None]), ValueError, r"p must have shape \(any,\)"),
    "no mixture": (lambda: gmm.mean(None), TypeError, "mixture must be a GMM"),
    "none": (lambda: gmm.covariance(0), TypeError, "mixture must be a GMM"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    refused(*BAD[case], where="gmm.")
