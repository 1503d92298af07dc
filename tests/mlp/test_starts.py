"""Oracles: the published variances with a band of 5 standard errors, and orthonormality."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import mlp

KEY = jax.random.key(8)
I, O, GAIN = 120, 60, 1.7
VARIANCES = {
    "gain": GAIN**2 / I,
    "glorot_normal": 2 / (I + O),
    "glorot_uniform": 2 / (I + O),
    "he_normal": 2 / I,
    "he_uniform": 2 / I,
    "lecun_normal": 1 / I,
    "lecun_uniform": 1 / I,
}


@pytest.mark.parametrize("name", VARIANCES)
def test_weights_have_the_published_moments(name):
    w = np.asarray(mlp.STARTS[name](KEY, (O, I), GAIN, jnp.float64))
    var, n = VARIANCES[name], w.size
    kurtosis = 1.8 if "uniform" in name else 3.0
    assert abs(w.mean()) < 5 * (var / n) ** 0.5
    assert abs(np.mean(w**2) / var - 1) < 5 * ((kurtosis - 1) / n) ** 0.5
    assert abs(np.mean(w**4) / (kurtosis * var**2) - 1) < 5 * (96 / 9 / n) ** 0.5
    if "uniform" in name:
        assert 0.999 < np.abs(w).max() / (3 * var) ** 0.5 <= 1


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (2, 4, 4)])
def test_orthogonal_weights_have_orthonormal_rows_or_columns(shape):
    w = np.asarray(mlp.STARTS["orthogonal"](KEY, shape, GAIN, jnp.float64)) / GAIN
    short = np.einsum(
        "...oi,...pi->...op" if shape[-2] <= shape[-1] else "...oi,...oj->...ij", w, w
    )
    np.testing.assert_allclose(short, np.broadcast_to(np.eye(short.shape[-1]), short.shape),
                               atol=1e-13)  # fmt: skip


def test_every_start_keeps_the_dtype_and_zeros_are_zero():
    for name, start in mlp.STARTS.items():
        for dtype in (jnp.bfloat16, jnp.float32, jnp.float64):
            drawn = jax.eval_shape(lambda key, s=start, d=dtype: s(key, (2, 3, 4), 1.0, d), KEY)
            assert (drawn.dtype, drawn.shape) == (dtype, (2, 3, 4)), name
    assert not mlp.STARTS["zeros"](KEY, (2, 3), GAIN, jnp.float32).any()


def test_init_takes_its_weights_from_the_table():
    params = mlp.init(KEY, (4, 6, 3), activation="tanh", start="orthogonal", dtype=jnp.float64)
    gain = mlp.ACTIVATIONS["tanh"].gain
    for layer, g in zip(params, (gain, 1.0), strict=True):
        singular = np.linalg.svd(layer.weight, compute_uv=False)
        np.testing.assert_allclose(singular, g, rtol=1e-12)
