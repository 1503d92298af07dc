"""Starts: the M-step of what they promise, in any units, on any data."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from sklearn.datasets import load_iris

from jaxnn import gmm, linalg
from jaxnn.gmm import forms, kmeans, starts
from jaxnn.gmm.starts import START_RIDGE, STARTS

X, LABELS = load_iris(return_X_y=True)
N, D = X.shape
KEY = jax.random.key(0)
rng = np.random.default_rng(0)
W = rng.integers(1, 4, N).astype(float)
Z = jnp.asarray((X - X.mean(0)) / X.std(0))
ONES, ALL = jnp.ones(N), jnp.ones(3, bool)


@pytest.fixture(params=STARTS)
def start(request):
    return request.param


@cache
def three(start: str) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Three seeds as drawn and as refined, and the shares (n, 3) of all standardised rows."""
    rule = STARTS[start]

    @jax.jit
    def all_of_it(key):
        drawn = rule.draw(key, Z, ONES, 3)
        seeds = rule.refine(key, drawn, Z, ONES, ALL)
        return drawn, seeds, rule.share(seeds, Z, jnp.arange(N), ALL)

    return all_of_it(KEY)


def shares(start: str) -> np.ndarray:
    return np.asarray(three(start)[2])


def m_step(resp: np.ndarray, x: np.ndarray, family: str) -> tuple[np.ndarray, ...]:
    """Weights, means, covariances (k, d, d) by their definitions, with the start's ridge."""
    counts = resp.sum(0)
    means = resp.T @ x / counts[:, None]
    centred = x[None] - means[:, None]
    cov = np.einsum("nk,kni,knj->kij", resp, centred, centred) / counts[:, None, None]
    if family == "tied":
        cov = np.broadcast_to(np.tensordot(counts / counts.sum(), cov, 1), cov.shape)
    cov = cov + START_RIDGE * np.diag(np.average(np.square(x - M), axis=0, weights=W_NOW))
    if family in ("diag", "spherical"):
        diagonal = np.diagonal(cov, axis1=1, axis2=2)
        if family == "spherical":
            diagonal = np.broadcast_to(diagonal.mean(1, keepdims=True), diagonal.shape)
        cov = diagonal[:, :, None] * np.eye(x.shape[1])
    return counts / counts.sum(), means, cov


M, W_NOW = X.mean(0), np.ones(N)


def parts(m: gmm.GMM) -> tuple[np.ndarray, ...]:
    return np.exp(m.log_weights), np.asarray(m.means), np.asarray(m.cov.covariances(m.means))


def close(a, b, **kw) -> None:
    for u, v in zip(a, b, strict=True):
        np.testing.assert_allclose(u, v, **kw)


def test_a_start_is_the_m_step_of_its_shares(start):
    """Oracle: weighted means and covariances in NumPy."""
    resp = shares(start)
    np.testing.assert_allclose(resp.sum(1), 1, rtol=1e-12)
    close(parts(gmm.init(KEY, X, 3, start=start)), m_step(resp, X, "full"), rtol=1e-8)


def test_seeds_own_the_rows_nearest_to_them():
    """Oracle: distances in NumPy; the seeds themselves are rows, all different."""
    for start in ("k-means++", "random points"):
        seeds = np.asarray(three(start)[0])
        distance = np.linalg.norm(np.asarray(Z)[:, None] - seeds[None], axis=2)
        assert (distance == 0).any(0).all()
        assert len(np.unique(seeds, axis=0)) == 3
        np.testing.assert_array_equal(shares(start).argmax(1), distance.argmin(1))


def test_k_means_refines_the_seeds():
    """Each seed is the mean of its rows, up to the tolerance of Lloyd's steps."""
    drawn, seeds, share = three("k-means")
    means = m_step(np.asarray(share), np.asarray(Z), "full")[1]
    assert np.square(means - seeds).sum() <= starts.LLOYD_TOL
    assert np.square(means - drawn).sum() > 100 * starts.LLOYD_TOL


def test_k_means_of_many_rows_goes_by_batches(monkeypatch):
    """Above `LARGE` rows; the centres are means of all they were given, some 2,000 rows each."""
    for module in (kmeans, starts):
        monkeypatch.setattr(module, "LARGE", 100)
        monkeypatch.setattr(module, "BATCH", 64)
    _, seeds, share = three.__wrapped__("k-means")
    means = m_step(np.asarray(share), np.asarray(Z), "full")[1]
    assert np.abs(means - seeds).max() < 0.2  # the clusters' own deviations are some 0.6


def test_random_shares_are_uniform_on_the_simplex():
    """Dirichlet(1, 1, 1): mean 1/3, mean square 1/6, within 5 standard errors; zero where off."""
    rule, n = STARTS["random responsibilities"], 4000
    rows = jnp.zeros((n, 1))
    r = np.asarray(rule.share(KEY, rows, jnp.arange(n), ALL))
    assert np.abs(r.mean(0) - 1 / 3).max() < 5 * np.sqrt(1 / 18 / n)
    assert np.abs((r**2).mean(0) - 1 / 6).max() < 5 * np.sqrt((1 / 15 - 1 / 36) / n)
    # A row's shares depend on its place alone, so tiles change nothing.
    np.testing.assert_array_equal(rule.share(KEY, rows[:7], jnp.arange(9, 16), ALL), r[9:16])
    off = np.asarray(rule.share(KEY, rows[:7], jnp.arange(7), jnp.array([True, True, False])))
    assert (off[:, 2] == 0).all()
    np.testing.assert_allclose(off.sum(1), 1, rtol=1e-12)


def test_neither_tiles_nor_the_fast_form_change_anything(monkeypatch):
    """Oracle: all rows in one tile, in the safe form; of 149 rows two tiles share one."""
    share = lambda rows, number: jax.nn.one_hot(jnp.asarray(LABELS)[number], 3)
    x, ones = jnp.asarray(X)[:-1], ONES[:-1]
    unit = linalg.mean_and_variance(x, ones)
    make = lambda: parts(
        jax.jit(lambda x: starts.from_shares(gmm.Diag, x, ones, share, 3, unit))(x)
    )
    whole = make()
    monkeypatch.setitem(linalg.TILE, "cpu", 1)
    monkeypatch.setattr(forms, "SMALL", 0)
    taken = []
    linear = forms.linear
    monkeypatch.setattr(forms, "linear", lambda *given: taken.append(given) or linear(*given))
    close(make(), whole, rtol=1e-10)
    assert taken


def test_padding_changes_nothing(start):
    """Oracle: `init` with so many components (5 and 3 seeds are chosen from as many candidates)."""
    padded, plain = gmm.init(KEY, X, 5, start=start, active=3), gmm.init(KEY, X, 3, start=start)
    assert (np.exp(padded.log_weights[3:]) == 0).all()
    close([a[:3] for a in parts(padded)], parts(plain), rtol=1e-8)


def test_fewer_active_components_are_a_smaller_mixture():
    """Oracle: one component in closed form; the others are switched off."""
    one = gmm.init(KEY, X, 5, active=1)
    assert np.all(np.exp(one.log_weights[1:]) == 0)
    close([a[:1] for a in parts(one)], m_step(np.ones((N, 1)), X, "full"), rtol=1e-8)
    assert gmm.n_parameters(one) == 4 + 10


def test_units_and_offsets_change_nothing(start):
    """Columns times 1e-6 to 1e6, shifted by 1e6 deviations: the same start (float64)."""
    scale, offset = np.array([1e-6, 1.0, 1e6, 10.0]), np.array([0.0, 1e6, 0.0, -1e6])
    weights, means, cov = parts(gmm.init(KEY, X, 3, start=start))
    moved = parts(gmm.init(KEY, (X + offset) * scale, 3, start=start))
    np.testing.assert_allclose(moved[0], weights, rtol=1e-12)
    np.testing.assert_allclose(moved[1] / scale - offset, means, atol=1e-8)
    np.testing.assert_allclose(moved[2] / np.outer(scale, scale), cov, atol=1e-8)


# Of one shape, so that one compilation serves them.
HARD = {
    "D1 identical rows": (np.ones((N, D)), np.ones(N)),
    "C6 two points": (np.repeat([np.zeros(D), np.ones(D)], N // 2, axis=0), np.ones(N)),
    "D4 constant column": (np.c_[X[:, :3], np.full(N, 7.0)], np.ones(N)),
    "zero weights": (np.r_[X[:-1], np.full((1, D), 1e9)], np.r_[np.ones(5), np.zeros(N - 5)]),
}


@pytest.mark.parametrize("case", HARD)
def test_hard_data_gives_a_finite_start(case, start):
    """Never NaN; the weights sum to 1; rows of weight zero pull nothing."""
    x, w = HARD[case]
    weights, means, cov = parts(gmm.init(KEY, x, 5, start=start, sample_weight=w))
    assert all(np.isfinite(a).all() for a in (weights, means, cov))
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-12)
    low, high = x[w > 0].min(0), x[w > 0].max(0)
    assert ((means >= low - 1e-9) & (means <= high + 1e-9)).all()


@pytest.mark.parametrize("family", ["full", "tied", "diag", "spherical"])
def test_labels_are_shares(family):
    """Oracle: the M-step in NumPy; unknown rows are absent (their columns' unit aside)."""
    global M, W_NOW
    known = rng.random(N) < 0.5
    labels = np.where(known, LABELS, -1)
    W_NOW, M = W, np.average(X, axis=0, weights=W)
    resp = np.eye(3)[LABELS] * (W * known)[:, None]
    ours = gmm.from_labels(labels, X, 3, family=family, sample_weight=W)
    close(parts(ours), m_step(resp, X, family), rtol=1e-8)
    W_NOW, M = np.ones(N), X.mean(0)


def test_a_component_without_labels_is_off():
    ours = gmm.from_labels(np.where(LABELS == 2, -1, LABELS), X, 3)
    np.testing.assert_allclose(np.exp(ours.log_weights), [0.5, 0.5, 0.0])
    assert all(np.isfinite(a).all() for a in parts(ours))


FEW = np.zeros(N, int)
BAD = {
    "B4": (lambda: gmm.init(KEY, X.astype(np.float16), 2), TypeError, "float32 or float64"),
    "B5": (lambda: gmm.init(KEY, jnp.asarray(X, jnp.bfloat16), 2), TypeError, "got bfloat16"),
    "C1": (lambda: gmm.init(KEY, X, 0), ValueError, "n_components must be between 1 and 150"),
    "C2": (lambda: gmm.init(KEY, X, -2), ValueError, "n_components"),
    "C3": (lambda: gmm.init(KEY, X, 2.5), TypeError, "n_components must be a whole number"),
    "C4": (lambda: gmm.init(KEY, X, True), TypeError, "n_components"),
    "C5": (lambda: gmm.init(KEY, X, 151), ValueError, "n_components .*150, got 151"),
    "C7": (lambda: gmm.init(KEY, X, 2, family="diagonal"), ValueError, "mean 'diag'"),
    "start": (lambda: gmm.init(KEY, X, 2, start="kmeans"), ValueError, r"unknown start.*k-means"),
    "key": (lambda: gmm.init(0, X, 2), TypeError, "key"),
    "NaN": (lambda: gmm.init(KEY, np.full((5, 2), np.nan), 2), ValueError, "x must be finite"),
    "weight": (lambda: gmm.init(KEY, X, 2, sample_weight=np.ones(4)), ValueError, "sample_weight"),
    "active": (lambda: gmm.init(KEY, X, 2, active=3), ValueError, "active must be between 1 and 2"),
    "C29 high": (lambda: gmm.from_labels(LABELS, X, 2), ValueError,
                 r"labels must lie in \[-1, 2\), got values from 0 to 2"),
    "C29 low": (lambda: gmm.from_labels(FEW - 2, X, 2), ValueError, r"must lie in \[-1, 2\)"),
    "F9": (lambda: gmm.from_labels(LABELS * 1.0, X, 3), TypeError, "labels must hold whole"),
    "length": (lambda: gmm.from_labels(LABELS[:9], X, 3), ValueError, r"labels must .*\(150,\)"),
    "none": (lambda: gmm.from_labels(FEW - 1, X, 3), ValueError, "labels must name a component"),
    "labels C7": (lambda: gmm.from_labels(LABELS, X, 3, family="ful"), ValueError, "mean 'full'"),
    "labels C5": (lambda: gmm.from_labels(LABELS, X, 151), ValueError, "n_components"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    refused(*BAD[case], where=("gmm.init: ", "gmm.from_labels: "))
