"""Entropies and divergences against closed forms, quadrature, and their standard errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from scipy import stats

from jaxnn import gmm

KEY = jax.random.key(3)
rng = np.random.default_rng(7)
COV = np.array([[2.0, 0.6], [0.6, 0.5]])


def line(weights, means, variances) -> gmm.GMM:
    parts = (np.asarray(a, float) for a in (weights, means, variances))
    weights, means, variances = parts
    return gmm.from_covariances(weights, means[:, None], variances, family="spherical")


def entropy(weights, means, variances) -> float:
    """−∫ p log p on a grid."""
    x = np.linspace(-40, 40, 200_001)
    p = stats.norm.pdf(x[:, None], means, np.sqrt(variances)) @ np.asarray(weights)
    return -np.sum(p * np.log(np.where(p > 0, p, 1))) * (x[1] - x[0])


def test_one_gaussian_is_exact():
    """Oracle: scipy's entropy; a dead component changes nothing."""
    mixture = gmm.from_covariances(
        np.array([1.0, 0.0]), np.array([[1.0, 2.0], [1.0, 2.0]]), np.stack([COV, COV])
    )
    exact = stats.multivariate_normal([1, 2], COV).entropy()
    np.testing.assert_allclose(gmm.entropy_bounds(mixture), [exact, exact], rtol=1e-12)


CASES = np.array([  # weights, means, variances: apart, half way, on top of each other
    [[0.3, 0.7], [0.0, 30.0], [1.0, 2.0]],
    [[0.3, 0.7], [0.0, 2.0], [1.0, 0.3]],
    [[0.5, 0.5], [0.0, 0.2], [1.0, 4.0]],
])  # fmt: skip


def test_bounds_hold_the_entropy():
    """Oracle: quadrature; exact far apart, and neither side further off than the loosest known."""
    bounds = [gmm.entropy_bounds(line(*case)) for case in CASES]
    exact = [entropy(*case) for case in CASES]
    np.testing.assert_allclose(bounds[0], [exact[0]] * 2, rtol=1e-8)
    for case, bound, truth in zip(CASES, bounds, exact, strict=True):
        assert bound.lower <= truth + 1e-8
        assert bound.upper >= truth - 1e-8
        weights, means, variances = case
        huber = -weights @ np.log(weights) + weights @ (0.5 * np.log(2 * np.pi * np.e * variances))
        spread = weights @ variances + weights @ means**2 - (weights @ means) ** 2
        assert bound.upper <= min(huber, 0.5 * np.log(2 * np.pi * np.e * spread)) + 1e-10


def test_pairwise_bounds_are_their_definition():
    """Oracle: both pairwise distances between normal distributions, in NumPy."""
    weights, means, variances = CASES[1]
    apart = (means[:, None] - means) ** 2
    total = variances[:, None] + variances
    kl = 0.5 * (variances[:, None] / variances - 1 + apart / variances)
    kl += 0.5 * np.log(variances / variances[:, None])
    bhattacharyya = apart / total / 4
    bhattacharyya += 0.5 * np.log(total / 2 / np.sqrt(np.outer(variances, variances)))
    own = weights @ (0.5 * np.log(2 * np.pi * np.e * variances))
    pairwise = [own - weights @ np.log(np.exp(-d) @ weights) for d in (bhattacharyya, kl)]
    overlap = stats.norm.pdf(means[:, None], means, np.sqrt(total))
    found = gmm.entropy_bounds(line(*CASES[1]))
    jensen = -weights @ np.log(overlap @ weights)
    np.testing.assert_allclose(found.lower, max(pairwise[0], jensen), rtol=1e-12)
    spread = weights @ variances + weights @ means**2 - (weights @ means) ** 2
    gaussian = 0.5 * np.log(2 * np.pi * np.e * spread)
    np.testing.assert_allclose(found.upper, min(pairwise[1], gaussian), rtol=1e-12)


def closed_kl(m, s, n, t):
    return jnp.log(t / s) + (s**2 + (m - n) ** 2) / (2 * t**2) - 0.5


def test_kl_is_the_closed_form_and_so_is_its_gradient():
    """Oracle: KL of two normal distributions and its derivatives, within 5 standard errors.

    Of the gradients, the standard error comes from 50 independent estimates.
    """
    numbers = jnp.array([0.5, 1.2, -0.3, 2.0])  # mean and deviation of p, of q

    def estimate(key, v):
        parts = [gmm.GMM(jnp.zeros(1), v[i][None, None], gmm.Spherical(v[i + 1][None]))
                 for i in (0, 2)]  # fmt: skip
        return gmm.kl(key, *parts, 400)

    keys = jax.random.split(KEY, 50)
    value = jax.value_and_grad(lambda v, key: estimate(key, v), has_aux=True)
    (values, errors), slopes = jax.jit(jax.vmap(value, (None, 0)))(numbers, keys)
    exact, slope = jax.jit(jax.value_and_grad(lambda v: closed_kl(*v)))(numbers)
    assert abs(values.mean() - exact) < 5 * values.std() / 50**0.5
    np.testing.assert_allclose(errors.mean(), values.std(), rtol=5 / 100**0.5)
    assert (abs(slopes.mean(0) - slope) < 5 * slopes.std(0) / 50**0.5).all()


BAD = {
    "C34": (lambda: gmm.kl(KEY, line(*CASES[0]), gmm.GMM(jnp.zeros(1), jnp.zeros((1, 2)), None), 9),
            ValueError, r"q.means must have shape \(any, 1\), got \(1, 2\)"),
    "dtype": (lambda: gmm.kl(KEY, line(*CASES[0]),
                             gmm.GMM(None, jnp.zeros((1, 1), jnp.float32), None), 9),
              TypeError, "q must be float64 like p, got float32"),
    "no p": (lambda: gmm.kl(KEY, None, line(*CASES[0]), 9), TypeError, "p must be a GMM"),
    "no q": (lambda: gmm.kl(KEY, line(*CASES[0]), None, 9), TypeError, "q must be a GMM"),
    "one draw": (lambda: gmm.kl(KEY, line(*CASES[0]), line(*CASES[1]), 1), ValueError,
                 "n must be at least 2"),
    "no key": (lambda: gmm.kl(0, line(*CASES[0]), line(*CASES[1]), 9), TypeError, "PRNG key"),
    "entropy": (lambda: gmm.entropy_bounds(None), TypeError, "mixture must be a GMM"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    refused(*BAD[case], where="gmm.")
