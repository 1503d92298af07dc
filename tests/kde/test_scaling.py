"""All forms of a bandwidth against NumPy's linear algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.kde import scaling

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(7, 3))
ROOT = np.tril(RNG.normal(size=(3, 3))) + 3 * np.eye(3)
FORMS = {
    "one": (np.array(0.5), 0.5 * np.eye(3)),
    "per feature": (np.array([0.5, 1.0, 2.0]), np.diag([0.5, 1.0, 2.0])),
    "matrix": (ROOT @ ROOT.T, ROOT),
}


@pytest.mark.parametrize("form", FORMS)
def test_equals_linear_algebra(form):
    """White rows have squared lengths rᵀ H⁻¹ r, coloured ones the covariance H."""
    bandwidth, root = FORMS[form]
    h = jnp.asarray(bandwidth)
    white = np.asarray(scaling.whiten(h, jnp.asarray(ROWS)))
    np.testing.assert_allclose(white, ROWS @ np.linalg.inv(root).T, rtol=1e-12)
    np.testing.assert_allclose(scaling.colour(h, jnp.asarray(white)), ROWS, rtol=1e-12)
    assert scaling.log_det(h, 3) == pytest.approx(np.linalg.slogdet(root)[1])


@pytest.mark.parametrize("form", FORMS)
def test_far_away_no_square_overflows(form):
    h = jnp.asarray(FORMS[form][0], jnp.float32)
    white = scaling.whiten(h, jnp.asarray([[3e38, -3e38, 3e38]], jnp.float32))
    assert jnp.isfinite(jnp.sum(4 * white * white))


def test_bad_input_is_named(unchecked_types):
    given = lambda matrix: scaling.given("f", "bandwidth", jnp.asarray(matrix), 2)
    with pytest.raises(
        ValueError, match=r"f: bandwidth must be a symmetric matrix, got \[\[1.0, 0"
    ):
        given([[1.0, 0.5], [0.0, 1.0]])
    with pytest.raises(ValueError, match=r"f: bandwidth must be positive definite.*ridge"):
        given([[1.0, 2.0], [2.0, 1.0]])
    with pytest.raises(ValueError, match=r"f: bandwidth must have shape \(2, 2\), got \(3, 3\)"):
        given(np.eye(3))
    with pytest.raises(ValueError, match=r"f: bandwidth must be finite"):
        given([[1.0, np.nan], [np.nan, 1.0]])
    # Under a trace values cannot be refused; NaN stays visible.
    bad = jax.jit(lambda h: scaling.log_det(scaling.given("f", "h", h, 2), 2))(-jnp.eye(2))
    assert jnp.isnan(bad)
