"""EM against scikit-learn's from the same start, and against what must hold."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from jaxnn import gmm
from jaxnn.gmm import outcome

X = load_iris().data
K = 3
FAMILIES = ("full", "tied", "diag", "spherical")  # `test_families` has the others
KEY = jax.random.key(1)


@cache
def start_of(family: str) -> gmm.GMM:
    return gmm.init(KEY, X, K, family=family)


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def native(family: str, cov: np.ndarray) -> np.ndarray:
    """Dense matrices (k, d, d) in the shape that scikit-learn keeps for a family."""
    if family == "tied":
        return cov[0]
    diagonal = np.diagonal(cov, axis1=1, axis2=2)
    return {"full": cov, "diag": diagonal, "spherical": diagonal[:, 0]}[family]


@pytest.mark.parametrize("steps", [1, 7])
def test_equals_scikit_learn_step_by_step(family, steps):
    """Oracle: GaussianMixture from the same start, no ridge, after the same number of steps."""
    start = start_of(family)
    dense = np.asarray(start.cov.covariances(start.means))
    oracle = GaussianMixture(
        K, covariance_type=family, reg_covar=0, tol=0, max_iter=steps,
        weights_init=np.exp(start.log_weights), means_init=np.asarray(start.means),
        precisions_init=native(family, np.linalg.inv(dense)),
    )  # fmt: skip
    with pytest.warns(ConvergenceWarning):
        oracle.fit(X)
    fit = gmm.fit(start, X, ridge=0.0, tol=0.0, max_steps=steps)
    assert fit.steps == steps
    np.testing.assert_allclose(np.exp(fit.mixture.log_weights), oracle.weights_, atol=1e-8)
    np.testing.assert_allclose(fit.mixture.means, oracle.means_, atol=1e-8)
    covariances = native(family, np.asarray(fit.mixture.cov.covariances(fit.mixture.means)))
    np.testing.assert_allclose(covariances, oracle.covariances_, atol=1e-8)
    np.testing.assert_allclose(gmm.log_prob(fit.mixture, X), oracle.score_samples(X), atol=1e-8)
    np.testing.assert_allclose(fit.log_lik, oracle.score(X), atol=1e-10)


def test_iris_reaches_the_known_maximum():
    """Reference: log-likelihood -180.1855 for full covariances, k = 3 (mclust, VVV)."""
    start = gmm.from_labels(load_iris().target, X, K)
    fit = gmm.fit(start, X, ridge=0.0, tol=1e-10, max_steps=500)
    np.testing.assert_allclose(fit.log_lik * len(X), -180.1855, atol=1e-3)
    assert fit.converged


def test_never_lowers_the_likelihood(family):
    """EM's own theorem, without ridge, from a start far from any cluster."""
    mixture = start_of(family)._replace(means=jnp.asarray(X[:K] + 2))
    previous = -np.inf
    for _ in range(25):
        moments = gmm.e_step(mixture, X)
        assert moments.log_lik >= previous - 1e-9
        previous = moments.log_lik
        mixture = gmm.m_step(mixture, moments)


def test_log_likelihood_is_that_of_the_returned_mixture(family):
    """Oracle: log_prob; the start itself if no step is allowed."""
    for steps in (0, 1, 5):
        fit = gmm.fit(start_of(family), X, max_steps=steps, tol=0.0)
        np.testing.assert_allclose(fit.log_lik, gmm.log_prob(fit.mixture, X).mean(), rtol=1e-12)
        assert fit.steps == steps
        assert not fit.converged


def test_gain_is_the_last_step(family):
    longer, shorter = (gmm.fit(start_of(family), X, tol=0.0, max_steps=s) for s in (6, 5))
    np.testing.assert_allclose(longer.gain, longer.log_lik - shorter.log_lik, atol=1e-12)


def test_weights_are_repetitions(family):
    """Oracle: numpy.repeat; a weight of zero is an absent row."""
    w = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], 50))
    weighted = gmm.fit(start_of(family), X, sample_weight=w.astype(float), tol=0.0, max_steps=8)
    repeated = gmm.fit(start_of(family), np.repeat(X, w, axis=0), tol=0.0, max_steps=8)
    np.testing.assert_allclose(weighted.log_lik, repeated.log_lik, rtol=1e-10)
    np.testing.assert_allclose(weighted.mixture.means, repeated.mixture.means, rtol=1e-8)


@pytest.mark.parametrize("family", ["full", "tied", "diag"])
def test_units_and_offsets_change_nothing(family):
    """Columns times 1e-6 and 1e6, shifted by 1e6 deviations: the same fit (float64)."""
    scale, offset = np.array([1e-6, 1.0, 1e6, 1.0]), np.array([0.0, 1e6, 0.0, -1e6])
    z = (X + offset) * scale
    plain = gmm.fit(start_of(family), X, tol=0.0, max_steps=10)
    moved = gmm.fit(gmm.init(KEY, z, K, family=family), z, tol=0.0, max_steps=10)
    means = np.asarray(moved.mixture.means) / scale - offset
    np.testing.assert_allclose(means, plain.mixture.means, atol=1e-6)
    np.testing.assert_allclose(moved.log_lik + np.log(scale).sum(), plain.log_lik, atol=1e-6)


def test_float32_holds_its_fit_in_any_units_and_offsets(family):
    """Oracle: the float64 fit of the same rows, rounded as float32 holds them; as far as that."""
    scale, offset = np.array([1e-6, 1.0, 1e6, 1.0]), np.array([0.0, 1e4, 0.0, -1e4])
    scale = np.full(4, 1e6) if family == "spherical" else scale
    x = ((X + offset) * scale).astype(np.float32)
    start = start_of(family)
    by = {"full": scale[None, :, None], "tied": scale[:, None], "diag": scale[None],
          "spherical": scale[:3]}[family]  # fmt: skip
    moved = gmm.GMM(
        start.log_weights,
        (start.means + offset[None]) * scale[None],
        jax.tree.map(lambda leaf: leaf * by, start.cov),
    )
    single, double = (
        gmm.fit(jax.tree.map(lambda leaf, t=t: leaf.astype(t), moved), x.astype(t), max_steps=5)
        for t in (np.float32, np.float64)
    )
    np.testing.assert_allclose(single.log_lik, double.log_lik, atol=2e-3)
    error = np.asarray(single.mixture.means, np.float64) - np.asarray(double.mixture.means)
    assert np.abs(error / scale).max() < 5e-3


# All of the shape of the other tests, so that one compilation serves them; and which families
# must say that the fit is degenerate: those that see a direction in which rows do not vary (beside
# an outlier of 1e6 deviations all the others are one point), or too few points for the components.
SEE = ("full", "tied", "diag")
HARD = {
    "D1 identical rows": (np.ones((150, 4)), FAMILIES),
    "D2 two points": (np.repeat([np.zeros(4), np.ones(4)], 75, axis=0), FAMILIES),
    "D3 one point and an outlier": (np.r_[np.tile(X[:1], (149, 1)), X[100:101]], FAMILIES),
    "D4 constant column": (np.c_[X[:, :3], np.full(150, 7.0)], SEE),
    "D5 collinear": (np.c_[X[:, :3], X[:, 0] - X[:, 1]], ("full", "tied")),
    "D12 duplicates": (np.round(X), None),
    "D13 outlier": (np.r_[X[:149], [[1e6, -1e6, 1e6, -1e6]]], FAMILIES),
    "B10 offset": (X + 1e4, ()),
    "B11 small": (X * 1e-6, ()),
    "B12 large": (X * 1e12, ()),
    "B13 subnormal": (X * 1e-310, FAMILIES),  # as good as zero to XLA
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", HARD)
def test_hard_data_gives_a_finite_fit(case, dtype, family):
    """Never NaN, never a hang: a finite mixture whose weights sum to 1, and a status."""
    x, degenerate = HARD[case]
    fit = finite_fit(x.astype(dtype), family)
    if degenerate is not None:
        told = gmm.Status.DEGENERATE if family in degenerate else gmm.Status.CONVERGED
        assert fit.status == told, gmm.describe(fit)


@pytest.mark.parametrize(("family", "dtype"), [("full", np.float32), ("tied", np.float64)])
def test_more_features_than_rows_give_a_finite_fit(family, dtype):
    """D6, and D7 in small; the other families never see a matrix of features by features.

    Legal, though at the start a warning asks whether rows and columns are exchanged (A21).
    """
    x = np.random.default_rng(0).normal(size=(12, 30)).astype(dtype)
    with pytest.warns(UserWarning, match=r"gmm.init: .*\(12, 30\).* give x.T"):
        fit = finite_fit(x, family)
    assert fit.status == gmm.Status.DEGENERATE


def test_more_components_than_clusters_end_and_say_so():
    """D11: 50 for three species, so that some have hardly a row of their own."""
    start = gmm.GMM(np.log(np.full(50, 0.02)), X[::3], gmm.Spherical(np.full(50, 0.1)))
    fit = gmm.fit(jax.tree.map(jnp.asarray, start), X, max_steps=1000)
    assert fit.status == gmm.Status.DEGENERATE, gmm.describe(fit)
    assert outcome.sound(fit.mixture)


def test_another_order_of_the_components_is_the_same_fit():
    """D17: labels switch with it; the density, by which runs can be compared, does not."""
    start, turn = start_of("full"), np.array([2, 0, 1])
    turned = jax.tree.map(lambda leaf: leaf[turn], start)
    one, other = gmm.fit(start, X), gmm.fit(turned, X)
    np.testing.assert_allclose(other.mixture.means, one.mixture.means[turn], rtol=1e-6)
    ours, theirs = gmm.log_prob(one.mixture, X), gmm.log_prob(other.mixture, X)
    np.testing.assert_allclose(theirs, ours, rtol=1e-6)


def finite_fit(x: np.ndarray, family: str) -> gmm.Fit:
    dtype = x.dtype
    fit = gmm.fit(gmm.init(KEY, x, K, family=family), x)
    used = [np.exp(fit.mixture.log_weights), fit.mixture.means, *fit.mixture.cov, fit.log_lik]
    assert all(np.isfinite(a).all() and a.dtype == dtype for a in used)
    np.testing.assert_allclose(used[0].sum(), 1, rtol=1e-5)
    return fit


def test_a_dead_component_stays_where_it_was(family):
    """D9: no rows, so weight 0; not mean 0 and a ridge for a covariance, as elsewhere."""
    start = start_of(family)
    lost = start._replace(means=start.means.at[2].set(1e4))
    fit = gmm.fit(lost, X, max_steps=5, tol=0.0)
    np.testing.assert_array_equal(fit.mixture.means[2], 1e4)
    assert np.exp(fit.mixture.log_weights[2]) == 0
    np.testing.assert_allclose(np.exp(fit.mixture.log_weights).sum(), 1, rtol=1e-12)
    assert np.isfinite(gmm.log_prob(fit.mixture, X)).all()


def test_ridge_is_a_share_of_the_variance():
    """Oracle: one component, where Σ = covariance + ridge·diag(variance) in closed form."""
    start = gmm.init(KEY, X, 1)
    fit = gmm.fit(start, X, ridge=0.1, max_steps=1, tol=0.0)
    cov = np.cov(X.T, bias=True)
    np.testing.assert_allclose(
        fit.mixture.cov.covariances(fit.mixture.means)[0], cov + 0.1 * np.diag(np.diag(cov)),
        rtol=1e-10,
    )  # fmt: skip
    given = np.array([0.5, 0.0, 1.0, 2.0])
    both = gmm.fit(start, X, ridge=0.1, ridge_absolute=given, max_steps=1, tol=0.0)
    np.testing.assert_allclose(
        both.mixture.cov.covariances(both.mixture.means)[0],
        cov + 0.1 * np.diag(np.diag(cov)) + np.diag(given), rtol=1e-10,
    )  # fmt: skip
    absolute = gmm.m_step(start, gmm.e_step(start, X), ridge=0.5)
    np.testing.assert_allclose(
        absolute.cov.covariances(absolute.means)[0], cov + 0.5 * np.eye(4), rtol=1e-10
    )


def test_batches_of_fits_equal_the_separate_ones():
    """vmap over starts and tolerances; oracle: one fit at a time.  `test_batch` has weights."""
    starts = [gmm.init(key, X, K) for key in jax.random.split(KEY, 3)]
    tols = np.array([1e-2, 1e-4, 1e-3])
    stack = jax.tree.map(lambda *leaves: np.stack(leaves), *starts)
    batch = jax.jit(jax.vmap(lambda start, tol: gmm.fit(start, X, tol=tol)))(stack, tols)
    for i in range(3):
        alone = gmm.fit(starts[i], X, tol=tols[i])
        assert alone.steps == batch.steps[i]
        assert alone.status == batch.status[i]
        np.testing.assert_allclose(alone.log_lik, batch.log_lik[i], rtol=1e-10)
        np.testing.assert_allclose(alone.mixture.means, batch.mixture.means[i], rtol=1e-8)


def test_memory_does_not_grow_with_rows_times_components():
    """The compiled fit's temporaries stay far below one n × k array of responsibilities."""
    n, k = 400_000, 32
    x = jax.ShapeDtypeStruct((n, 4), jnp.float32)
    mixture = gmm.GMM(
        jax.ShapeDtypeStruct((k,), jnp.float32),
        jax.ShapeDtypeStruct((k, 4), jnp.float32),
        gmm.Full(jax.ShapeDtypeStruct((k, 4, 4), jnp.float32)),
    )
    memory = jax.jit(gmm.fit).lower(mixture, x).compile().memory_analysis()
    assert memory.temp_size_in_bytes < n * k * 4 / 2


FULL = partial(start_of, "full")
BAD = {
    "no mixture": (lambda: gmm.fit(None, X), TypeError, "mixture must be a GMM, got NoneType"),
    "no moments": (lambda: gmm.m_step(FULL(), None), TypeError, "total must be a Moments"),
    "ridges": (lambda: gmm.m_step(FULL(), gmm.e_step(FULL(), X), np.ones(5)),
               ValueError, r"ridge must have shape \(4,\), got \(5,\)"),
    "one ridge": (lambda: gmm.fit(FULL(), X, ridge=np.ones(3)), ValueError,
                  r"ridge must have shape \(\), got \(3,\)"),
    "C9 float": (lambda: gmm.fit(FULL(), X, max_steps=2.5), TypeError, "whole number"),
    "width": (lambda: gmm.fit(FULL(), X[:, :1]), ValueError, r"\(any, 4\), got \(150, 1\)"),
    "NaN": (lambda: gmm.fit(FULL(), X * np.nan), ValueError, "x must be finite"),
    "k > n": (lambda: gmm.fit(FULL(), X[:2]), ValueError, "at least 3 rows"),
    "C10 ridge": (lambda: gmm.fit(FULL(), X, ridge=-1.0), ValueError, "ridge must be non"),
    "C10 NaN": (lambda: gmm.fit(FULL(), X, ridge=np.nan), ValueError, "ridge must be"),
    "C8 tol": (lambda: gmm.fit(FULL(), X, tol=-1.0), ValueError, "tol must be"),
    "C9 steps": (lambda: gmm.fit(FULL(), X, max_steps=-1), ValueError, "max_steps"),
    "C20 weight": (lambda: gmm.e_step(FULL(), X, -np.ones(150)), ValueError,
                   "sample_weight must not be negative"),
    "C22 weight": (lambda: gmm.fit(FULL(), X, sample_weight=np.zeros(150)), ValueError,
                   "zero everywhere"),
    "C23 weight": (lambda: gmm.fit(FULL(), X, sample_weight=np.ones(3)), ValueError,
                   r"sample_weight must have shape \(150,\)"),
    "m_step": (lambda: gmm.m_step(FULL(), gmm.e_step(FULL(), X), -1.0), ValueError,
               "ridge"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    refused(*BAD[case], where="gmm.")
