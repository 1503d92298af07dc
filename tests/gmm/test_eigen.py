"""Volume, shape and orientation: what `test_families` does not say of every name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_iris

from jaxnn import gmm
from jaxnn.gmm.eigen import Eigen
from jaxnn.gmm.family import Whitened

X = load_iris().data
N, D = X.shape
rng = np.random.default_rng(5)


def test_iris_has_mclusts_bic():
    """Reference: -562.5522 for VEV, 3, by mclustBIC, which stops at a relative 1e-5.

    And EM's own theorem on the way there.
    """
    start = gmm.GMM(
        log_weights=jnp.full(3, -np.log(3)),
        means=jnp.asarray(X[[0, 60, 120]]),
        cov=gmm.COVARIANCES["VEV"].from_variances(jnp.asarray(X.var(0) / 4), 3),
    )

    def advance(mixture: gmm.GMM, _: None) -> tuple[gmm.GMM, jax.Array]:
        total = gmm.e_step(mixture, X)
        return gmm.m_step(mixture, total), total.log_lik

    mixture, path = jax.lax.scan(advance, start, length=300)
    assert np.all(np.diff(path) > -1e-9)
    bic = 2 * path[-1] - gmm.n_parameters(mixture) * np.log(N)
    assert -562.5522 - 1e-3 < bic < -562.5522 + 0.05


def sums_of(cov: Eigen, means: jax.Array, x: jax.Array, resp: jax.Array) -> Whitened:
    y = cov.whitener(means)(x)
    counts = jnp.sum(resp, axis=1)
    alive = counts > 0
    counts = jnp.where(alive, counts, 1.0)
    shift = jnp.einsum("kdc,kc->kd", y, resp) / counts[:, None]
    return Whitened(cov.second(y, resp), counts, shift, alive)


@jax.jit
def step(cov: Eigen, means: jax.Array, x: jax.Array, resp: jax.Array) -> Eigen:
    return cov.update(sums_of(cov, means, x, resp), jnp.zeros(x.shape[1], x.dtype))


@pytest.mark.parametrize("name", ["EVE", "EEV"])
def test_one_component_has_the_covariance_of_the_data(name):
    """Oracle: numpy.cov. Equal and varying mean the same for one component."""
    cov = gmm.COVARIANCES[name].from_variances(jnp.ones(D), 1)
    cov = step(cov, jnp.zeros((1, D)), jnp.asarray(X), jnp.ones((1, N)))
    got = cov.covariances(jnp.zeros((1, D)))[0]
    np.testing.assert_allclose(got, np.cov(X.T, bias=True), rtol=1e-10)


@pytest.mark.parametrize("name", ["VEV", "VVE", "VEI"])
def test_a_dead_component_keeps_what_is_its_own(name):
    """And the living learn the same whatever it is, in place and size."""
    resp = jnp.asarray(rng.dirichlet(np.ones(3), N).T).at[1].set(0.0)
    means = jnp.asarray(X[:3])
    start = gmm.COVARIANCES[name].from_variances(jnp.asarray(X.var(0)), 3)
    new = step(start, means, jnp.asarray(X), resp)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(new))
    for before, after in zip(jax.tree.leaves(start), jax.tree.leaves(new), strict=True):
        if len(before) == 3:
            np.testing.assert_array_equal(after[1], before[1])
        assert not np.allclose(after[0], before[0])
    other = start._replace(volume=start.volume.at[1].set(70.0))
    rest = step(other, means.at[1].add(3.0), jnp.asarray(X), resp)
    for one, two in zip(jax.tree.leaves(new), jax.tree.leaves(rest), strict=True):
        np.testing.assert_allclose(one[::2], two[::2], rtol=1e-9)


def test_common_axes_are_found_where_all_have_the_same():
    """Oracle: the axes that the covariances were made of, whichever component tells them apart."""
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    variances = np.array([[1.0, 1.0, 1.0], [4.0, 1.0, 1.0], [1.0, 1.0, 9.0], [3.0, 2.0, 1.0]])
    matrices = turn * variances[:, None, :] @ turn.T
    cov = jax.jit(gmm.COVARIANCES["VVE"].from_covariances)(jnp.asarray(matrices))
    np.testing.assert_allclose(cov.covariances(jnp.zeros((4, 3))), matrices, atol=1e-12)


def test_float32_is_accurate():
    """Oracle: float64, for data far from zero: densities to 5e-3 nats, the M-step to 1e-3.

    The axes are still orthogonal after 400 products.
    """
    x, resp = (X + 100.0).astype(np.float32), rng.dirichlet(np.ones(3), N).T
    means = x[[0, 60, 120]]

    @jax.jit
    def learn(x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        at, r = jnp.asarray(means, x.dtype), jnp.asarray(resp, x.dtype)
        cov = gmm.COVARIANCES["VVE"].from_variances(jnp.ones(D, x.dtype), 3)
        cov = jax.lax.fori_loop(0, 400, lambda _, cov: step(cov, at, x, r), cov)
        mixture = gmm.GMM(jnp.zeros(3, x.dtype), at, cov)
        return gmm.log_joint(mixture, x), cov.covariances(at), cov.orientation[0]

    single, double = learn(jnp.asarray(x)), learn(jnp.asarray(x, float))
    assert single[1].dtype == jnp.float32
    np.testing.assert_allclose(single[2] @ single[2].T, np.eye(D), atol=2e-6)
    spread = np.sqrt(np.diagonal(double[1], axis1=1, axis2=2))
    scale = spread[:, :, None] * spread[:, None, :]
    np.testing.assert_allclose(single[1] / scale, double[1] / scale, atol=1e-3)
    np.testing.assert_allclose(single[0], double[0], atol=5e-3)


def objective(cov: Eigen, resp: np.ndarray) -> float:
    """Minus twice the expected log-likelihood a row, by NumPy."""
    counts = resp.sum(1)
    centred = X[None] - (resp @ X / counts[:, None])[:, None]
    scatter = np.einsum("kn,kni,knj->kij", resp, centred, centred) / counts[:, None, None]
    matrices = np.asarray(cov.covariances(jnp.zeros((3, D))))
    terms = np.linalg.slogdet(matrices)[1]
    terms = terms + np.trace(np.linalg.solve(matrices, scatter), axis1=1, axis2=2)
    return float(counts @ terms / counts.sum())


def test_each_inner_step_lowers_the_objective(monkeypatch):
    """An M-step of one inner iteration, many times."""
    monkeypatch.setattr("jaxnn.gmm.eigen.INNER", 1)
    once = jax.jit(step.__wrapped__)
    resp = rng.dirichlet([3.0, 2.0, 1.0], N).T
    cov = gmm.COVARIANCES["VVE"].from_variances(jnp.ones(D), 3)
    values = []
    for _ in range(30):
        cov = once(cov, jnp.asarray(X[:3]), jnp.asarray(X), jnp.asarray(resp))
        values.append(objective(cov, resp))
    assert np.all(np.diff(values) < 1e-12)
    assert values[-1] < values[0]


def test_the_order_of_axes_means_nothing():
    """Axes and shape reversed together are the same covariances: no M-step is a step back."""
    resp = rng.dirichlet([8.0, 2.0, 0.5], N).T
    args = jnp.asarray(X[:3]), jnp.asarray(X), jnp.asarray(resp)
    cov = gmm.COVARIANCES["VEV"].from_variances(jnp.ones(D), 3)
    for _ in range(40):
        cov = step(cov, *args)
    turned = Eigen(cov.volume, cov.shape[:, ::-1], cov.orientation[:, :, ::-1])
    np.testing.assert_allclose(objective(turned, resp), objective(cov, resp), rtol=1e-12)
    assert objective(step(turned, *args), resp) < objective(cov, resp) + 1e-13


HARD = {
    "D1 identical rows": np.ones((N, 3)),
    "D2 two points": np.repeat([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]], N // 2, axis=0),
    "D3 one point and an outlier": np.r_[np.zeros((N - 1, 3)), np.ones((1, 3))],
    "D4 constant column": np.c_[X[:, :2], np.full(N, 7.0)],
    "D5 collinear": np.c_[X[:, :2], X[:, 0] - X[:, 1]],
    "D12 duplicates": np.round(X[:, :3]),
    "D13 outlier": np.r_[X[:-1, :3], [[1e6, -1e6, 1e6]]],
    "B11 small": X[:, :3] * 1e-6,
    "B12 large": X[:, :3] * 1e12,
}


@pytest.mark.parametrize("family", [gmm.COVARIANCES["VVE"], gmm.factors(1)], ids=str)
def test_hard_data_gives_finite_fits(family):
    """Never NaN, never a hang, and many fits at once by vmap; what must be flagged is.

    That is, no variance in some direction that all rows but a single outlier share.
    """
    x = jnp.asarray(np.stack(list(HARD.values())), jnp.float32)

    def learn(x: jax.Array) -> gmm.Fit:
        variances = jnp.var(x, axis=0)
        cov = family.from_variances(jnp.where(variances > 0, variances, 1), 2)
        start = gmm.GMM(jnp.log(jnp.ones(2, x.dtype) / 2), x[jnp.array([0, 80])], cov)
        return gmm.fit(start, x, max_steps=50)

    fits = jax.jit(jax.vmap(learn))(x)
    for i, case in enumerate(HARD):
        mixture = jax.tree.map(lambda a, i=i: a[i], fits.mixture)
        leaves = [mixture.means, *jax.tree.leaves(mixture.cov), fits.log_lik[i]]
        assert all(np.isfinite(leaf).all() for leaf in leaves), case
        if case[:3] in ("D1 ", "D2 ", "D3 ", "D4 "):
            assert fits.status[i] == gmm.Status.DEGENERATE, case
    np.testing.assert_allclose(np.exp(fits.mixture.log_weights).sum(1), 1, rtol=1e-5)
