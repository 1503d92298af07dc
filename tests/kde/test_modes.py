"""Score, mean shift and modes against autodiff, scikit-learn and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.cluster import MeanShift

from jaxnn import kde

RNG = np.random.default_rng(0)
N, D = 60, 2
CENTRES = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])
X = np.concatenate([RNG.normal(size=(N // 3, D)) + c for c in CENTRES])
Q = RNG.normal(size=(12, D))
W, F = RNG.uniform(0.5, 1.5, N), RNG.uniform(0.7, 1.5, N)
MATRIX = np.array([[1.0, 0.3], [0.3, 0.8]])
FORMS = [
    ("exponential", "radial", MATRIX),
    ("logistic", "product", np.array([0.5, 0.7])),
]


def fitted(kernel, form, h, factors=None):
    given = None if factors is None else jnp.asarray(factors)
    x = jnp.asarray(X)
    return kde.fit(x, bandwidth=h, kernel=kernel, form=form, sample_weight=W, factors=given)


@pytest.mark.parametrize(("kernel", "form", "h"), FORMS)
def test_the_score_is_the_gradient(kernel, form, h):
    """Oracle: reverse-mode autodiff of `log_prob`, with weights and factors."""
    model = fitted(kernel, form, h, F)
    expected = jax.jit(jax.grad(lambda q: jnp.sum(kde.log_prob(model, q))))(jnp.asarray(Q))
    np.testing.assert_allclose(kde.score(model, jnp.asarray(Q)), expected, rtol=1e-9, atol=1e-11)


def test_the_score_of_one_gaussian_and_out_of_reach():
    """Closed form: -H⁻¹ (x - x_0); zero beyond a compact kernel."""
    one = kde.fit(jnp.zeros((1, D)), bandwidth=jnp.asarray(MATRIX))
    got = kde.score(one, jnp.asarray(1e3 * Q))
    np.testing.assert_allclose(got, -1e3 * Q @ np.linalg.inv(MATRIX), rtol=1e-10)
    compact = kde.fit(jnp.zeros((1, D)), bandwidth=1.0, kernel="biweight")
    assert kde.score(compact, jnp.full((1, D), 9.0)).tolist() == [[0.0, 0.0]]


def test_flat_mean_shift_equals_scikit_learn():
    """Oracle: `MeanShift`: its flat kernel climbs the Epanechnikov density of its bandwidth."""
    peer = MeanShift(bandwidth=2.5, seeds=X).fit(X)
    model = kde.fit(jnp.asarray(X), bandwidth=2.5, kernel="epanechnikov")
    found = kde.modes(model, max_modes=8, merge=1.0)
    k = int(found.n_modes)
    assert k == len(peer.cluster_centers_) == 3
    away = np.linalg.norm(np.asarray(found.at[:k])[:, None] - peer.cluster_centers_[None], axis=2)
    assert away.min(axis=1).max() < 1e-6
    matched = away.argmin(axis=1)
    assert (matched[np.asarray(found.labels)] == peer.labels_).mean() == 1.0


def density(profile, inverse, factors, at):
    """By its definition but for a constant, at places of any shape."""
    total = np.zeros(at.shape[:-1])
    for w, f, x in zip(W, factors, X, strict=True):
        away = (at - x) / f
        total = total + w / f**2 * profile(np.sum(away @ inverse * away, axis=-1))
    return total


def test_modes_are_the_maxima_of_the_density_on_a_fine_grid():
    """Brute force in NumPy: nodes above their eight neighbours, none missed and none made up."""
    matrix = MATRIX / 2.5
    axis = np.linspace(-4.0, 10.0, 201)
    nodes = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1)
    heights = density(lambda r2: np.exp(-r2 / 2), np.linalg.inv(matrix), F, nodes)
    inner = slice(1, -1)
    around = [np.roll(heights, (a, b), (0, 1))[inner, inner]
              for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b]  # fmt: skip
    peaks = nodes[inner, inner][np.all(heights[inner, inner] > np.stack(around), axis=0)]
    found = kde.modes(fitted("gaussian", "radial", matrix, F), max_modes=8, tol=1e-6)
    at = np.asarray(found.at[: int(found.n_modes)])
    away = np.linalg.norm(at[:, None] - peaks[None], axis=2)
    assert len(at) == len(peaks) > 4
    assert max(away.min(axis=0).max(), away.min(axis=1).max()) < axis[1] - axis[0]


def test_flat_modes_are_maxima_though_scikit_learn_merges_them():
    """Brute force: on small rings the density is lower; `MeanShift` keeps one in a bandwidth."""
    h = 2.0
    found = kde.modes(fitted("epanechnikov", "radial", h), max_modes=8, tol=1e-9)
    at = np.asarray(found.at[: int(found.n_modes)])
    turns = np.linspace(0, 2 * np.pi, 24)
    ring = at[:, None] + 1e-4 * np.stack([np.cos(turns), np.sin(turns)], axis=1)[None]
    of = lambda at: density(lambda r2: np.maximum(1 - r2, 0), np.eye(D) / h**2, np.ones(N), at)
    assert np.all(of(ring) < of(at)[:, None])
    assert len(at) > len(MeanShift(bandwidth=h, seeds=X).fit(X).cluster_centers_)


def test_no_path_ends_lower_than_it_began():
    """Invariant of mean shift, which long extrapolations past the cusps of a kernel would break."""
    rng = np.random.default_rng(1)
    x, weights = rng.uniform(0, 6, (6, 1)), rng.uniform(0.05, 1, 6)
    model = kde.fit(jnp.asarray(x), bandwidth=1.0, kernel="exponential", sample_weight=weights)
    starts = jnp.linspace(-1, 7, 200)[:, None]
    path = kde.mean_shift(model, starts, tol=1e-6)
    assert bool(jnp.all(path.converged))
    assert bool(jnp.all(kde.log_prob(model, path.ends) >= kde.log_prob(model, starts) - 1e-12))


def test_extrapolations_do_not_leave_the_basin():
    """Oracle: 4,000 plain steps by NumPy, where the basins are less than a bandwidth wide."""
    rng = np.random.default_rng(19)
    x, weights = rng.uniform(0, 10, (8, 1)), rng.uniform(0.05, 1, 8)
    starts = np.linspace(-2, 12, 100)[:, None]
    at = starts
    for _ in range(4000):
        pull = np.exp(-0.5 * (at - x.T) ** 2) * weights
        at = pull @ x / pull.sum(axis=1, keepdims=True)
    model = kde.fit(jnp.asarray(x), bandwidth=1.0, sample_weight=weights)
    path = kde.mean_shift(model, jnp.asarray(starts), tol=1e-8, max_steps=4000)
    np.testing.assert_allclose(path.ends, at, atol=1e-4)


def plain(start, tol):
    """Mean shift by NumPy, not accelerated, with a matrix, weights and factors; and its steps."""
    inverse = np.linalg.inv(MATRIX)
    at, moved, steps = start.copy(), np.inf, 0
    while moved > tol:
        away = at[:, None] - X[None]
        log = np.log(W)[None] - 4 * np.log(F)[None]
        log = log - 0.5 * np.einsum("mna,ab,mnb->mn", away, inverse, away) / F[None] ** 2
        p = np.exp(log - log.max(axis=1, keepdims=True))
        new = p @ X / p.sum(axis=1, keepdims=True)
        at, moved, steps = new, np.abs(new - at).max(), steps + 1
    return at, steps


def test_gaussian_mean_shift_ends_where_the_plain_one_does():
    """Oracle: NumPy, from every point, with weights, factors and a matrix; there the score is 0."""
    model = fitted("gaussian", "radial", MATRIX, F)
    path = kde.mean_shift(model, jnp.asarray(X), tol=1e-8)
    assert bool(jnp.all(path.converged))
    ends, steps = plain(X, 1e-8)
    np.testing.assert_allclose(path.ends, ends, atol=1e-5)
    assert float(jnp.max(jnp.abs(kde.score(model, path.ends)))) < 1e-6
    assert int(path.steps) < steps / 2, (path.steps, steps)


def test_modes_of_two_gaussians():
    """Closed form: two equal kernels have one mode in the middle up to a distance of 2 h."""
    for gap, count in ((1.9, 1), (2.5, 2)):
        x = jnp.array([[0.0, 0.0], [gap, 0.0], [gap, 0.0]])
        model = kde.fit(x, bandwidth=1.0, sample_weight=jnp.array([2.0, 1.0, 1.0]))
        found = kde.modes(model, max_modes=2, tol=1e-10, max_steps=5000)
        assert int(found.n_modes) == count
        assert bool(found.converged)
        if count == 1:
            np.testing.assert_allclose(found.at, [[gap / 2, 0.0], [0.0, 0.0]], atol=1e-6)
            assert float(found.log_density[1]) == -np.inf
        expected = kde.log_prob(model, jnp.concatenate([found.at, x[:1]]))[:count]
        np.testing.assert_allclose(found.log_density[:count], expected)


def test_modes_without_room_are_marked():
    """Three far points of different weight, room for two: the lightest has no label."""
    x = jnp.array([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]])
    model = kde.fit(x, bandwidth=1.0, sample_weight=jnp.array([3.0, 1.0, 2.0]))
    found = kde.modes(model, max_modes=2)
    assert found.labels.tolist() == [0, -1, 1]
    np.testing.assert_allclose(found.at, [[0.0, 0.0], [0.0, 50.0]], atol=1e-9)


def test_ends_merge_within_a_part_of_the_bandwidth_whatever_the_factors():
    """Kernels of a tenth of the bandwidth, at places half a bandwidth apart: two modes, or one."""
    x = jnp.zeros((N, D)).at[: N // 3, 0].set(1.0)
    model = kde.fit(x, bandwidth=4 * jnp.eye(D), factors=jnp.full(N, 0.1))
    count = lambda merge: int(kde.modes(model, max_modes=8, merge=merge).n_modes)
    assert [count(0.49), count(0.51)] == [2, 1]


def test_tolerances_are_parts_of_the_bandwidth_whatever_the_factors():
    """The same density by a bandwidth and by factors: its paths are as long for the same length."""
    x = jnp.zeros((N, D)).at[: N // 2, 0].set(0.019)  # a broad top, slowly reached
    starts = jnp.zeros((N, D)).at[:, 0].set(0.015)
    of = lambda h, f, tol, starts=starts: kde.mean_shift(
        kde.fit(x, bandwidth=h**2 * jnp.eye(D), factors=jnp.full(N, f)), starts, tol=tol
    )
    small, large = of(1.0, 0.01, 1e-6), of(0.01, 1.0, 1e-4)
    assert int(small.steps) == int(large.steps)
    short = of(1.0, 0.01, 1e-4)
    assert int(short.steps) < int(small.steps)
    # A path that has ended stays, however long others take.
    longer = of(1.0, 0.01, 1e-4, starts.at[1:, 0].set(0.05))
    assert int(longer.steps) > int(short.steps)
    np.testing.assert_array_equal(longer.ends[0], short.ends[0])


def test_too_few_steps_are_flagged():
    path = kde.mean_shift(fitted("gaussian", "radial", MATRIX, F), jnp.asarray(X), max_steps=2)
    assert not bool(jnp.all(path.converged))


def test_bad_input(unchecked_types):
    x = jnp.asarray(X)
    flat = kde.fit(x, bandwidth=1.0, kernel="tophat")
    model = kde.fit(x, bandwidth=1.0)
    for f in (kde.mean_shift, kde.modes):
        with pytest.raises(ValueError, match=r"must be radial with a slope.*tophat"):
            f(flat, x)
        with pytest.raises(ValueError, match="tol must be positive"):
            f(model, x, tol=0.0)
        with pytest.raises(ValueError, match="must have shape"):
            f(model, x[:, :1])
    with pytest.raises(ValueError, match="modes: max_modes must be at least 1"):
        kde.modes(model, x, max_modes=0)
    with pytest.raises(ValueError, match="modes: merge must be positive"):
        kde.modes(model, x, merge=-1.0)
    with pytest.raises(ValueError, match="score: x must have shape"):
        kde.score(model, x[0])
