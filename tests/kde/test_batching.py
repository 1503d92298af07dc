"""Many densities in one call.  Oracle: sums of SciPy's normal densities, a set at a time."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats
from scipy.special import logsumexp

from jaxnn import kde

rng = np.random.default_rng(0)
X = rng.normal(size=(4, 30, 2))
Y = rng.normal(size=(5, 2))


def by_hand(x, h, weights=None):
    """The log density with one bandwidth, or one for each feature."""
    logs = stats.norm.logpdf(Y[:, None, :], x[None], h).sum(axis=2)
    weights = np.ones(len(x)) if weights is None else weights
    return logsumexp(logs, b=weights / weights.sum(), axis=1)


def test_over_data_sets_with_a_rule_for_each():
    ours = jax.jit(jax.vmap(lambda x: kde.log_prob(kde.fit(x), Y)))(X)
    for x, log_density in zip(X, ours, strict=True):
        np.testing.assert_allclose(log_density, by_hand(x, kde.scott(x)), rtol=1e-12)


def test_over_bandwidths_and_over_weights():
    widths = jnp.array([0.2, 0.5, 1.0])
    weights = rng.uniform(0.1, 1, (3, 30))
    one = lambda h, w: kde.log_prob(kde.fit(X[0], bandwidth=h, sample_weight=w), Y)
    ours = jax.jit(jax.vmap(one))(widths, weights)
    for h, weight, log_density in zip(widths, weights, ours, strict=True):
        np.testing.assert_allclose(log_density, by_hand(X[0], float(h), weight), rtol=1e-12)


def test_a_batch_of_models_is_a_model_with_a_leading_axis():
    """What `vmap` of `fit` returns, `vmap` of `log_prob` and of `debias` takes."""
    models = jax.vmap(lambda x: kde.fit(x, bandwidth=0.5))(X)
    ours = jax.vmap(kde.log_prob, in_axes=(0, None))(models, Y)
    for x, log_density in zip(X, ours, strict=True):
        np.testing.assert_allclose(log_density, by_hand(x, 0.5), rtol=1e-12)
    moved = jax.vmap(kde.debias)(models)
    for x, points in zip(X, moved.points, strict=True):
        np.testing.assert_allclose(points, kde.debias(kde.fit(x, bandwidth=0.5)).points, rtol=1e-12)
