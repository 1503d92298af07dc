"""Components of every family against dense matrices and SciPy."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxnn import gmm
from jaxnn.gmm import gaussians

rng = np.random.default_rng(13)
WEIGHTS, MEANS, X = np.array([0.4, 0.6]), rng.normal(size=(2, 2)), rng.normal(size=(4, 2))
FULL = np.array([[[2.0, 0.3], [0.3, 0.5]], [[1.0, -0.4], [-0.4, 0.7]]])
GIVEN = {"full": FULL, "tied": FULL[0], "diag": FULL[:, 0] ** 2, "spherical": FULL[:, 0, 0]}


@pytest.mark.parametrize("family", GIVEN)
def test_roots_and_densities(family):
    """Oracle: the roots' squares, and scipy.stats."""
    mixture = gmm.from_covariances(WEIGHTS, MEANS, GIVEN[family], family=family)
    dense = np.asarray(mixture.cov.covariances(mixture.means))
    root = np.asarray(gaussians.roots(mixture))
    np.testing.assert_allclose(root @ root.transpose(0, 2, 1), dense, rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(np.triu(root, 1), 0)
    found = gaussians.joint(mixture, mixture.cov.whitener(mixture.means)(jnp.asarray(X)))
    expected = [np.log(w) + stats.multivariate_normal(m, c).logpdf(X)
                for w, m, c in zip(WEIGHTS, MEANS, dense, strict=True)]  # fmt: skip
    np.testing.assert_allclose(found, expected, rtol=1e-12)
