"""Free numbers of covariances: there and back, never out of the family, and in which units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import gmm
from jaxnn.gmm.coordinates import COORDINATES, coordinates_of

K, D, Q = 2, 3, 2
rng = np.random.default_rng(3)
ZERO = jnp.zeros((K, D))
UNIT = np.array([1e-3, 1.0, 1e4])
TRIL = np.tril(rng.normal(size=(K, D, D)), -1) + np.exp(rng.normal(size=(K, 1, D))) * np.eye(D)
COS, SIN = np.cos(2.0), np.sin(2.0)
TURN = np.array([[COS, -SIN, 0], [SIN, COS, 0], [0, 0, 1]])
SHAPE = np.exp(rng.normal(size=(K, D)))
SHAPE /= SHAPE.prod(1, keepdims=True) ** (1 / D)
SIZE = np.array([0.5, 3.0])
BALANCED = TRIL / np.linalg.det(TRIL)[:, None, None] ** (1 / D)
CASES = {
    "full": gmm.Full(TRIL),
    "spherical": gmm.Spherical(SIZE),
    "EEV": gmm.Eigen(SIZE[:1], SHAPE[:1], np.stack([-np.eye(D), TURN])),
    "VEE": gmm.Ellipsoid(SIZE, BALANCED[:1]),
    "factors": gmm.Factors(rng.normal(size=(K, D, Q)), SHAPE[:1]),
}
CASES = jax.tree.map(jnp.asarray, CASES)


def by_numpy(cov) -> np.ndarray:
    """The covariances, by their definitions."""
    cov = jax.tree.map(np.asarray, cov)
    if isinstance(cov, gmm.Factors):
        return cov.loadings @ cov.loadings.transpose(0, 2, 1) + np.square(
            np.broadcast_to(cov.noise, (K, D))
        )[:, :, None] * np.eye(D)
    if isinstance(cov, gmm.Full | gmm.Tied):
        root = np.broadcast_to(cov.scale_tril, (K, D, D))
    elif isinstance(cov, gmm.Spherical):
        root = cov.scale[:, None, None] * np.eye(D)
    elif isinstance(cov, gmm.Ellipsoid):
        root = cov.volume[:, None, None] * cov.scale_tril
    else:
        shape = np.ones((1, D)) if cov.shape is None else cov.shape
        axes = np.eye(D)[None] if cov.orientation is None else cov.orientation
        root = axes * (cov.volume[:, None] * shape)[:, None, :]
    return np.broadcast_to(root @ root.transpose(0, 2, 1), (K, D, D))


def dense(cov) -> jax.Array:
    return cov.covariances(ZERO)


@jax.jit
def everything(cases, data):
    """Of each case its free numbers and what comes back, in both units; of any numbers what they
    stand for."""
    found = {}
    for name, cov in cases.items():
        way = COORDINATES[type(cov)]
        own, other = way.free(cov, None), way.free(cov, data)
        back = dense(way.bound(own, None)), dense(way.bound(other, data))
        wild = jax.tree.map(lambda a: 3 * jnp.cos(1 + jnp.arange(a.size)).reshape(a.shape), own)
        far = way.bound(wild, None)
        far = far, dense(far), far.log_det(ZERO), far.whitener(ZERO)(jnp.eye(D))
        found[name] = own, other, back, far
    full, factors = cases["full"].scale_tril, cases["factors"]
    scaled = {
        "full": gmm.Full(full * data[None, :, None]),
        "factors": gmm.Factors(factors.loadings * data[None, :, None], factors.noise * data[None]),
    }
    return found, {name: COORDINATES[type(c)].free(c, None) for name, c in scaled.items()}


@pytest.fixture(scope="module")
def found():
    return everything(CASES, jnp.asarray(UNIT))


def test_there_and_back_is_the_same(found):
    """Oracle: the covariances that were given."""
    for name, (_, _, back, _) in found[0].items():
        for other in back:
            np.testing.assert_allclose(other, by_numpy(CASES[name]), rtol=1e-9, err_msg=name)


def test_any_numbers_are_covariances(found):
    """Oracle: NumPy's determinant and inverse of the dense matrix that the numbers stand for.

    Axes that are not orthogonal, or factors of another determinant than 1, would not agree.
    """
    for name, (*_, (_, matrix, log_det, white)) in found[0].items():
        sign, twice = np.linalg.slogdet(matrix)
        np.testing.assert_array_equal(sign, 1, err_msg=name)
        np.testing.assert_allclose(log_det, twice / 2, rtol=1e-9, atol=1e-9, err_msg=name)
        precision = np.broadcast_to(np.linalg.inv(matrix), (K, D, D))
        product = np.einsum("kij,kil->kjl", white, white)
        np.testing.assert_allclose(product, precision, rtol=1e-6, atol=1e-9, err_msg=name)


def test_shapes_have_determinant_1(found):
    """What `volume` means in the families that have one."""
    shape, tril = found[0]["EEV"][3][0].shape, found[0]["VEE"][3][0].scale_tril
    np.testing.assert_allclose(np.prod(shape, axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(np.linalg.det(tril), 1, rtol=1e-12)


def test_units(found):
    """Own units: other units of the data move logarithms alone. Data units: rows over them.

    Oracle: the factors themselves, by NumPy.
    """
    for name in ("full", "factors"):
        (own, data, *_), moved = found[0][name], found[1][name]
        np.testing.assert_allclose(moved.rest, own.rest, rtol=1e-12)
        shift = np.broadcast_to(np.log(UNIT), own.log_scale.shape)
        np.testing.assert_allclose(moved.log_scale - own.log_scale, shift, atol=1e-12)
        raw = np.asarray(jax.tree.leaves(CASES[name])[0]) / UNIT[None, :, None]
        wanted = np.tril(raw, -1) if name == "full" else raw
        np.testing.assert_allclose(data.rest, wanted, rtol=1e-12)


def test_axes_are_the_smallest_turn_that_signs_allow(found):
    """Closed form: −I is I up to signs and takes no turn; a plane turned by 2 rad is one turned by
    2 − π, of tangent tan((π − 2) / 2) and not tan(1)."""
    rest = np.asarray(found[0]["EEV"][0].rest)
    np.testing.assert_allclose(rest[0], 0, atol=1e-12)
    expected = np.zeros((D, D))
    expected[1, 0] = np.tan((np.pi - 2) / 2)
    np.testing.assert_allclose(np.abs(rest[1]), expected, atol=1e-12)


@pytest.mark.usefixtures("unchecked_types")
def test_every_named_family_has_coordinates():
    for family in gmm.COVARIANCES.values():
        cov = jax.eval_shape(lambda v, family=family: family.from_variances(v, K), jnp.ones(D))
        assert type(cov) in COORDINATES
    with pytest.raises(TypeError, match=r"here: mixture\.cov must be one of Full, .* got int"):
        coordinates_of("here", 1)
