"""The fast form of each family against SciPy's densities and NumPy's sums."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from jaxnn import gmm
from jaxnn.gmm.families import COVARIANCES
from jaxnn.gmm.natural import NATURAL

K, D, N = 3, 4, 30
rng = np.random.default_rng(4)
ROOT = rng.normal(size=(K, D, D))
FULL = ROOT @ ROOT.transpose(0, 2, 1) + 0.5 * np.eye(D)
GIVEN = {"full": FULL, "tied": FULL[0], "diag": FULL[:, range(D), range(D)],
         "spherical": FULL[:, 0, 0]}  # fmt: skip
# An offset and units that would ruin uncentred or unscaled squares.
OFFSET = 1e5
MEANS, X = rng.normal(size=(K, D)), 2 * rng.normal(size=(N, D))
RESP = rng.dirichlet(np.ones(K), N).T


@pytest.fixture(params=["full", "tied", "diag", "spherical"])
def name(request):
    return request.param


def unit_of(name: str) -> np.ndarray:
    return np.full(D, 1e-3) if name == "spherical" else np.array([1e-3, 1.0, 1e3, 1.0])


@cache
def case(name: str):
    """A family, means and rows in awkward units, its dense roots, and its fast form."""
    unit = unit_of(name)
    scale = {"full": np.outer(unit, unit), "tied": np.outer(unit, unit), "diag": unit**2,
             "spherical": unit[0] ** 2}[name]  # fmt: skip
    cov = COVARIANCES[name].from_covariances(jnp.asarray(GIVEN[name] * scale))
    means, x = MEANS * unit + OFFSET * unit, X * unit + OFFSET * unit
    roots = np.linalg.cholesky(np.asarray(cov.covariances(jnp.asarray(means))))
    centre = jnp.asarray(means.mean(0))
    return cov, means, x, roots, NATURAL[type(cov)](cov, jnp.asarray(means), centre)


def test_density_is_scipys(name):
    """Oracle: scipy.stats.multivariate_normal in plain units; `forms` adds the normalisation."""
    cov, means, x, _, natural = case(name)
    fast = natural.eta @ natural.statistics(natural.place(jnp.asarray(x)))
    fast -= cov.log_det(jnp.asarray(means))[:, None] + D / 2 * np.log(2 * np.pi)
    plain = COVARIANCES[name].from_covariances(jnp.asarray(GIVEN[name]))
    dense = np.asarray(plain.covariances(jnp.asarray(MEANS)))
    for k in range(K):
        oracle = multivariate_normal(MEANS[k], dense[k]).logpdf(X) - np.log(unit_of(name)).sum()
        np.testing.assert_allclose(fast[k], oracle, rtol=1e-9)


def test_sums_are_the_whitened_moments(name):
    """Oracle: Σ r, Σ r y and Σ r yyᵀ by NumPy, with y = S⁻¹(x − m)."""
    _, means, x, roots, natural = case(name)
    t = natural.statistics(natural.place(jnp.asarray(x)))
    counts, first, second = natural.finish(natural.collect(t, jnp.asarray(RESP)))
    y = np.stack([np.linalg.solve(roots[k], (x - means[k]).T) for k in range(K)])
    outer = np.einsum("kin,kjn,kn->kij", y, y, RESP)
    oracle = {"full": outer, "tied": outer.sum(0), "diag": outer[:, range(D), range(D)],
              "spherical": np.trace(outer, axis1=1, axis2=2) / D}[name]  # fmt: skip
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8)
    close(counts, RESP.sum(1))
    close(first, np.einsum("kin,kn->ki", y, RESP))
    close(second, oracle)


def test_statistics_end_with_one_and_probes_reach_the_rows(name):
    """Rows of a component lie within a few probes; columns are centred and of unit size."""
    cov, means, x, _, natural = case(name)
    z = np.asarray(natural.place(jnp.asarray(x)))
    np.testing.assert_array_equal(natural.statistics(jnp.asarray(z))[-1], 1)
    assert natural.probes.shape == (D, K)
    assert np.all(np.abs(z) < 8 * np.asarray(natural.probes).max(1, keepdims=True))
    if name != "tied":
        np.testing.assert_allclose(np.asarray(natural.probes).max(), 1, rtol=1e-12)
    mixture = gmm.GMM(jnp.zeros(K), jnp.asarray(means), cov)
    own = np.asarray(gmm.sample(jax.random.key(0), mixture, 200))
    spread = np.sqrt(np.mean(np.square(natural.place(jnp.asarray(own))), axis=1))
    assert np.all(spread < 1.2 * np.asarray(natural.probes).max(1))
