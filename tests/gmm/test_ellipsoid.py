"""VEE and EVV: what `test_families` does not say of every name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_iris

from jaxnn import gmm

X = load_iris().data
N, D = X.shape


@jax.jit
def em_path(start: gmm.GMM, x: jax.Array) -> tuple[gmm.GMM, jax.Array]:
    """The mixture after 300 steps of EM without ridge, and the log-likelihood before each."""

    def advance(mixture: gmm.GMM, _: None) -> tuple[gmm.GMM, jax.Array]:
        total = gmm.e_step(mixture, x)
        return gmm.m_step(mixture, total), total.log_lik

    return jax.lax.scan(advance, start, length=300)


def start_of(name: str, x: np.ndarray) -> gmm.GMM:
    return gmm.GMM(
        log_weights=jnp.full(3, -np.log(3)),
        means=jnp.asarray(x[[0, 60, 120]]),
        cov=gmm.COVARIANCES[name].from_variances(jnp.asarray(x.var(0) / 4), 3),
    )


def test_iris_in_any_units():
    """Reference: BIC -605.3982 for VEE, 3, by mclustBIC, which stops at a relative 1e-5.

    EM never lowers the likelihood, and columns times 1e-3 to 1e6, shifted, change nothing.
    """
    scale = np.array([1e-3, 1.0, 1e6, 1.0])
    z = X * scale + [0.0, 1e3, 0.0, -1e3]
    mixture, log_lik = em_path(start_of("VEE", X), X)
    moved, shifted = em_path(start_of("VEE", z), z)
    assert np.all(np.diff(log_lik) > -1e-9)
    np.testing.assert_allclose(shifted + N * np.log(scale).sum(), log_lik, atol=1e-5)
    bic = 2 * log_lik[-1] - gmm.n_parameters(mixture) * np.log(N)
    assert -605.3982 - 1e-3 < bic < -605.3982 + 0.05
    np.testing.assert_allclose(np.linalg.det(moved.cov.scale_tril), 1, rtol=1e-10)


@pytest.mark.parametrize("name", ["VEE", "EVV"])
def test_a_dead_component(name):
    """It keeps its volume (VEE), or its form (EVV); the others learn the same whatever it is."""
    start = start_of(name, X)
    ends = []
    for factor in (1.0, 2.0):
        own = "volume" if name == "VEE" else "scale_tril"
        cov = start.cov._replace(**{own: getattr(start.cov, own).at[2].multiply(factor)})
        lost = start._replace(means=start.means.at[2].set(1e4 * factor), cov=cov)
        ends.append(gmm.m_step(lost, gmm.e_step(lost, X)))
    np.testing.assert_allclose(getattr(ends[0].cov, own)[2], getattr(start.cov, own)[2], rtol=1e-12)
    assert not np.allclose(getattr(ends[0].cov, own)[0], getattr(start.cov, own)[0])
    for one, two in zip(ends[0].cov, ends[1].cov, strict=True):
        np.testing.assert_allclose(one[:2], two[:2], rtol=1e-6)
