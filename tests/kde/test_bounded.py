"""Oracles: quadrature, sums over images in NumPy, SciPy's wrapped densities, 5-sigma statistics."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxnn import kde
from jaxnn.kde import bounded

X = np.random.default_rng(0).uniform(0.1, 2.9, (12, 1))
# Edges, bounds and bandwidth: the last of each kind reaches over several widths of the support.
CASES = {
    "wall below": ("reflect", 0.0, np.inf, 0.6),
    "wall above": ("reflect", -np.inf, 3.0, 0.6),
    "two walls": ("reflect", 0.0, 3.0, 2.5),
    "circle": ("periodic", 0.0, 3.0, 2.5),
    "log below": ("log", 0.0, np.inf, 0.4),
    "log above": ("log", -np.inf, 3.0, 0.4),
    "logit": ("logit", 0.0, 3.0, 0.5),
}


@pytest.fixture(scope="module", params=CASES, ids=lambda name: name.replace(" ", "-"))
def case(request):
    edges, lower, upper, h = CASES[request.param]
    return bounded.fit(X, lower=lower, upper=upper, edges=edges, bandwidth=h)


@jax.jit
def value_and_gradient(model, y):
    def total(model, y):
        log_density = bounded.log_prob(model, y)
        return jnp.sum(jnp.where(jnp.isfinite(log_density), log_density, 0.0)), log_density

    gradient, value = jax.grad(total, argnums=(0, 1), has_aux=True)(model, y)
    return value, gradient


def places(model, n=4001):
    """Midpoints of cells of the support, cut where all densities here have died down."""
    low, high = float(model.lower[0]), float(model.upper[0])
    ends = max(low, -30.0), min(high, 33.0)
    step = (ends[1] - ends[0]) / n
    return ends[0] + step * (np.arange(n) + 0.5), step


def by_hand(model, edges, y):
    """The density by its definition, in NumPy."""
    lower, upper = float(model.lower[0]), float(model.upper[0])
    x, h = X[:, 0], float(model.model.bandwidth)
    normal = lambda a, b: np.mean(stats.norm.pdf(a[:, None], b[None, :], h), axis=1)
    if edges == "periodic":
        return sum(normal(y + t * (upper - lower), x) for t in range(-20, 21))
    if edges == "reflect":
        if not np.isfinite(upper):
            return normal(y, x) + normal(2 * lower - y, x)
        if not np.isfinite(lower):
            return normal(y, x) + normal(2 * upper - y, x)
        two = 2 * (upper - lower)  # images of the points, not of the queries
        both = np.concatenate([x, 2 * lower - x])
        return 2 * sum(normal(y + t * two, both) for t in range(-20, 21))
    if edges == "logit":
        to = lambda v: np.log((v - lower) / (upper - v))
        return normal(to(y), to(x)) * (upper - lower) / ((y - lower) * (upper - y))
    gap = (lambda v: v - lower) if np.isfinite(lower) else (lambda v: upper - v)
    return normal(np.log(gap(y)), np.log(gap(x))) / gap(y)


def test_is_the_density_by_hand(case):
    edges = case.shape.edges[0]
    y, step = places(case)
    ours = np.exp(bounded.log_prob(case, y[:, None]))
    np.testing.assert_allclose(ours, by_hand(case, edges, y), rtol=1e-11, atol=1e-15)
    assert abs(ours.sum() * step - 1) < 1e-5  # and it is a density


def test_nothing_is_outside_and_gradients_are_finite(case):
    y = np.array([[-0.5], [0.0], [0.3], [3.0], [3.5], [8.5]])
    value, (in_model, in_y) = value_and_gradient(case, y)
    low, high = float(case.lower[0]), float(case.upper[0])
    outside = (y < low) | (y > high)
    if case.shape.edges[0] in ("log", "logit"):
        outside |= (y == low) | (y == high)
    if case.shape.edges[0] == "periodic":
        np.testing.assert_allclose(value[0], value[5], rtol=1e-12)
        assert np.all(np.isfinite(value))
    else:
        assert np.array_equal(np.isneginf(value), outside[:, 0])
    for leaf in (in_model.model.points, in_model.model.bandwidth, in_y):
        assert np.all(np.isfinite(leaf))
        assert np.any(leaf != 0)


def test_draws_have_the_density(case):
    n = 4000
    draws = np.asarray(bounded.sample(jax.random.key(3), case, n))[:, 0]
    assert np.all((draws >= float(case.lower[0])) & (draws <= float(case.upper[0])))
    y, step = places(case)
    cdf = np.cumsum(by_hand(case, case.shape.edges[0], y)) * step
    gap = np.abs(np.searchsorted(np.sort(draws), y + step / 2) / n - cdf).max()
    # Kolmogorov's statistic exceeds 2.75 / sqrt(n) with probability 5e-7, that of 5 sigma.
    assert gap < 2.75 / n**0.5


def test_edges_of_several_features_with_a_matrix():
    """A wall, a circle and a log: the mass by quadrature; the density by all images in NumPy."""
    rng = np.random.default_rng(1)
    x = np.abs(rng.normal(size=(12, 3)))
    h = np.array([[0.2, 0.1, 0.05], [0.1, 0.3, 0.0], [0.05, 0.0, 0.25]])
    low, high = jnp.array([0.0, -3.0, 0.0]), jnp.array([jnp.inf, 3.0, jnp.inf])
    edges = ("reflect", "periodic", "log")
    model = bounded.fit(x, lower=low, upper=high, edges=edges, bandwidth=h)
    y = np.abs(rng.normal(size=(12, 3)))
    to = lambda v: np.stack([v[:, 0], v[:, 1], np.log(v[:, 2])], axis=1)
    total = 0.0
    for sign, turn in itertools.product((1, -1), range(-4, 5)):
        image = to(y) * [sign, 1, 1] + [0, 6 * turn, 0]
        for row in to(x):
            total += stats.multivariate_normal(row, h).pdf(image) / 12
    np.testing.assert_allclose(np.exp(bounded.log_prob(model, y)), total / y[:, 2], rtol=1e-11)


def test_weights_factors_and_a_given_number_of_images():
    """By hand: between two walls, one image of a query behind each, and no more."""
    rng = np.random.default_rng(4)
    y, w, f = rng.uniform(0, 3, (12, 1)), rng.uniform(0.5, 2, 12), rng.uniform(0.5, 2, 12)
    model = bounded.fit(
        X, lower=0.0, upper=3.0, bandwidth=2.5, sample_weight=w, factors=f, images=1
    )
    at = np.concatenate([y, -y, 6 - y], axis=1)
    each = stats.norm.pdf(at[..., None], X[:, 0], 2.5 * f)
    expected = np.sum(each, axis=1) @ w / w.sum()
    np.testing.assert_allclose(np.exp(bounded.log_prob(model, y)), expected, rtol=1e-11)


def test_a_narrow_kernel_far_from_the_wall_is_not_changed():
    """Invariant: bounds out of reach change nothing, for a compact kernel as well."""
    y = np.random.default_rng(2).uniform(-1, 4, (12, 1))
    plain = kde.fit(X, bandwidth=0.3, kernel="biweight")
    far = bounded.fit(X, lower=-50.0, upper=50.0, bandwidth=0.3, kernel="biweight")
    np.testing.assert_allclose(bounded.log_prob(far, y), kde.log_prob(plain, y), rtol=1e-12)


def test_traced_bounds_and_bandwidths_are_those_given():
    """vmap over bounds, infinite ones among them, is a loop over them."""
    low, high = jnp.array([0.0, -jnp.inf, 0.0]), jnp.array([jnp.inf, 3.0, 3.0])
    fit = lambda a, b, h: bounded.fit(X, lower=a, upper=b, bandwidth=h)
    one = lambda a, b, h: bounded.log_prob(fit(a, b, h), X)
    widths = jnp.array([0.3, 0.2, 0.25])  # 8.6 bandwidths reach over no more than one width
    batch = jax.vmap(one)(low, high, widths)
    loop = [one(*args) for args in zip(low, high, widths, strict=True)]
    np.testing.assert_allclose(batch, jnp.stack(loop), rtol=1e-11)
    slopes = jax.grad(lambda a: jnp.sum(one(a, low[1] * -1, widths[0])))(low[0])
    assert np.isfinite(slopes)


BAD = {
    "E25": ({"lower": 0.5}, r"row 3\b"),
    "E25 above": ({"upper": 1.0}, r"x must lie between .* in row 0"),
    "E25 log": ({"lower": 0.25, "edges": "log"}, "strictly between .* in row 3"),
    "E26": ({"lower": 3.0, "upper": 3.0}, "lower must be less than upper, got 3.0 and 3.0"),
    "E27": ({"lower": 3.0, "upper": 0.0, "edges": "periodic"}, "period, .* positive, got -3.0"),
    "no period": ({"lower": 0.0, "edges": "periodic"}, "'periodic' takes 2 finite bounds"),
    "log without": ({"edges": "log"}, "'log' takes 1 finite bound, got"),
    "NaN": ({"lower": np.nan}, "bounds must not be NaN"),
    "name": ({"edges": "reflct"}, "did you mean 'reflect'"),
    "names": ({"edges": ("reflect", "log")}, "edges must be one name or 1"),
    "shape": ({"lower": np.zeros(2)}, r"lower must have shape \(1,\)"),
    "wide": ({"lower": 0.0, "upper": 3.0, "bandwidth": 50.0}, "bandwidth must be small beside"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.usefixtures("unchecked_types")
def test_bad_input_is_refused(name):
    given, message = BAD[name]
    x = np.array([[1.5], [0.9], [0.7], [0.25]])
    with pytest.raises(ValueError, match=message) as refusal:
        bounded.fit(x, **{"bandwidth": 0.5, **given})
    assert str(refusal.value).startswith("kde.bounded.fit: ")
