"""Each family of the table against dense matrices in NumPy and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from jaxnn.gmm.covariances import Diag, Full, Spherical, Tied
from jaxnn.gmm.family import Whitened

COVARIANCES = {"full": Full, "tied": Tied, "diag": Diag, "spherical": Spherical}
K, D = 3, 2
rng = np.random.default_rng(1)
MEANS = jnp.asarray(rng.normal(size=(K, D)))
ROOT = rng.normal(size=(K, D, D))
FULL = ROOT @ ROOT.transpose(0, 2, 1) + 0.5 * np.eye(D)
GIVEN = {"full": FULL, "tied": FULL[0], "diag": np.array(rng.uniform(0.5, 2, (K, D))),
         "spherical": np.array(rng.uniform(0.5, 2, K))}  # fmt: skip


def dense(name: str) -> np.ndarray:
    """The covariance matrices that `GIVEN` describes, by NumPy alone."""
    given = GIVEN[name]
    if name == "full":
        return given
    if name == "tied":
        return np.stack([given] * K)
    if name == "diag":
        return np.stack([np.diag(v) for v in given])
    return np.stack([v * np.eye(D) for v in given])


@pytest.fixture(params=COVARIANCES)
def name(request):
    return request.param


def test_shape_and_round_trip(name):
    family = COVARIANCES[name]
    assert family.shape(K, D) == GIVEN[name].shape
    cov = family.from_covariances(jnp.asarray(GIVEN[name]))
    np.testing.assert_allclose(cov.covariances(MEANS), dense(name), rtol=1e-12)


def test_whitened_density_is_scipys(name):
    """Oracle: scipy.stats.multivariate_normal."""
    cov = COVARIANCES[name].from_covariances(jnp.asarray(GIVEN[name]))
    x = rng.normal(size=(20, D))
    y = cov.whitener(MEANS)(jnp.asarray(x))
    log_det = np.asarray(cov.log_det(MEANS))
    log_density = -0.5 * np.square(y).sum(1) - log_det[:, None] - D / 2 * np.log(2 * np.pi)
    for k in range(K):
        oracle = multivariate_normal(MEANS[k], dense(name)[k]).logpdf(x)
        np.testing.assert_allclose(log_density[k], oracle, rtol=1e-12)


def test_colour_undoes_whitening(name):
    cov = COVARIANCES[name].from_covariances(jnp.asarray(GIVEN[name]))
    x = rng.normal(size=(20, D))
    y = np.asarray(cov.whitener(MEANS)(jnp.asarray(x)))
    y = jnp.asarray(y[range(K), :, range(K)])
    np.testing.assert_allclose(cov.colour(jnp.arange(K), y) + MEANS, x[:K], rtol=1e-12)


def test_update_is_the_textbook_m_step(name):
    """Oracle: Σ r (x − m)(x − m)ᵀ / Σ r about the new mean, averaged as the family wants."""
    cov = COVARIANCES[name].from_covariances(jnp.asarray(GIVEN[name]))
    n, ridge = 20, np.array([0.1, 0.3])
    x, resp = rng.normal(size=(n, D)), rng.dirichlet(np.ones(K), n).T
    y = cov.whitener(MEANS)(jnp.asarray(x))
    counts = resp.sum(1)
    shift = jnp.asarray(np.einsum("kdc,kc->kd", y, resp) / counts[:, None])
    sums = Whitened(cov.second(y, jnp.asarray(resp)), jnp.asarray(counts), shift, counts > 0)
    new = cov.update(sums, jnp.asarray(ridge)).covariances(MEANS)

    means = (resp @ x) / counts[:, None]
    each = np.stack([(resp[k, :, None] * (x - means[k])).T @ (x - means[k]) for k in range(K)])
    full = each / counts[:, None, None]
    oracle = {
        "full": full + np.diag(ridge),
        "tied": np.stack([each.sum(0) / n + np.diag(ridge)] * K),
        "diag": np.stack([np.diag(np.diag(c) + ridge) for c in full]),
        "spherical": np.stack([(np.trace(c) / D + ridge.mean()) * np.eye(D) for c in full]),
    }[name]
    np.testing.assert_allclose(new, oracle, rtol=1e-10)


def test_a_dead_component_keeps_its_covariance(name):
    cov = COVARIANCES[name].from_covariances(jnp.asarray(GIVEN[name]))
    alive = np.array([True, False, True])
    y = cov.whitener(MEANS)(jnp.asarray(rng.normal(size=(20, D))))
    resp = jnp.asarray(0.5 * alive[:, None] * np.ones((K, 20)))
    sums = Whitened(
        cov.second(y, resp), jnp.array([10.0, 1.0, 10.0]), jnp.zeros((K, D)), jnp.asarray(alive)
    )
    new = cov.update(sums, jnp.zeros(D))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(new))
    if name != "tied":
        np.testing.assert_allclose(new.covariances(MEANS)[1], dense(name)[1], rtol=1e-12)


def test_from_variances(name):
    variances = jnp.array([0.5, 2.0])
    cov = COVARIANCES[name].from_variances(variances, K).covariances(MEANS)
    wanted = np.diag(variances) if name != "spherical" else 1.25 * np.eye(D)
    np.testing.assert_allclose(cov, np.stack([wanted] * K), rtol=1e-12)


def test_number_of_parameters(name):
    """Closed form (McLachlan and Peel, 2000, section 2.2), here for k = 3 and d = 2."""
    assert COVARIANCES[name].n_parameters(K, D) == {
        "full": 9, "tied": 3, "diag": 6, "spherical": 3}[name]  # fmt: skip


def test_validity(name):
    family, given = COVARIANCES[name], jnp.asarray(GIVEN[name])
    assert family.valid(given)
    assert not family.valid(-given)
    if name in ("full", "tied"):
        skew = np.array([[0.0, 0.1], [0.0, 0.0]])
        assert not family.valid(jnp.asarray(GIVEN[name] + skew)), "not symmetric"
