"""The density on a grid against the exact sum on the same nodes."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import kde
from jaxnn.kde import grid, splines

RNG = np.random.default_rng(0)
X = {d: RNG.normal(size=(50, d)) for d in (1, 2, 3)}
W = jnp.asarray(RNG.uniform(size=50))


def exact(model, axes):
    nodes = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1)
    flat = kde.log_prob(model, nodes.reshape(-1, len(axes)))
    return np.exp(flat).reshape(nodes.shape[:-1])


@pytest.mark.parametrize(("d", "size", "degree"), [(1, 60, 3), (1, 60, 1), (2, (30, 25), 3),
                                                   (3, 17, 5)])  # fmt: skip
def test_the_error_keeps_its_bound(d, size, degree):
    h = np.array([0.5, 0.7, 1.1])[:d] * (2 if d == 3 else 1)
    model = kde.fit(jnp.asarray(X[d]), bandwidth=jnp.asarray(h), sample_weight=W)
    axes, density = kde.on_grid(model, size, degree=degree)
    rhos = [float(axis[1] - axis[0]) / w for axis, w in zip(axes, h, strict=True)]
    bound = sum(splines.alias_bound(rho, degree) for rho in rhos)
    error = np.abs(density - exact(model, axes)).max() * np.prod(h * np.sqrt(2 * np.pi))
    assert bound / 3000 < error < bound < 0.05


def test_no_wrap_around_and_no_edge():
    """A grid that ends on the data, under a bandwidth as wide as the grid."""
    x = jnp.asarray([[0.0], [0.1], [1.0]])
    for h in (0.05, 0.9):
        model = kde.fit(x, bandwidth=h)
        axes, density = kde.on_grid(model, 129, low=0.0, high=1.0)
        np.testing.assert_allclose(density, exact(model, axes), atol=2e-5)


def test_another_kernel_in_one_dimension():
    """Linear binning is off by the order of the square of the step."""
    model = kde.fit(jnp.asarray(X[1]), bandwidth=0.8, kernel="epanechnikov", sample_weight=W)
    errors = []
    for size in (200, 400):
        axes, density = kde.on_grid(model, size, low=-6.0, high=6.0)
        errors.append(np.abs(density - exact(model, axes)).mean())
    assert errors[0] < 2e-3
    assert errors[1] < errors[0] / 2


FORMS = [("logistic", "radial", 2), ("biweight", "radial", 3), ("student_t", "product", 2)]


@pytest.mark.parametrize(("name", "form", "d"), FORMS)
def test_other_kernels_in_the_plane_and_in_space_keep_their_bound(name, form, d):
    """One of a few points is heavy and in the middle of a cell: its error is near the bound."""
    h, size = np.array([1.0, 1.5, 1.2])[:d], (24, 19, 15)[:d]
    low, high = np.full(d, -4.0), np.full(d, 4.0)
    steps = (high - low) / (np.array(size) - 1)
    x = np.concatenate(
        [[low + 10.5 * steps], np.random.default_rng(d).uniform(-3, 3, (4, d)), [high]]
    )
    weights = jnp.array([10.0, 0.5, 1.0, 0.2, 1.0, 0.3])
    model = kde.fit(jnp.asarray(x), bandwidth=jnp.asarray(h), kernel=name, form=form,
                    sample_weight=weights)  # fmt: skip
    axes, density = kde.on_grid(model, size, low=low, high=high)
    peak = np.exp(-model.kernel.log_norm(d)) / np.prod(h)
    error = np.abs(density - exact(model, axes)).max() / peak
    bound = grid.linear_bound(model.kernel, (steps / h).tolist())
    assert bound / 4 < error < bound < 0.7


@pytest.mark.parametrize("name", [*kde.KERNELS, "student_t(5)"])
def test_the_bound_is_that_of_linear_interpolation(name):
    """Brute force: the largest gap between a kernel and its chords, along lines past its centre."""
    if name == "gaussian":
        return
    kernel = kde.KERNELS.get(name) or kde.student_t(5)
    fine = 1e-3
    along, apart = np.arange(-2, 2, fine), np.array([0.0, 0.3, 0.7])
    r2 = along[None] ** 2 + apart[:, None] ** 2
    values = np.exp(np.asarray(kernel.log_profile(jnp.asarray(r2), 2)))
    for half in (20, 200):
        chords = (values[:, 2 * half :] + values[:, : -2 * half]) / 2
        error = np.abs(chords - values[:, half:-half]).max()
        bound = grid.linear_bound(kernel, [2 * half * fine, 0.0])
        assert error <= bound + 1e-9
        assert half > 20 or error > 0.45 * bound


def test_transform_sizes_have_small_factors():
    """Brute force: the least product of powers of 2, 3 and 5."""
    small = sorted(2**a * 3**b * 5**c for a in range(9) for b in range(6) for c in range(4))
    for least in range(1, 200):
        assert splines.transform_size(least) == next(s for s in small if s >= least)


MODEL = kde.fit(jnp.asarray(X[1]), bandwidth=0.5)
FOUR = kde.fit(jnp.ones((3, 4)) * jnp.arange(3.0)[:, None], bandwidth=1.0)
BAD = {
    "E23": (lambda: kde.on_grid(MODEL, 50, low=0.0), "must enclose the data.* feature 0"),
    "E24 one": (lambda: kde.on_grid(MODEL, 1), "size must be between 2 and 4096, got 1"),
    "E24 order": (lambda: kde.on_grid(MODEL, 50, low=1.0, high=0.0), "low must be below high"),
    "E24 coarse": (lambda: kde.on_grid(MODEL, 5), "size must be at least 1.* got 5"),
    "E22": (lambda: kde.on_grid(MODEL, 10**6), "size must be between"),
    "sizes": (lambda: kde.on_grid(MODEL, (50, 50)), "size must be one number or 1, got 2"),
    "features": (lambda: kde.on_grid(FOUR, 50), "at most 3 features, got 4"),
    "degree": (lambda: kde.on_grid(MODEL, 50, degree=2), "degree must be 1, 3 or 5, got 2"),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_named(call, message, unchecked_types):
    with pytest.raises(ValueError, match=r"^kde.on_grid: .*" + message):
        call()
