"""Projectors onto what is missing: against linear algebra, one pattern at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import gmm
from jaxnn.gmm.observed import RULES, inverse_factor, projectors, rule_of

rng = np.random.default_rng(0)
K, D = 2, 4
ROOT = rng.normal(size=(K, D, D))
COV = ROOT @ ROOT.transpose(0, 2, 1) + 0.1 * np.eye(D)
MEANS = jnp.asarray(rng.normal(size=(K, D)))
PATTERNS = np.array([[a, b, c, d] for a in (0, 1) for b in (0, 1) for c in (0, 1) for d in (0, 1)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_projectors_are_orthogonal_projections(dtype):
    """Oracle: A_m (A_mᵀ A_m)⁻¹ A_mᵀ and its determinant with NumPy, for all patterns at once."""
    inverse = np.linalg.inv(np.linalg.cholesky(COV)).astype(dtype)
    free, log_norm = jax.jit(projectors)(inverse, PATTERNS.T.astype(bool))
    assert free.dtype == dtype
    tight = 1e-12 if dtype == np.float64 else 1e-5
    for p, pattern in enumerate(PATTERNS.astype(bool)):
        for k in range(K):
            a = inverse[k].astype(float)[:, pattern]
            gram = a.T @ a
            np.testing.assert_allclose(free[k, :, :, p], a @ np.linalg.solve(gram, a.T), atol=tight)
            np.testing.assert_allclose(
                log_norm[k, p], 0.5 * np.linalg.slogdet(gram)[1], rtol=tight, atol=tight
            )


@pytest.mark.parametrize("family", ["full", "diag"])
def test_noise_has_the_conditional_covariance(family):
    """Oracle: P itself, since the noise of the unit vectors is a root of it."""
    given = COV if family == "full" else COV[:, range(D), range(D)]
    cov = gmm.COVARIANCES[family].from_covariances(jnp.asarray(given))
    rule = RULES[type(cov)]
    gap = jnp.asarray(np.repeat([[True, False, True, False]], D, axis=0))

    @jax.jit
    def use(cov):
        rows = rule.rows(jnp.zeros(K), MEANS, cov)(jnp.zeros((D, D)), gap)
        root = rule.noise(rows.free, jnp.broadcast_to(jnp.eye(D), (K, D, D)))
        return root, cov.covariances(MEANS), inverse_factor(MEANS, cov)

    root, dense, inverse = map(np.asarray, use(cov))
    coloured = np.linalg.inv(inverse) @ root
    for k in range(K):
        o, h = [1, 3], [0, 2]
        cross = dense[k][np.ix_(o, h)]
        expected = np.zeros((D, D))
        expected[np.ix_(h, h)] = dense[k][np.ix_(h, h)] - cross.T @ np.linalg.solve(
            dense[k][np.ix_(o, o)], cross
        )
        np.testing.assert_allclose(coloured[k] @ coloured[k].T, expected, atol=1e-12)


@pytest.mark.usefixtures("unchecked_types")
def test_an_unknown_family_is_refused():
    class Odd:
        pass

    with pytest.raises(TypeError, match=r"gmm\.fit: missing values need .*Full, Tied.*got Odd"):
        rule_of("gmm.fit", Odd())  # pyright: ignore[reportArgumentType]
