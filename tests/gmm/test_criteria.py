"""Criteria against their definitions; BIC and AIC against scikit-learn stand in `test_model`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from jaxnn import gmm, linalg
from jaxnn.gmm import criteria

rng = np.random.default_rng(5)
X = rng.normal(size=(150, 2)) * 2
WEIGHTS, MEANS = np.array([0.5, 0.2, 0.3]), rng.normal(size=(3, 2))
COV = np.array([[1.0, 0.3], [0.3, 2.0]])
MIXTURE = gmm.from_covariances(WEIGHTS, MEANS, COV, family="tied")
W = rng.integers(0, 3, len(X)).astype(float)
JOINT = WEIGHTS * np.stack([multivariate_normal(m, COV).pdf(X) for m in MEANS], axis=1)
RESP = JOINT / JOINT.sum(1, keepdims=True)


def test_icl_is_bic_and_twice_the_entropy():
    """Oracle: the definition in NumPy; a weight is a repetition."""
    entropy = -W @ (RESP * np.log(RESP)).sum(1)
    expected = gmm.bic(MIXTURE, X, W) + 2 * entropy
    np.testing.assert_allclose(gmm.icl(MIXTURE, X, W), expected, rtol=1e-12)


def test_components_that_do_not_overlap_cost_nothing_more():
    apart = MIXTURE._replace(means=1e3 * jnp.arange(6.0).reshape(3, 2))
    np.testing.assert_allclose(gmm.icl(apart, X), gmm.bic(apart, X), rtol=1e-12)
    off = MIXTURE._replace(log_weights=jnp.log(jnp.array([1.0, 0.0, 0.0])))
    np.testing.assert_allclose(gmm.icl(off, X), gmm.bic(off, X), rtol=1e-12)


def test_sums_over_tiles_are_the_sums(monkeypatch):
    """Oracle: all rows in one tile."""
    of = lambda: jax.jit(lambda x, w: criteria.fit_and_entropy(MIXTURE, x, w))(X, W)
    whole = of()
    monkeypatch.setitem(linalg.TILE, "cpu", 1)
    tiled = of()
    np.testing.assert_allclose(tiled, whole, rtol=1e-12)


@pytest.mark.usefixtures("unchecked_types")
def test_bad_input():
    with pytest.raises(ValueError, match=r"gmm\.icl: sample_weight must have shape \(150,\)"):
        gmm.icl(MIXTURE, X, np.ones(3))
    with pytest.raises(
        ValueError, match=r"gmm\.icl: x must be finite, got nan at row, column 0, 0"
    ):
        gmm.icl(MIXTURE, X * np.nan)
