"""Mixtures against SciPy's densities, scikit-learn's criteria, and their own definition."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from scipy import stats
from scipy.special import logsumexp
from sklearn.mixture import GaussianMixture

from jaxnn import gmm
from jaxnn.gmm import model

K, D = 3, 2
rng = np.random.default_rng(2)
X = rng.normal(size=(60, D)) * [1.0, 3.0]
WEIGHTS = np.array([0.5, 0.2, 0.3])
MEANS = rng.normal(size=(K, D))
ROOT = rng.normal(size=(K, D, D))
FULL = ROOT @ ROOT.transpose(0, 2, 1) + 0.5 * np.eye(D)
GIVEN = {"full": FULL, "tied": FULL[0], "diag": FULL[:, [0, 1], [0, 1]], "spherical": FULL[:, 0, 0]}


def mixture(family: str = "full", dtype=np.float64) -> gmm.GMM:
    parts = (WEIGHTS, MEANS, GIVEN[family])
    return gmm.from_covariances(*(a.astype(dtype) for a in parts), family=family)


def scipy_joint(family: str, x: np.ndarray) -> np.ndarray:
    dense = mixture(family).cov.covariances(jnp.asarray(MEANS))
    columns = [
        np.log(WEIGHTS[k]) + stats.multivariate_normal(MEANS[k], dense[k]).logpdf(x)
        for k in range(K)
    ]
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("family", GIVEN)
def test_densities_are_scipys(family):
    """Oracle: scipy.stats in float64, to 1e-12."""
    joint, m = scipy_joint(family, X), mixture(family)
    close = partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12)
    close(gmm.log_joint(m, X), joint)
    close(gmm.log_prob(m, X), logsumexp(joint, axis=1))
    close(gmm.posterior(m, X), np.exp(joint - logsumexp(joint, axis=1)[:, None]))
    np.testing.assert_array_equal(gmm.predict(m, X), joint.argmax(1))


def test_tiles_change_nothing(monkeypatch):
    """Oracle: the untiled result; 60 rows in tiles of 7 and a ragged rest."""
    whole = gmm.log_prob(mixture(), X), gmm.log_joint(mixture(), X)
    monkeypatch.setattr("jaxnn.gmm.forms.tile_rows", lambda n, width: 7)
    # Jitted anew, so that the patch is seen.
    for function, expected in zip((model._log_prob, model._log_joint), whole, strict=True):
        tiled = jax.jit(lambda m, x, f=function: f.__wrapped__(m, x))(mixture(), X)
        np.testing.assert_allclose(tiled, expected, rtol=1e-13)


def test_density_integrates_to_one():
    """Oracle: a Riemann sum over a grid that holds all of the mass."""
    axis = np.linspace(-25, 25, 401)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    total = np.exp(gmm.log_prob(mixture(), grid)).sum() * (axis[1] - axis[0]) ** 2
    np.testing.assert_allclose(total, 1, rtol=1e-6)


def test_far_points_keep_a_finite_log_density():
    """C32, B15: the density underflows, its logarithm and the posterior do not."""
    far = np.full((1, D), 1e6)
    assert np.isfinite(gmm.log_prob(mixture(), far)).all()
    np.testing.assert_allclose(gmm.posterior(mixture(), far).sum(), 1)


@pytest.mark.parametrize("family", ["full", "diag"])
def test_samples_follow_the_mixture(family):
    """Mean and covariance within 5 standard errors of their closed forms."""
    m, n = mixture(family), 40_000
    x = np.asarray(gmm.sample(jax.random.key(0), m, n))
    dense = np.asarray(m.cov.covariances(jnp.asarray(MEANS)))
    mean = WEIGHTS @ MEANS
    centred = MEANS - mean
    cov = np.einsum("k,kij->ij", WEIGHTS, dense + centred[:, :, None] * centred[:, None])
    assert np.all(np.abs(x.mean(0) - mean) < 5 * np.sqrt(np.diag(cov) / n))
    products = (x - mean)[:, :, None] * (x - mean)[:, None]
    error = products.std(0) / np.sqrt(n)
    assert np.all(np.abs(products.mean(0) - cov) < 5 * error)


def test_a_component_of_weight_zero_is_absent():
    """Oracle: the mixture without it; nothing is NaN, gradients neither."""
    m = mixture()
    off = m._replace(log_weights=jnp.log(jnp.array([0.7, 0.3, 0.0])))
    two = gmm.from_covariances(np.array([0.7, 0.3]), MEANS[:2], FULL[:2])
    np.testing.assert_allclose(gmm.log_prob(off, X), gmm.log_prob(two, X), rtol=1e-12)
    assert gmm.n_parameters(off) == gmm.n_parameters(two) == 2 * 3 + 2 * 2 + 1
    gradient = jax.grad(lambda w: gmm.log_prob(off._replace(log_weights=w), X).sum())
    assert bool(jnp.all(jnp.isfinite(gradient(off.log_weights))))


@pytest.mark.parametrize("family", ["full", "spherical"])
def test_criteria_are_scikit_learns(family):
    """Oracle: GaussianMixture.bic and .aic on a fitted model, and repetition for weights."""
    oracle = GaussianMixture(K, covariance_type=family, random_state=0).fit(X)
    m = gmm.from_covariances(oracle.weights_, oracle.means_, oracle.covariances_, family=family)
    np.testing.assert_allclose(gmm.bic(m, X), oracle.bic(X), rtol=1e-10)
    np.testing.assert_allclose(gmm.aic(m, X), oracle.aic(X), rtol=1e-10)
    w = rng.integers(0, 3, len(X))
    repeated = np.repeat(X, w, axis=0)
    np.testing.assert_allclose(gmm.bic(m, X, w.astype(float)), oracle.bic(repeated), rtol=1e-10)
    np.testing.assert_allclose(gmm.aic(m, X, w.astype(float)), oracle.aic(repeated), rtol=1e-10)


BAD = {
    "width": (lambda: gmm.log_prob(mixture(), X[:, :1]), ValueError, r"\(any, 2\), got \(60, 1\)"),
    "rank": (lambda: gmm.predict(mixture(), X[0]), ValueError, "x must have shape"),
    "empty": (lambda: gmm.posterior(mixture(), X[:0]), ValueError, "x must not be empty"),
    "NaN": (lambda: gmm.log_joint(mixture(), X * np.nan), ValueError, "x must be finite"),
    "integers": (lambda: gmm.log_prob(mixture(), X.astype(int)), TypeError, "as_float"),
    "dtype": (lambda: gmm.log_prob(mixture(dtype=np.float32), X), TypeError, "x must be float32"),
    "C26 none": (lambda: gmm.sample(jax.random.key(0), mixture(), 0), ValueError, "n must be"),
    "C27 negative": (lambda: gmm.sample(jax.random.key(0), mixture(), -1), ValueError, "n must"),
    "H1 no key": (lambda: gmm.sample(0, mixture(), 1), TypeError, "key must be a PRNG key"),
    "C12 sum": (lambda: gmm.from_covariances(2 * WEIGHTS, MEANS, FULL), ValueError, "sum to 1"),
    "C11 sign": (lambda: gmm.from_covariances(-WEIGHTS, MEANS, FULL), ValueError, "negative"),
    "C13 length": (lambda: gmm.from_covariances(WEIGHTS[:2], MEANS, FULL), ValueError, r"\(3,\)"),
    "C15 means": (lambda: gmm.from_covariances(WEIGHTS, MEANS[0], FULL), ValueError, "means"),
    "C17 skew": (lambda: gmm.from_covariances(WEIGHTS, MEANS, ROOT), ValueError, "symmetric"),
    "C18 indefinite": (lambda: gmm.from_covariances(WEIGHTS, MEANS, -FULL), ValueError, "definite"),
    "C19 shape": (lambda: gmm.from_covariances(WEIGHTS, MEANS, FULL, family="tied"), ValueError,
                  r"covariances must have shape \(2, 2\)"),
    "C7 family": (lambda: gmm.from_covariances(WEIGHTS, MEANS, FULL, family="fulll"), ValueError,
                  "mean 'full'.*spherical"),
    "C20 weight": (lambda: gmm.bic(mixture(), X, -np.ones(60)), ValueError, "sample_weight"),
    "C23 weight": (lambda: gmm.aic(mixture(), X, np.ones(3)), ValueError, "sample_weight"),
    "C36 leaf": (lambda: gmm.log_prob(mixture()._replace(log_weights=jnp.zeros(2)), X), ValueError,
                 "mixture.log_weights"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    refused(*BAD[case], where="gmm.")
