"""Priors against scikit-learn's defaults, and what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from sklearn.datasets import load_iris
from sklearn.mixture import BayesianGaussianMixture

from jaxnn import gmm
from jaxnn.gmm.bayes_priors import prior_factor

X = load_iris().data


@pytest.mark.parametrize("family", ["full", "tied", "diag", "spherical"])
def test_defaults_are_scikit_learns(family):
    """Oracle: the priors that BayesianGaussianMixture takes from the data; no ridge."""
    oracle = BayesianGaussianMixture(n_components=5, covariance_type=family, max_iter=0).fit(X)
    prior = gmm.bayes_prior(X, 5, family=family, ridge=0.0)
    np.testing.assert_allclose(prior.covariance, oracle.covariance_prior_, rtol=1e-10)
    np.testing.assert_allclose(prior.mean, oracle.mean_prior_, rtol=1e-12)
    assert prior.dof == oracle.degrees_of_freedom_prior_
    assert prior.mean_precision == oracle.mean_precision_prior_
    np.testing.assert_array_equal(prior.weights.left, oracle.weight_concentration_prior_)
    np.testing.assert_array_equal(prior.weights.taken, 1)


def test_ridge_is_a_share_of_the_variance():
    """Oracle: the covariance plus its diagonal; a constant column gets the ridge itself."""
    x = np.c_[X, np.full(150, 7.0)]
    spread = np.cov(x.T)
    spread[4, 4] = 0.0
    expected = spread + 0.1 * np.diag([*x[:, :4].var(0), 1.0])
    given = gmm.bayes_prior(x, 2, ridge=0.1).covariance
    np.testing.assert_allclose(given, expected, rtol=1e-10, atol=1e-12)


def test_a_number_and_a_vector_stand_for_matrices():
    """Oracle: the factor of the matrix they stand for."""
    np.testing.assert_allclose(prior_factor(jnp.array(4.0), 2), 2 * np.eye(2))
    np.testing.assert_allclose(prior_factor(jnp.array([4.0, 9.0]), 2), np.diag([2.0, 3.0]))
    matrix = np.array([[4.0, 2.0], [2.0, 5.0]])
    np.testing.assert_allclose(prior_factor(jnp.asarray(matrix), 2), np.linalg.cholesky(matrix))


BAD = {
    "family": ({"family": "round"}, ValueError, "unknown family 'round'"),
    "weights": ({"weights": "dirichlett"}, ValueError, "mean 'dirichlet'"),
    "concentration": ({"concentration": 0.0}, ValueError, "concentration must be positive"),
    "precision": ({"mean_precision": -1.0}, ValueError, "mean_precision must be positive"),
    "dof": ({"dof": 3.0}, ValueError, r"dof minus 3 \(d - 1\) must be positive"),
    "mean": ({"mean": np.ones(3)}, ValueError, r"mean must have shape \(4,\)"),
    "covariance": ({"covariance": -np.eye(4)}, ValueError, "covariance must be positive definite"),
    "shape": ({"covariance": np.eye(3)}, ValueError, r"covariance must have shape \(4, 4\)"),
    "ridge": ({"ridge": -1.0}, ValueError, "ridge must be non-negative"),
    "weight": ({"sample_weight": -np.ones(150)}, ValueError, "sample_weight must not be negative"),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    options, error, message = BAD[case]
    refused(lambda: gmm.bayes_prior(X, 2, **options), error, message, "gmm.bayes_prior: ")
