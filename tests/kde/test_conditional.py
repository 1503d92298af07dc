"""Marginals and conditionals against the mixture they are, and against ratios of densities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import gaussian_kde, multivariate_normal

from jaxnn import kde

RNG = np.random.default_rng(0)
N, D = 40, 3
X, Q = RNG.normal(size=(N, D)), RNG.normal(size=(6, D))
W, F = RNG.uniform(0.5, 1.5, N), RNG.uniform(0.7, 1.5, N)
ROOT = RNG.normal(size=(D, D))
MATRIX = ROOT @ ROOT.T / 3 + 0.3 * np.eye(D)
GIVEN = (2, 0)  # not in order: the rest is feature 1
KINDS = [("gaussian", MATRIX), ("epanechnikov", np.array([2.0, 3.0, 4.0]))]


def fitted(kernel="gaussian", h=MATRIX, form="product"):
    options = {"sample_weight": jnp.asarray(W), "factors": jnp.asarray(F)}
    return kde.fit(jnp.asarray(X), bandwidth=jnp.asarray(h), kernel=kernel, form=form, **options)


def test_a_marginal_equals_scipy():
    """Oracle: `gaussian_kde.marginal`, whose bandwidth is a matrix."""
    peer = gaussian_kde(X.T, weights=W)
    model = kde.fit(jnp.asarray(X), bandwidth=jnp.asarray(peer.covariance), sample_weight=W)
    got = kde.log_prob(kde.marginal(model, (0, 2)), jnp.asarray(Q[:, [0, 2]]))
    np.testing.assert_allclose(got, peer.marginal([0, 2]).logpdf(Q[:, [0, 2]].T), rtol=1e-10)


def test_a_gaussian_conditional_equals_that_of_a_mixture():
    """Oracle: conditioning each component by NumPy, with weights and factors."""
    rest = [1]
    aa, ab, bb = (
        MATRIX[np.ix_(rest, rest)],
        MATRIX[np.ix_(rest, GIVEN)],
        MATRIX[np.ix_(GIVEN, GIVEN)],
    )
    gain = ab @ np.linalg.inv(bb)
    values = Q[:, GIVEN]
    got = kde.condition(fitted(), GIVEN, jnp.asarray(values))
    evidence = np.array([
        multivariate_normal(X[i, GIVEN], F[i] ** 2 * bb).pdf(values) for i in range(N)
    ]).T * W / W.sum()  # fmt: skip
    np.testing.assert_allclose(got.log_evidence, np.log(evidence.sum(axis=1)), rtol=1e-10)
    weights = evidence / evidence.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(jnp.exp(got.model.log_weights), weights, rtol=1e-9)
    points = X[None][:, :, rest] + (values[:, None] - X[None][:, :, GIVEN]) @ gain.T
    np.testing.assert_allclose(got.model.points, points, rtol=1e-9)
    np.testing.assert_allclose(got.model.bandwidth[0], aa - gain @ ab.T, rtol=1e-9)
    np.testing.assert_array_equal(got.model.factors[0], F)


@pytest.mark.parametrize(("kernel", "h"), KINDS)
def test_a_conditional_is_the_joint_over_the_marginal(kernel, h):
    """Invariant: p(a | b) p(b) = p(a, b), by `condition` and without its weights."""
    model = fitted(kernel, h)
    found = kde.condition(model, GIVEN, jnp.asarray(Q[:, GIVEN]))
    assert bool(jnp.all(found.reached))
    part = jax.vmap(kde.log_prob)(found.model, jnp.asarray(Q[:, None, [1]]))[:, 0]
    joint = kde.log_prob(model, jnp.asarray(Q))
    np.testing.assert_allclose(part + found.log_evidence, joint, rtol=1e-9, atol=1e-9)
    got = kde.conditional_log_prob(model, GIVEN, jnp.asarray(Q))
    np.testing.assert_allclose(got, part, rtol=1e-9, atol=1e-9)


def test_far_values_leave_weights_that_add_up_to_one():
    """Limit: the nearest point of one bandwidth takes all, however far."""
    model = kde.fit(jnp.asarray(X), bandwidth=0.5)
    found = kde.condition(model, (0,), jnp.array([1e4]))
    assert bool(found.reached)
    assert bool(jnp.isfinite(found.log_evidence))
    assert int(jnp.argmax(found.model.log_weights)) == int(np.argmax(X[:, 0]))
    np.testing.assert_allclose(jnp.sum(jnp.exp(found.model.log_weights)), 1.0, rtol=1e-12)


def test_values_out_of_reach_are_flagged():
    model = fitted(*KINDS[1])
    found = kde.condition(model, GIVEN, jnp.array([50.0, 0.0]))
    assert not bool(found.reached)
    assert float(found.log_evidence) == -np.inf
    np.testing.assert_array_equal(found.model.log_weights, model.log_weights)
    x = jnp.array([[0.0, 0.0, 50.0]])
    assert kde.conditional_log_prob(model, GIVEN, x).tolist() == [-np.inf]


def test_bad_input(unchecked_types):
    """C30, C31 and C33 for a density."""
    model, radial = fitted(), fitted("biweight", np.ones(D), "radial")
    wrong = {
        r"dims must be between 0 and 2, got 3": (3,),
        r"dims must be between 0 and 2, got -1": (-1,),
        r"dims must be one or more different features": (1, 1),
        r"dims must be one or more different features, got \(\)": (),
    }
    for message, dims in wrong.items():
        with pytest.raises(ValueError, match=f"marginal: {message}"):
            kde.marginal(model, dims)
    with pytest.raises(TypeError, match="marginal: dims must be a sequence"):
        kde.marginal(model, 1)
    with pytest.raises(TypeError, match="marginal: dims must be a whole number"):
        kde.marginal(model, (0.5,))
    with pytest.raises(ValueError, match="condition: dims must leave at least one feature"):
        kde.condition(model, (0, 1, 2), jnp.ones(3))
    for f in (lambda m: kde.marginal(m, (0,)), lambda m: kde.condition(m, (0,), jnp.ones(1))):
        with pytest.raises(ValueError, match="model must have a Gaussian or a product kernel"):
            f(radial)
        with pytest.raises(ValueError, match=r"model.bandwidth must be a number .*got a matrix"):
            f(fitted("biweight"))
    with pytest.raises(ValueError, match="condition: values must have shape"):
        kde.condition(model, (0,), jnp.ones(2))
    with pytest.raises(ValueError, match="condition: values must be finite"):
        kde.condition(model, (0,), jnp.array([jnp.nan]))
