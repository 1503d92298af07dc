"""Adaptive densities against Silverman's formula written out, and against mixtures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import gmm, kde

RNG = np.random.default_rng(0)
X, Q = RNG.normal(size=(30, 2)), jnp.asarray(RNG.normal(size=(9, 2)) * 3)
W = np.append(RNG.uniform(size=29), 0.0)
H = np.array([[0.3, 0.1], [0.1, 0.2]])


def test_factors_are_those_of_the_formula():
    """(p / g)^-α with the weighted geometric mean g (Silverman, 1986, eq. 5.8)."""
    pilot = kde.fit(jnp.asarray(X), bandwidth=0.5, sample_weight=jnp.asarray(W))
    p = np.exp(np.asarray(kde.log_prob(pilot, jnp.asarray(X))))
    g = np.prod(p ** (W / W.sum()))
    model = kde.adaptive(pilot, 0.3)
    np.testing.assert_allclose(model.factors[:-1], ((p / g) ** -0.3)[:-1], rtol=1e-12)
    np.testing.assert_allclose(kde.adaptive(pilot, 0.0).factors, 1.0)
    twice = kde.adaptive(model, 0.0)
    np.testing.assert_allclose(twice.factors, model.factors)


@pytest.mark.parametrize("bandwidth", [0.5, H], ids=["one", "full"])
def test_equals_the_mixture_of_its_kernels(bandwidth):
    """Oracle: the same components, evaluated by `gmm`; far away both are finite."""
    pilot = kde.fit(jnp.asarray(X), bandwidth=bandwidth, sample_weight=jnp.asarray(W))
    model = kde.adaptive(pilot)
    q = jnp.concatenate([Q, Q * 100])
    np.testing.assert_allclose(
        kde.log_prob(model, q), gmm.log_prob(kde.as_mixture(model), q), rtol=1e-11
    )
    if bandwidth is not H:
        return
    draws = np.asarray(kde.sample(jax.random.key(0), model, 20_000))
    mixture = np.asarray(gmm.sample(jax.random.key(1), kde.as_mixture(model), 20_000))
    for power in (1, 2):  # the moments of both samples, in 5 standard errors of their difference
        a, b = draws**power, mixture**power
        error = np.sqrt(a.var(axis=0) + b.var(axis=0)) / np.sqrt(20_000)
        assert np.all(np.abs(a.mean(axis=0) - b.mean(axis=0)) < 5 * error)


def test_a_compact_kernel_and_an_isolated_point_of_weight_zero_stay_finite():
    x = jnp.asarray(np.concatenate([X, [[1e3, 1e3]]]))
    w = jnp.ones(31).at[30].set(0.0)
    fit = lambda w: kde.fit(x, kernel="biweight", bandwidth=2.0, sample_weight=w)
    f = jax.jit(lambda w: kde.adaptive(fit(w)).factors)
    assert jnp.all(jnp.isfinite(f(w)))
    assert float(f(w)[30]) == 1
    assert jnp.all(jnp.isfinite(jax.jit(jax.jacrev(f))(w)))


def test_bad_input_is_named(unchecked_types):
    model = kde.fit(jnp.asarray(X), bandwidth=1.0)
    with pytest.raises(ValueError, match=r"kde.adaptive: alpha must be non-negative.*got -1.0"):
        kde.adaptive(model, -1.0)
    with pytest.raises(TypeError, match=r"kde.adaptive: model must be a KDE"):
        kde.adaptive(jnp.asarray(X))
