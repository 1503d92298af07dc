"""The data sets are the real ones: against sums and likelihoods known from elsewhere."""

import jax.numpy as jnp
import numpy as np

from experiments import datasets
from jaxnn import gmm

FAITHFUL = datasets.faithful().astype(np.float64).round(3)


def start() -> gmm.GMM:
    """Means chosen by eye, both covariances those of all data, equal weights."""
    covariance = np.cov(FAITHFUL.T, bias=True)
    return gmm.from_covariances(
        np.array([0.5, 0.5]), np.array([[2.0, 55.0], [4.5, 80.0]]), np.stack([covariance] * 2)
    )


def test_faithful_is_the_data_of_r():
    """The summary that R prints for `faithful`; likelihood and BIC of mclust's VVV model."""
    assert FAITHFUL.shape == (272, 2)
    np.testing.assert_allclose(FAITHFUL.mean(axis=0), [3.487783, 70.897059], atol=1e-6)
    np.testing.assert_array_equal(np.median(FAITHFUL, axis=0), [4.0, 76.0])
    np.testing.assert_array_equal([FAITHFUL.min(0), FAITHFUL.max(0)], [[1.6, 43], [5.1, 96]])
    fit = gmm.fit(start(), FAITHFUL, ridge=0.0, tol=1e-12, max_steps=1000)
    np.testing.assert_allclose(272 * fit.log_lik, -1130.2640, atol=1e-4)
    np.testing.assert_allclose(gmm.bic(fit.mixture, FAITHFUL), 2322.19, atol=5e-3)


def test_first_steps_of_em_on_faithful():
    """Log-likelihoods before each of the first four steps, computed independently."""
    mixture, found = start(), []
    for _ in range(4):
        moments = gmm.e_step(mixture, jnp.asarray(FAITHFUL))
        found.append(moments.log_lik)
        mixture = gmm.m_step(mixture, moments)
    np.testing.assert_allclose(found, [-1327.1024, -1239.8635, -1187.2794, -1164.2489], atol=1e-4)
