"""Class-conditional densities against one density fitted on each class."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp
from scipy.stats import norm
from sklearn.neighbors import KernelDensity

from jaxnn import kde

RNG = np.random.default_rng(0)
N, D, C = 60, 2, 3
LABELS = np.arange(N) % C
X = RNG.normal(size=(N, D)) + 2.0 * LABELS[:, None]
Q = RNG.normal(size=(12, D)) * 3
Q[0] = 60.0  # out of reach of all
W = RNG.uniform(0.5, 1.5, N)
H = np.array([0.5, 0.8, 1.2])


def classes(**options):
    return kde.class_conditional(jnp.asarray(X), jnp.asarray(LABELS), C, **options)


@pytest.mark.parametrize("kernel", ["gaussian", "epanechnikov"])
def test_classes_equal_scikit_learn(kernel):
    """Oracle: `KernelDensity` on the rows of each class, then Bayes by SciPy."""
    expected = np.stack([
        KernelDensity(bandwidth=H[c], kernel=kernel, leaf_size=N)
        .fit(X[c == LABELS], sample_weight=W[c == LABELS]).score_samples(Q) for c in range(C)
    ], axis=1)  # fmt: skip
    found = classes(bandwidth=jnp.asarray(H), kernel=kernel, sample_weight=jnp.asarray(W))
    got = kde.class_log_prob(found, jnp.asarray(Q))
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10)
    share = np.array([W[c == LABELS].sum() for c in range(C)]) / W.sum()
    np.testing.assert_allclose(jnp.exp(found.log_prior), share, rtol=1e-12)
    for prior in (None, np.array([0.2, -1.0, 3.0])):
        log_prior = np.log(share) if prior is None else prior
        joint = (
            np.where(np.isfinite(expected).any(axis=1, keepdims=True), expected, 0.0) + log_prior
        )
        given = None if prior is None else jnp.asarray(prior)
        got = kde.posterior(found, jnp.asarray(Q), log_prior=given)
        np.testing.assert_allclose(got, log_softmax(joint, axis=1), rtol=1e-9, atol=1e-12)
        best = kde.classify(found, jnp.asarray(Q), log_prior=given)
        np.testing.assert_array_equal(best, joint.argmax(axis=1))


def test_a_rule_sees_one_class_at_a_time():
    """Oracle: `scott` on the rows of each class, with their weights."""
    expected = [kde.scott(jnp.asarray(X[c == LABELS]), W[c == LABELS]) for c in range(C)]
    found = classes(sample_weight=jnp.asarray(W))
    np.testing.assert_allclose(found.bandwidth, jnp.stack(expected), rtol=1e-12)


def test_each_class_has_bandwidths_of_its_own_for_each_feature():
    """Oracle: sums of SciPy's normal densities over the rows of each class."""
    h = np.linspace(0.5, 1.5, C * D).reshape(C, D)
    got = kde.class_log_prob(classes(bandwidth=jnp.asarray(h)), jnp.asarray(Q))
    for c in range(C):
        rows = X[c == LABELS]
        logs = np.sum(norm.logpdf(Q[:, None], rows[None], h[c]), axis=2)
        expected = logsumexp(logs, axis=1) - np.log(len(rows))
        np.testing.assert_allclose(got[:, c], expected, rtol=1e-11)


def test_far_rows_keep_a_posterior_and_unreached_ones_the_prior():
    """Limit: every density has underflowed in its own units, their logs have not."""
    far = jnp.full((1, D), 1e5)
    got = kde.posterior(classes(bandwidth=1.0), far)
    assert int(jnp.argmax(got)) == int(LABELS[np.argmax(X.sum(axis=1))])
    np.testing.assert_allclose(jnp.sum(jnp.exp(got)), 1.0, rtol=1e-12)
    assert bool(jnp.all(jnp.isfinite(got)))


def test_the_ratio_of_densities():
    """Closed form for two single kernels; and where one or both do not reach."""
    p, q = (kde.fit(jnp.full((1, D), at), bandwidth=1.0) for at in (1.0, -1.0))
    got = kde.log_density_ratio(p, q, jnp.asarray(Q * 1e3))
    np.testing.assert_allclose(got, 2 * np.sum(Q * 1e3, axis=1), rtol=1e-9)
    p, q = (kde.fit(jnp.full((1, D), at), bandwidth=1.0, kernel="tophat") for at in (0.0, 9.0))
    x = jnp.array([[0.0, 0.0], [9.0, 9.0], [99.0, 0.0]])
    assert kde.log_density_ratio(p, q, x).tolist() == [np.inf, -np.inf, 0.0]
    gradient = jax.grad(lambda x: kde.log_density_ratio(p, q, x)[2])(x)
    assert bool(jnp.all(gradient == 0))


def test_bad_input(unchecked_types):
    """F7, F8, F9, F15 and an empty class (F12)."""
    x, y = jnp.asarray(X), jnp.asarray(LABELS)
    fit = kde.class_conditional
    with pytest.raises(ValueError, match=r"class_conditional: labels must lie in \[0, 2\)"):
        fit(x, y, 2)
    with pytest.raises(ValueError, match="labels must lie in"):
        fit(x, y.at[0].set(-1), C)
    with pytest.raises(TypeError, match="labels must hold whole numbers"):
        fit(x, y * 1.0, C)
    with pytest.raises(ValueError, match="labels must have shape"):
        fit(x, y[:5], C)
    with pytest.raises(ValueError, match=r"every class must have a row .* labels \[3\]"):
        fit(x, y, 4)
    with pytest.raises(ValueError, match="n_classes must be at least 1"):
        fit(x, y, 0)
    with pytest.raises(ValueError, match=r"bandwidth must have shape \(3,\)"):
        fit(x, y, C, bandwidth=jnp.ones(2))
    with pytest.raises(ValueError, match="bandwidth must be positive"):
        fit(x, y, C, bandwidth=0)
    with pytest.raises(ValueError, match="did you mean 'scott'"):
        fit(x, y, C, bandwidth="scot")
    found = classes(bandwidth=1.0)
    with pytest.raises(ValueError, match="posterior: log_prior must have shape"):
        kde.posterior(found, x, log_prior=jnp.zeros(2))
    with pytest.raises(ValueError, match="posterior: log_prior must be below infinity"):
        kde.posterior(found, x, log_prior=jnp.full(3, -jnp.inf))
    with pytest.raises(ValueError, match="class_log_prob: x must have shape"):
        kde.class_log_prob(found, x[:, :1])
    with pytest.raises(TypeError, match="posterior: classes must be a Classes"):
        kde.posterior(x, x)
    model = kde.fit(x, bandwidth=1.0)
    with pytest.raises(ValueError, match="log_density_ratio: x must have shape"):
        kde.log_density_ratio(model, model, x[:, :1])
