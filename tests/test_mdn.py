"""Mixture density networks.

Oracles: SciPy's normal densities of a mixture written out in NumPy, Bishop's (1994) derivatives,
and moments of draws.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import NAN, refused
from scipy import stats
from scipy.special import logsumexp, softmax

from jaxnn import gmm, mdn, mlp, train

rng = np.random.default_rng(0)
N, I, D, K = 7, 3, 2, 2
X, Y = rng.normal(size=(N, I)), rng.normal(size=(N, D))
WEIGHT = rng.uniform(size=N) * (np.arange(N) > 0)
KEY = jax.random.key(0)
FAMILIES = ("full", "tied", "diag", "spherical")


log_prob = jax.jit(mdn.log_prob)
mixture_of = jax.jit(mdn.mixture)


def targets(family, dtype=np.float64):
    """The mixture that a network starts from."""
    root = np.array([[[1.0, 0.0], [0.6, 0.7]], [[0.5, 0.0], [-0.3, 1.2]]])
    full = root @ root.transpose(0, 2, 1)
    given = {"full": full, "tied": full[0], "diag": full[:, [0, 1], [0, 1]],
             "spherical": full[:, 0, 0]}[family]  # fmt: skip
    means = np.array([[-1.0, 0.5], [1.0, 0.0]])
    return gmm.from_covariances(*(np.asarray(a, dtype) for a in ([0.3, 0.7], means, given)),
                                family=family)  # fmt: skip


def network(family, dtype=np.float64, scale=10.0):
    """Outputs that matter: ten times the weights of a start."""
    params = mdn.init(KEY, targets(family, dtype), I, (4,))
    last = params.layers[-1]
    return params._replace(layers=(*params.layers[:-1], last._replace(weight=scale * last.weight)))


def by_hand(params, family, floor):
    """Weights, means and covariances for each row of X, written out."""
    hidden = np.tanh(X @ np.asarray(params.layers[0].weight).T)
    out = hidden @ np.asarray(params.layers[1].weight).T
    logits, means, out = out[:, :K], out[:, K : K + K * D].reshape(N, K, D), out[:, K + K * D :]
    logits = logits + np.log([0.3, 0.7])
    means = means + np.array([[-1.0, 0.5], [1.0, 0.0]])
    base = targets(family).cov
    if family == "spherical":
        scale = np.hypot(np.exp(out + np.log(base.scale)), floor)
        tril = scale[:, :, None, None] * np.eye(D)
    elif family == "diag":
        scale = np.hypot(np.exp(out.reshape(N, K, D) + np.log(base.scale)), floor)
        tril = scale[..., None] * np.eye(D)
    else:
        kinds = K if family == "full" else 1
        root = np.asarray(base.scale_tril).reshape(kinds, D, D)
        diagonal = np.diagonal(root, axis1=1, axis2=2)
        free = out[:, : kinds * D].reshape(N, kinds, D) + np.log(diagonal)
        scale = np.hypot(np.exp(free), floor)
        ratio = out[:, kinds * D :] + root[:, 1, 0] / diagonal[:, 1]
        tril = scale[..., None] * np.eye(D)
        tril[..., 1, 0] = ratio * scale[..., 1]
        tril = np.broadcast_to(tril, (N, K, D, D))
    return softmax(logits, axis=1), means, tril @ np.swapaxes(tril, -1, -2)


@pytest.mark.parametrize("family", FAMILIES)
def test_density_is_that_of_the_mixture_written_out(family):
    params = network(family)
    weights, means, covariances = by_hand(params, family, 0.3)

    @jax.jit
    def both(params, x):
        mixture = mdn.mixture(params, x, floor=0.3)
        return mixture, jax.vmap(lambda m: m.cov.covariances(m.means))(mixture), mdn.log_prob(
            params, x, Y, floor=0.3)  # fmt: skip

    mixture, found, density = both(params, X)
    np.testing.assert_allclose(jnp.exp(mixture.log_weights), weights, rtol=1e-12)
    np.testing.assert_allclose(mixture.means, means, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(found, covariances, rtol=1e-11, atol=1e-13)
    joint = [[stats.multivariate_normal.logpdf(y, m, c) for m, c in zip(ms, cs, strict=True)]
             for y, ms, cs in zip(Y, means, covariances, strict=True)]  # fmt: skip
    np.testing.assert_allclose(density, logsumexp(np.log(weights) + joint, axis=1), rtol=1e-10)
    assert type(mixture.cov) is type(targets(family).cov)


def test_without_weights_it_is_the_mixture_of_the_targets():
    """Oracle: `gmm.log_prob`, but for the floor."""
    density = log_prob(network("full", scale=0.0), X, Y, floor=1e-9)
    np.testing.assert_allclose(density, gmm.log_prob(targets("full"), Y), rtol=1e-12)


def test_gradients_are_those_of_bishop():
    """∂/∂logit = w − r and ∂/∂m = r (m − y)/σ² (Bishop, 1994, eqs. 35 and 37), averaged."""
    params = network("spherical")
    value, gradient = jax.jit(mdn.value_and_grad())(params, train.Batch(X, Y, WEIGHT), None)
    density = log_prob(params, X, Y)
    share = WEIGHT / WEIGHT.sum()
    np.testing.assert_allclose(value, -np.sum(share * density), rtol=1e-12)
    m = mixture_of(params, X)
    r = jax.jit(jax.vmap(lambda one, y: gmm.posterior(one, y[None])[0]))(m, Y)
    np.testing.assert_allclose(gradient.bias.logits, share @ (jnp.exp(m.log_weights) - r),
                               rtol=1e-9)  # fmt: skip
    pull = r[:, :, None] * (m.means - Y[:, None]) / jnp.square(m.cov.scale)[:, :, None]
    np.testing.assert_allclose(gradient.bias.means, np.tensordot(share, pull, 1), rtol=1e-9)


def test_rows_without_weight_and_equal_weights():
    params, descend = network("diag"), jax.jit(mdn.value_and_grad())
    none = descend(params, train.Batch(X, Y, None), None)[0]
    np.testing.assert_allclose(none, -np.mean(log_prob(params, X, Y)), rtol=1e-12)
    value, gradient = descend(params, train.Batch(X, Y, jnp.zeros(N)), None)
    assert float(value) == 0
    assert not any(bool(leaf.any()) for leaf in jax.tree.leaves(gradient))


def test_draws_have_the_moments_of_the_mixture():
    """Statistics: 5 standard errors of a mean of 4,000 draws; second moments by their own."""
    params, n = network("full"), 4000
    draw = jax.jit(lambda x: mdn.sample(KEY, params, x, n))
    draws, mixtures = draw(X[:3]), mixture_of(params, X)
    mean, covariance = jax.jit(jax.vmap(lambda m: (gmm.mean(m), gmm.covariance(m))))(mixtures)
    mean, covariance = mean[:3], covariance[:3]
    error = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2) / n)
    assert np.all(np.abs(draws.mean(axis=1) - mean) < 5 * error)
    apart = draws - mean[:, None]
    products = apart[..., :, None] * apart[..., None, :]
    assert np.all(np.abs(products.mean(axis=1) - covariance)
                  < 5 * np.std(products, axis=1) / n**0.5)  # fmt: skip
    same = draw(X[[0, 0, 0]])  # rows that are equal are drawn on their own
    assert not np.array_equal(same[0], same[1])


def test_dropout_is_that_of_the_network():
    """Oracle: the same mean over the rows with `mlp.apply` and its key."""
    params = network("diag")
    descend = jax.jit(mdn.value_and_grad(keep_prob=0.5))
    value, _ = descend(params, train.Batch(X, Y, None), KEY)
    out = mlp.apply(params.layers, X, activation="tanh", keep_prob=0.5, key=KEY)
    linear = params._replace(layers=(mlp.Dense(jnp.eye(out.shape[1]), None),))
    np.testing.assert_allclose(value, -np.mean(log_prob(linear, out, Y)), rtol=1e-12)


def test_outputs_beyond_all_bounds_stay_finite_in_float32():
    """Oracle: no density is above that of a normal at its mean with the floor's scale."""
    params, floor = network("full", np.float32, scale=1e4), 1e-3
    x, y = X.astype(np.float32), Y.astype(np.float32)
    value, gradient = jax.jit(mdn.value_and_grad())(params, train.Batch(x, y), None)
    assert bool(jnp.isfinite(value))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient))
    density = log_prob(params, x, y)
    assert np.all(density <= -D * np.log(floor * np.sqrt(2 * np.pi)) + 1e-3)
    assert bool(jnp.isfinite(jax.jit(lambda x: mdn.sample(KEY, params, x, 2))(x)).all())


def test_rows_that_are_all_the_same_are_learned_down_to_the_floor():
    """The spike of a likelihood without bound ends at the floor, and training goes on."""
    y = np.full((N, 1), 0.5, np.float32)
    start = gmm.from_covariances(*map(np.float32, ([1.0], [[0.0]], [1.0])), family="spherical")
    params = mdn.init(KEY, start, I, ())
    run = train.fit(KEY, params, train.Batch(X.astype(np.float32), y), mdn.value_and_grad(),
                    epochs=400, learning_rate=0.03)  # fmt: skip
    assert not bool(run.diverged)
    best = -np.log(1e-3 * np.sqrt(2 * np.pi))
    density = log_prob(run.params, X.astype(np.float32), y)
    assert np.all(density <= best + 1e-3)
    assert float(run.history.loss.min()) < -2  # far beyond the start, whose value is 1.04


NET = network("diag")
BAD = {
    "x NaN": (lambda: mdn.mixture(NET, NAN[:, [0, 1, 1]]), ValueError, "mixture: x must be finite"),
    "x width": (lambda: mdn.mixture(NET, X[:, :2]), ValueError, r"x must have shape \(any, 3\)"),
    "x dtype": (lambda: mdn.mixture(NET, X.astype(np.float32)), TypeError, "must be float64 like"),
    "F13": (lambda: mdn.log_prob(NET, X, Y[:5]), ValueError, r"y must have shape \(7, 2\)"),
    "F14": (lambda: mdn.log_prob(NET, X, np.where(Y > 1, np.nan, Y)), ValueError,
            "log_prob: y must be finite"),
    "y 1-D": (lambda: mdn.log_prob(NET, X, Y[:, 0]), ValueError, "reshape"),
    "y dtype": (lambda: mdn.log_prob(NET, X, Y.astype(np.float32)), TypeError, "y must be float64"),
    "floor": (lambda: mdn.mixture(NET, X, floor=0.0), ValueError, "floor must be positive"),
    "activation": (lambda: mdn.mixture(NET, X, activation="tan"), ValueError, "mean 'tanh'"),
    "keep": (lambda: mdn.value_and_grad(keep_prob=0.0), ValueError, r"keep_prob must be in \(0"),
    "weights": (lambda: mdn.value_and_grad()(NET, train.Batch(X, Y, -WEIGHT), None), ValueError,
                "weight must not be negative"),
    "params": (lambda: mdn.mixture(NET.layers, X), TypeError, "params must be a MDN, got tuple"),
    "layers": (lambda: mdn.mixture(NET._replace(layers=NET.layers[:1]), X), ValueError,
               r"weight of the last layer must have shape \(10, any\), got \(4, 3\)"),
    "no layers": (lambda: mdn.mixture(NET._replace(layers=()), X), TypeError, "tuple of layers"),
    "family": (lambda: mdn.init(KEY, gmm.init(KEY, Y, 2, family="VVE"), I), ValueError,
               "init: the mixture must be full, tied, diag, spherical"),
    "hidden": (lambda: mdn.init(KEY, targets("diag"), I, (0,)), ValueError, r"hidden\[0\] must be"),
    "key": (lambda: mdn.sample(0, NET, X, 3), TypeError, "key must be a PRNG key"),
    "n": (lambda: mdn.sample(KEY, NET, X, 0), ValueError, "n must be at least 1"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    refused(*BAD[case], "mdn.")
