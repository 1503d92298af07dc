"""Beliefs about weights against SciPy, integrals and sampling."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from jaxnn import gmm

COUNTS = np.array([3.0, 0.0, 5.5])


def draws(belief, n: int) -> np.ndarray:
    """Weights drawn with NumPy from what a belief says, the leftover of the stick not shared."""
    rng = np.random.default_rng(0)
    if isinstance(belief, gmm.Dirichlet):
        return rng.dirichlet(belief.concentration, n)
    v = rng.beta(belief.taken, belief.left, (n, 3))
    return v * np.cumprod(np.c_[np.ones(n), 1 - v[:, :-1]], axis=1)


@pytest.mark.parametrize("name", gmm.WEIGHT_PRIORS)
def test_expectations_are_those_of_draws(name):
    """Within 5 standard errors of the means of logarithms and of weights."""
    belief = gmm.WEIGHT_PRIORS[name].prior(jnp.array(0.7), 3).observe(jnp.asarray(COUNTS))
    w = draws(belief, 20_000)
    error = 5 * np.log(w).std(0) / np.sqrt(len(w))
    assert np.all(np.abs(np.log(w).mean(0) - belief.expected_log()) < error)
    mean = np.exp(belief.log_mean())
    np.testing.assert_allclose(mean.sum(), 1, rtol=1e-12)
    plain = w.mean(0) / w.mean(0).sum()
    assert np.all(np.abs(mean - plain) < 5 * w.std(0) / np.sqrt(len(w)))


def test_stick_divergence_is_an_integral():
    """Oracle: ∫ q log(q / p) over each stick by quadrature."""
    prior = gmm.StickBreaking.prior(jnp.array(2.5), 3)
    belief = prior.observe(jnp.asarray(COUNTS))
    total = 0.0
    for a, b in zip(belief.taken, belief.left, strict=True):
        q, p = stats.beta(float(a), float(b)), stats.beta(1, 2.5)
        total += integrate.quad(lambda v, q=q, p=p: q.pdf(v) * (q.logpdf(v) - p.logpdf(v)), 0, 1)[0]
    np.testing.assert_allclose(belief.divergence(prior), total, rtol=1e-7)


def test_dirichlet_divergence_of_two_is_a_beta():
    """Oracle: two weights are one stick; and no divergence from itself."""
    prior = gmm.Dirichlet.prior(jnp.array(1.5), 2)
    belief = prior.observe(jnp.array([2.0, 4.5]))
    q, p = stats.beta(3.5, 6.0), stats.beta(1.5, 1.5)
    total = integrate.quad(lambda v: q.pdf(v) * (q.logpdf(v) - p.logpdf(v)), 0, 1)[0]
    np.testing.assert_allclose(belief.divergence(prior), total, rtol=1e-7)
    np.testing.assert_allclose(belief.divergence(belief), 0, atol=1e-14)


def test_sticks_see_the_rows_beyond_them():
    """Oracle: Blei and Jordan (2006), eqs. 18 and 19, by hand."""
    belief = gmm.StickBreaking.prior(jnp.array(0.7), 3).observe(jnp.asarray(COUNTS))
    np.testing.assert_allclose(belief.taken, [4.0, 1.0, 6.5])
    np.testing.assert_allclose(belief.left, [6.2, 6.2, 0.7])
