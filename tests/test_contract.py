"""One row for each public function; each row must keep the whole contract.

jit of vmap = a loop of calls, gradients finite and equal to differences, float32 stays float32
under x64, the second call builds no program, and the key stands in its place.  A row's checks
share its calls: the time goes into compiling them.
"""

import inspect
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxnn
from jaxnn import (
    dbn,
    gmm,
    hopfield,
    inspection,
    kde,
    mdn,
    metrics,
    mlp,
    neuron,
    perceptron,
    rbm,
    sweep,
    train,
)

rng = np.random.default_rng(0)
N, D, K = 12, 2, 3
X = rng.normal(size=(N, D))
W = rng.uniform(0.5, 1.5, N)
Y = rng.integers(0, K, N)
KEY = jax.random.key(0)
JITTED = type(jax.jit(lambda: 0))
MEMBERS = jnp.arange(N)
SQUARE = np.random.default_rng(1).normal(size=(N, N))
FAMILIES = ("full", "tied", "diag", "spherical")


def mixture(family: str, dtype=np.float64) -> gmm.GMM:
    root = rng.normal(size=(K, D, D))
    full = root @ root.transpose(0, 2, 1) + np.eye(D)
    given = {"full": full, "tied": full[0], "diag": full[:, 0] ** 2 + 1, "spherical": full[:, 0, 0]}
    means = rng.normal(size=(K, D))
    return gmm.from_covariances(np.array([0.5, 0.2, 0.3]), means, given[family], family=family)


MIX = mixture("full")
SIZE, FORM = rng.uniform(0.5, 1.5, K), rng.uniform(0.5, 1.5, (K, D))
STRUCTURED = {  # one of each class, with some arrays for all components and some for each
    "VVE": gmm.Eigen(SIZE, FORM, rng.normal(size=(1, D, D))),
    "VEE": gmm.Ellipsoid(SIZE, np.eye(D)[None] + np.tril(rng.uniform(size=(1, D, D)))),
    "factors": gmm.Factors(FORM[:, :, None], rng.uniform(0.5, 1.5, (1, D))),
}
MOMENTS = gmm.e_step(MIX, X, W)
PRIOR = gmm.Prior(1.5, X[0], 0.3, 7.0, np.array([[1.2, 0.0], [0.4, 0.8]]))
AXIS = gmm.marginal(MIX, [0])
NATS = gmm.negative_log_likelihood("full")
BALLS = mixture("spherical")
DEAD = MIX._replace(log_weights=jnp.log(jnp.array([0.6, 0.0, 0.4])))  # derivatives stay finite
DENSITY = kde.fit(jnp.asarray(X), bandwidth=jnp.array([0.7, 0.9]), sample_weight=jnp.asarray(W))
LINE = kde.fit(jnp.asarray(X[:, :1]), bandwidth=0.7, sample_weight=jnp.asarray(W))
CLASSES = kde.class_conditional(jnp.asarray(X), jnp.asarray(Y), K, bandwidth=0.7)
NET = mlp.init(KEY, (D, 4, K), activation="tanh", dtype=jnp.float64)
BATCH = train.Batch(jnp.asarray(X), jnp.asarray(Y), jnp.asarray(W))
TAPE = mlp.forward(NET, X, activation="tanh")[1]
GRAD_OUT = rng.normal(size=(N, K))
LINES = perceptron.Perceptron(jnp.asarray(X[:K]), jnp.asarray(W[:K]))
SIDES = X @ X[:K].T + W[:K]
CLEAR = np.min(np.abs(SIDES), axis=1) > 0.3
BY_HAND = mlp.value_and_grad("softmax_cross_entropy", activation="tanh")
HEAD = mdn.init(KEY, mixture("diag"), D, (2,))
PER_SAMPLE = mlp.per_sample(activation="tanh")
PRODUCTS = mlp.sample_products(activation="tanh")
DEEP = mlp.init(KEY, (D, D, D, K), activation="tanh", stacked=True, dtype=jnp.float64)
BITS = (X > 0).astype(float)
HIDDEN_BITS = (rng.normal(size=(N, K)) > 0).astype(float)
MACHINES = {
    units: kind(rng.normal(size=(D, K)), rng.normal(size=D), rng.normal(size=K))
    for units, kind in rbm.VISIBLE.items()
}
BIT, REAL = MACHINES["bernoulli"], MACHINES["gaussian"]
STACK = (BIT, rbm.Bernoulli(rng.normal(size=(K, 4)), rng.normal(size=K), rng.normal(size=4)))
GAPS = np.where(np.random.default_rng(1).uniform(size=(N, D)) < 0.3, np.nan, X)
BAYES_PRIOR = gmm.bayes_prior(X, K, concentration=0.5)
BELIEF = gmm.fit_bayes(MIX, X, prior=BAYES_PRIOR, max_steps=1).posterior


class Row(NamedTuple):
    """`call(*args)` of arrays; `smooth` numbers the arguments it can be differentiated in."""

    call: Callable[..., Any]
    args: tuple[Any, ...]
    smooth: tuple[int, ...] = ()


def trained(params, x, rate):
    batch = train.Batch(x, jnp.asarray(Y), None)
    return train.fit(KEY, params, batch, BY_HAND, epochs=2, batch_size=5, learning_rate=rate)


def divergence(params, x, weight):
    return rbm.contrastive_divergence(2)(params, train.Batch(x, None, weight), KEY)


def learn_nothing(key, params, x):
    return params._replace(visible_bias=jnp.mean(x, axis=0))


def one_member(hp, key, scale):
    return hp["a"] * scale + jax.random.normal(key, (), scale.dtype)


def swept(scale):
    members = {"a": jnp.arange(4.0, dtype=scale.dtype)}
    return sweep.run(one_member, members, KEY, scale).results


def score(params, x, y):
    return jnp.mean(jnp.square(x @ params - y))


def mean_of(key, weight, x):
    return jnp.sum(weight.astype(x.dtype)[:, None] * x)


def named_member(hp, key, scale):
    return hp["a"] * scale * len(hp["rule"])


def swept_by_name(scale):
    members = sweep.grid(rule=["one", "other"]) | {"a": jnp.arange(2.0, dtype=scale.dtype)}
    return sweep.run_groups(named_member, members, KEY, scale).results


def quiet(rule, x):
    """A rule that may fall back on a dozen points, and would say so."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return rule(x)


ROWS = {
    "gmm.log_joint": Row(gmm.log_joint, (MIX, X), (0, 1)),
    # The other families' densities are in the rows of their e_step.
    **{f"gmm.log_prob {f}": Row(gmm.log_prob, (mixture(f), X), (0, 1)) for f in ("full", "diag")},
    "gmm.posterior": Row(gmm.posterior, (MIX, X), (0, 1)),
    "gmm.predict": Row(gmm.predict, (MIX, X)),
    "gmm.sample": Row(lambda m: gmm.sample(KEY, m, 5), (MIX,)),
    "gmm.n_parameters": Row(gmm.n_parameters, (MIX,)),
    "gmm.bic": Row(gmm.bic, (MIX, X, W), (0, 1, 2)),
    "gmm.aic": Row(gmm.aic, (MIX, X, W), (0, 1, 2)),
    **{f"gmm.e_step {f}": Row(gmm.e_step, (mixture(f), X, W), (0, 1, 2)) for f in FAMILIES},
    **{f"gmm.e_step {f}": Row(gmm.e_step, (MIX._replace(cov=cov), X, W), (0, 1, 2))
       for f, cov in STRUCTURED.items()},
    "gmm.m_step": Row(gmm.m_step, (MIX, MOMENTS, 0.1), (0, 1, 2)),
    "gmm.m_step prior": Row(lambda m, t, p: gmm.m_step(m, t, prior=p), (MIX, MOMENTS, PRIOR),
                            (0, 1, 2)),
    "gmm.log_prior": Row(gmm.log_prior, (MIX, PRIOR), (0, 1)),
    "gmm.default_prior": Row(lambda x, w: gmm.default_prior(x, K, sample_weight=w), (X, W), (0, 1)),
    "gmm.init": Row(lambda x, w: gmm.init(KEY, x, K, sample_weight=w), (X, W)),
    "gmm.fit": Row(lambda m, x, w, r: gmm.fit(m, x, sample_weight=w, ridge=r, max_steps=2),
                   (MIX, X, W, 1e-3)),
    "gmm.fit prior": Row(lambda m, x, p: gmm.fit(m, x, prior=p, max_steps=3, accelerate=True),
                         (MIX, X, PRIOR)),
    "gmm.icl": Row(gmm.icl, (MIX, X, W), (0, 1, 2)),
    "gmm.k_means": Row(lambda x, w: gmm.k_means(KEY, x, K, sample_weight=w, max_steps=2), (X, W)),
    "gmm.from_labels": Row(lambda x, w: gmm.from_labels(Y, x, K, family="diag", sample_weight=w),
                           (X, W), (0, 1)),
    "gmm.fit_best": Row(lambda x, w, r: gmm.fit_best(KEY, x, 2, family="diag", n_starts=2,
        n_continued=1, sample_weight=w, ridge=r, short_steps=1, max_steps=2), (X, W, 1e-3)),
    "gmm.marginal": Row(lambda m: gmm.marginal(m, (1, 0)), (MIX,), (0,)),
    "gmm.condition": Row(lambda m, v: gmm.condition(m, (1,), v), (MIX, X[:2, :1]), (0, 1)),
    "gmm.regress": Row(lambda m, v: gmm.regress(m, (1,), v), (DEAD, X[:2, :1]), (0, 1)),
    "gmm.mean": Row(gmm.mean, (DEAD,), (0,)),
    "gmm.covariance": Row(gmm.covariance, (DEAD,), (0,)),
    "gmm.cdf": Row(gmm.cdf, (AXIS, X[:, :1]), (0, 1)),
    "gmm.quantile": Row(gmm.quantile, (AXIS, W / 2), (0, 1)),
    "gmm.entropy_bounds": Row(gmm.entropy_bounds, (DEAD,), (0,)),
    "gmm.kl": Row(lambda p, q: gmm.kl(KEY, p, q, 5).value, (MIX, DEAD), (1,)),
    "gmm.modes": Row(lambda m: gmm.modes(m)[:2], (DEAD,), (0,)),
    "gmm.merge": Row(lambda m: gmm.merge(m, 0, 1), (DEAD,), (0,)),
    "gmm.reduce": Row(lambda m: gmm.reduce(m, 2), (MIX,), (0,)),
    "gmm.unconstrain": Row(gmm.unconstrain, (MIX,), (0,)),
    "gmm.constrain": Row(lambda p: gmm.constrain(p, family="full"), (gmm.unconstrain(MIX),), (0,)),
    "gmm.negative_log_likelihood": Row(lambda p, x, w: NATS(p, train.Batch(x, None, w), KEY),
                                       (gmm.unconstrain(MIX), X, W), (0, 1, 2)),
    "gmm.fit_implicit": Row(lambda m, x, w, r: gmm.fit_implicit(
        m, x, sample_weight=w, ridge=r, tol=1e-12)[:2], (BALLS, X, W, 0.1), (1, 2, 3)),
    "gmm.stepwise_init": Row(gmm.stepwise_init, (MIX,), (0,)),
    "gmm.stepwise_step": Row(lambda m, x, s, w: gmm.stepwise_step(
        gmm.stepwise_init(m), x, s, sample_weight=w), (MIX, X, 0.5, W), (0, 1, 2, 3)),
    "gmm.fit_stepwise": Row(lambda m, x, w, p, r: gmm.fit_stepwise(
        KEY, m, x, sample_weight=w, power=p, ridge=r, batch_size=5, epochs=1),
                            (MIX, X, W, 0.6, 1e-3)),
    "gmm.from_covariances": Row(lambda m, c: gmm.from_covariances(jnp.ones(1, m.dtype), m, c),
                                (X[:1], np.eye(2)[None]), (0,)),
    **{f"gmm.log_prob gaps {f}": Row(lambda m: gmm.log_prob(m, GAPS.astype(m.means.dtype),
                                                            missing=True), (mixture(f),), (0,))
       for f in ("full", "diag")},
    "gmm.fit gaps": Row(lambda m, x: gmm.fit(m, x, max_steps=2, missing=True), (MIX, GAPS)),
    "gmm.impute": Row(lambda m: gmm.impute(m, GAPS.astype(m.means.dtype)), (MIX,), (0,)),
    "gmm.sample_missing": Row(lambda m: gmm.sample_missing(KEY, m, GAPS.astype(m.means.dtype)),
                              (MIX,)),
    "gmm.bayes_prior": Row(lambda x, w, c: gmm.bayes_prior(x, K, concentration=c, sample_weight=w),
                           (X, W, 0.5), (0, 1, 2)),
    "gmm.fit_bayes": Row(lambda p, x, w, q: gmm.fit_bayes(p, x, sample_weight=w, prior=q,
                                                          max_steps=2),
                         (BELIEF, X, W, BAYES_PRIOR)),
    "gmm.bayes_step": Row(gmm.bayes_step, (MIX, MOMENTS, BAYES_PRIOR), (0, 1, 2)),
    "gmm.surrogate": Row(gmm.surrogate, (BELIEF,), (0,)),
    "gmm.expected_mixture": Row(gmm.expected_mixture, (BELIEF,), (0,)),
    "gmm.predictive_log_prob": Row(gmm.predictive_log_prob, (BELIEF, X), (0, 1)),
    "gmm.prune": Row(lambda m: gmm.prune(m, 0.1), (MIX,), (0,)),
    "kde.fit": Row(lambda x, w: kde.fit(x, bandwidth=0.5, sample_weight=w), (X, W), (0, 1)),
    "kde.scott": Row(kde.scott, (X, W), (0, 1)),
    "kde.silverman": Row(kde.silverman, (X, W), (0, 1)),
    "kde.adaptive": Row(lambda m, a: kde.adaptive(m, a).factors, (DENSITY, 0.5), (0, 1)),
    "kde.characteristic": Row(lambda t: kde.characteristic(kde.KERNELS["biweight"], t),
                              (X[:, :1],), (0,)),
    "kde.cross_validate": Row(lambda x, h, w: kde.cross_validate(x, h, folds=3, sample_weight=w)
                              .scores, (X, W[:2], W), (0, 1, 2)),
    "kde.debias": Row(lambda m, h: kde.debias(m, h).points, (DENSITY, 0.8), (0, 1)),
    "kde.laplace_corrected": Row(kde.laplace_corrected, (DENSITY, X), (0, 1)),
    "kde.fit bounded": Row(lambda x, a: kde.bounded.fit(x, lower=a, edges="log",
                                                        bandwidth=0.5).model,
                           (X, -5.0), (0, 1)),
    "kde.log_prob bounded": Row(lambda x, h, q: kde.bounded.log_prob(kde.bounded.fit(
        x, lower=-4.0, upper=jnp.array([3.0, jnp.inf], x.dtype), edges=("periodic", "reflect"),
        bandwidth=h), q), (X, 0.7, X[:5]), (0, 1, 2)),
    "kde.sample bounded": Row(lambda x, a: kde.bounded.sample(KEY, kde.bounded.fit(
        x, lower=a, bandwidth=0.5), 5), (X, -4.0)),
    "kde.improved_sheather_jones": Row(lambda x: quiet(kde.improved_sheather_jones, x)
                                       .bandwidth, (X[:, :1],)),
    "kde.least_squares": Row(lambda x: quiet(kde.least_squares, x).bandwidth, (X[:, :1],)),
    "kde.likelihood": Row(lambda x: quiet(kde.likelihood, x).bandwidth, (X[:, :1],)),
    "kde.maximise_leave_one_out": Row(lambda x: kde.maximise_leave_one_out(x, max_steps=2)[:2],
                                      (X,)),
    "kde.nearest_neighbour": Row(lambda x: kde.nearest_neighbour(x, 2), (X,), (0,)),
    "kde.normal_reference": Row(kde.normal_reference, (X, W), (0, 1)),
    "kde.plug_in": Row(kde.plug_in, (X[:, :1],)),
    "kde.sheather_jones": Row(kde.sheather_jones, (X[:, :1],)),
    "kde.log_prob": Row(kde.log_prob, (DENSITY, X), (0, 1)),
    "kde.leave_one_out": Row(lambda x, h, w: kde.leave_one_out(x, h, sample_weight=w),
                             (X, W[:3], W), (0, 1, 2)),
    "kde.on_grid": Row(lambda m: kde.on_grid(m, 30, low=-9.0, high=9.0, degree=1), (DENSITY,),
                       (0,)),
    "kde.on_grid radial": Row(lambda m: kde.on_grid(m._replace(kernel=kde.KERNELS["logistic"]), 20,
                              low=-9.0, high=9.0), (DENSITY,), (0,)),
    "kde.sample": Row(lambda m: kde.sample(KEY, m, 5), (DENSITY,)),
    "kde.box": Row(lambda m, a: kde.box(m, a, a + 1), (DENSITY, X), (0, 1)),
    "kde.cdf": Row(kde.cdf, (LINE, X[:, :1]), (0, 1)),
    "kde.class_conditional": Row(lambda x, w: kde.class_conditional(x, jnp.asarray(Y), K,
                                 bandwidth=0.7, sample_weight=w).log_prior, (X, W), (1,)),
    "kde.class_log_prob": Row(kde.class_log_prob, (CLASSES, X), (0, 1)),
    "kde.posterior": Row(lambda c, x, p: kde.posterior(c, x, log_prior=p), (CLASSES, X, W[:K]),
                         (0, 1, 2)),
    "kde.classify": Row(kde.classify, (CLASSES, X)),
    "kde.condition": Row(lambda m, v: kde.condition(m, (1,), v), (DENSITY, X[0, :1]), (0, 1)),
    "kde.conditional_log_prob": Row(lambda m, x: kde.conditional_log_prob(m, (1,), x),
                                    (DENSITY, X), (0, 1)),
    "kde.density_level": Row(kde.density_level, (DENSITY, 0.4)),
    "kde.in_region": Row(kde.in_region, (DENSITY, -3.0, X)),
    "kde.local_linear": Row(kde.local_linear, (DENSITY, W, X), (0, 1, 2)),
    "kde.log_density_ratio": Row(lambda m, x: kde.log_density_ratio(m, m._replace(
        bandwidth=2 * m.bandwidth), x), (DENSITY, X), (0, 1)),
    "kde.marginal": Row(lambda m: kde.marginal(m, (1,)), (DENSITY,), (0,)),
    "kde.mean_shift": Row(lambda m, x: kde.mean_shift(m, x, max_steps=4), (DENSITY, X)),
    "kde.modes": Row(lambda m: kde.modes(m, max_modes=3, max_steps=4).log_density, (DENSITY,)),
    "kde.nadaraya_watson": Row(kde.nadaraya_watson, (DENSITY, W, X), (0, 1, 2)),
    "kde.quantile": Row(kde.quantile, (LINE, np.array([0.2, 0.7])), (0, 1)),
    "kde.score": Row(kde.score, (DENSITY, X), (0, 1)),
    "kde.two_sample": Row(lambda x, y: kde.two_sample(KEY, x, y, 9, bandwidth=0.7), (X, X[:5])),
    "kde.as_mixture": Row(kde.as_mixture, (DENSITY,), (0,)),
    "mdn.init": Row(lambda m: mdn.init(KEY, m, D, (2,)), (mixture("diag"),), (0,)),
    "mdn.mixture": Row(mdn.mixture, (HEAD, X), (0, 1)),
    "mdn.log_prob": Row(mdn.log_prob, (HEAD, X, X), (0, 1, 2)),
    "mdn.sample": Row(lambda p, x: mdn.sample(KEY, p, x, 2), (HEAD, X)),
    "mdn.value_and_grad": Row(lambda p, x, w, f: mdn.value_and_grad(floor=f, keep_prob=0.8)(
        p, train.Batch(x, x, w), KEY), (HEAD, X, W, 0.1), (0, 1, 2, 3)),
    "mlp.init": Row(lambda gain: jax.tree.map(lambda p: gain * p, mlp.init(KEY, (2, 3, 1))),
                    (1.0,)),
    "mlp.apply": Row(lambda p, x: mlp.apply(p, x, activation="tanh"), (NET, X), (0, 1)),
    "mlp.apply dropout": Row(lambda p, x, k: mlp.apply(p, x, activation="tanh", keep_prob=k,
                                                       key=KEY),
                             (NET, X, 0.8), (0, 1)),
    "mlp.forward": Row(lambda p, x: mlp.forward(p, x, activation="tanh"), (NET, X), (0, 1)),
    "mlp.backward": Row(lambda p, t, g: mlp.backward(p, t, g, activation="tanh"),
                        (NET, TAPE, GRAD_OUT), (0, 2)),
    "mlp.value_and_grad": Row(lambda p, x, w: BY_HAND(p, train.Batch(x, Y, w), KEY),
                              (NET, X, W), (0, 1, 2)),
    "mlp.mean_loss": Row(lambda p, x, w: mlp.mean_loss(p, train.Batch(x, Y, w), None,
                                                       activation="tanh"),
                         (NET, X, W), (0, 1, 2)),
    "mlp.loss": Row(lambda p, x, c, e: mlp.mean_loss(p, train.Batch(x, Y), None, activation="tanh",
                    loss=mlp.loss("softmax_cross_entropy", class_weight=c, smoothing=e)),
                    (NET, X, W[:K], 0.1), (0, 1, 2, 3)),
    "mlp.balanced": Row(lambda w: mlp.balanced(Y, K, sample_weight=w), (W,), (0,)),
    "mlp.predict_proba": Row(lambda p, x, t: mlp.predict_proba(p, x, temperature=t,
                                                              activation="tanh"),
                             (NET, X, 0.8), (0, 1, 2)),
    "mlp.fit_temperature": Row(lambda h, w: mlp.fit_temperature(h, Y, sample_weight=w)[:2],
                               (np.eye(K)[Y] + 2 * GRAD_OUT, W), (0, 1)),
    "mlp.ensemble_outputs": Row(lambda p, x: mlp.ensemble_outputs(jax.tree.map(
        lambda a: jnp.stack([a, 2 * a]), p), x, activation="tanh"), (NET, X), (0, 1)),
    "mlp.dropout_outputs": Row(lambda p, x, k: mlp.dropout_outputs(KEY, p, x, 2, keep_prob=k,
                               activation="tanh"), (NET, X, 0.8), (0, 1)),
    "mlp.class_uncertainty": Row(lambda h, t: mlp.class_uncertainty(h, temperature=t),
                                 (X.reshape(2, 4, 3), 0.8), (0, 1)),
    "mlp.value_uncertainty": Row(mlp.value_uncertainty, (
        X.reshape(2, 4, 3), X.reshape(2, 4, 3) ** 2), (0, 1)),
    "inspection.permutation_importance": Row(lambda w, x: inspection.permutation_importance(
        KEY, score, w, x, x[:, 0], repeats=2), (X[0], X), (0, 1)),
    "inspection.learning_curve": Row(lambda x: inspection.learning_curve(
        KEY, mean_of, N, (2, 5), x), (X,), (0,)),
    "mlp.narrow": Row(lambda p: mlp.narrow(p, [2], start=True), (NET,), (0,)),
    "mlp.deltas": Row(lambda p, t, g: mlp.deltas(p, t, g, activation="tanh"), (NET, TAPE, GRAD_OUT),
                      (0, 2)),
    "mlp.check_gradient": Row(lambda p, x: mlp.check_gradient(KEY, BY_HAND, p, train.Batch(
        x, Y, None), directions=2)[:1], (NET, X)),
    "mlp.diagnose": Row(lambda p, x: mlp.diagnose(p, x, activation="tanh")[:2], (NET, X), (0, 1)),
    "mlp.layer_norms": Row(mlp.layer_norms, (NET,), (0,)),
    "mlp.per_sample": Row(lambda p, x: PER_SAMPLE(p, train.Batch(x, Y, None), KEY), (NET, X),
                          (0, 1)),
    "mlp.sample_products": Row(lambda p, x, v: PRODUCTS(p, train.Batch(x, Y, None), v, None),
                               (NET, X, NET), (0, 1, 2)),
    "mlp.clipped_value_and_grad": Row(lambda p, x, c: mlp.clipped_value_and_grad(
        clip=c, activation="tanh")(p, train.Batch(x, Y, None), None)[1], (NET, X, 0.3)),
    "mlp.stack": Row(lambda p: mlp.stack(p), (NET,), (0,)),
    "mlp.unstack": Row(mlp.unstack, (DEEP,), (0,)),
    "mlp.apply stack": Row(lambda p, x: mlp.apply(p, x, activation="tanh"), (DEEP, X), (0, 1)),
    "mlp.predict": Row(lambda p, x: mlp.predict(p, x, activation="tanh"), (NET, X)),
    "mlp.dropout": Row(lambda h, k: mlp.dropout(KEY, h, k), (X, 0.7), (0,)),
    "rbm.init": Row(lambda a: rbm.init(KEY, 3, 2, scale=a, dtype=a.dtype), (W[0],)),
    "rbm.energy": Row(lambda m, h: rbm.energy(m, jnp.asarray(BITS, h.dtype), h),
                      (BIT, 0.1 + 0.8 * HIDDEN_BITS), (0, 1)),
    "rbm.energy gaussian": Row(lambda m, x: rbm.energy(m, x, jnp.asarray(HIDDEN_BITS, x.dtype)),
                               (REAL, X), (0, 1)),
    "rbm.free_energy": Row(lambda m: rbm.free_energy(m, jnp.asarray(BITS, m.weight.dtype)),
                           (BIT,), (0,)),
    "rbm.free_energy gaussian": Row(rbm.free_energy, (REAL, X), (0, 1)),
    "rbm.hidden_given_visible": Row(rbm.hidden_given_visible, (REAL, X), (0, 1)),
    "rbm.visible_given_hidden": Row(rbm.visible_given_hidden,
                                    (BIT, 0.1 + 0.8 * HIDDEN_BITS), (0, 1)),
    "rbm.gibbs": Row(lambda m, x: rbm.gibbs(KEY, m, x, 3), (REAL, X)),
    "rbm.contrastive_divergence": Row(divergence, (REAL, X, W)),
    "rbm.persistent_divergence": Row(lambda m, x: rbm.persistent_divergence(KEY, m, x, x[:5]),
                                     (REAL, X)),
    "rbm.fit_persistent": Row(lambda m, x, w, r: rbm.fit_persistent(
        KEY, m, x, updates=3, learning_rate=r, chains=4, batch_size=5, sample_weight=w),
                              (REAL, X, W, 0.1)),
    "rbm.log_partition": Row(rbm.log_partition, (BIT,), (0,)),
    "rbm.log_partition gaussian": Row(rbm.log_partition, (REAL,), (0,)),
    "rbm.log_prob": Row(rbm.log_prob, (REAL, X, 0.7), (0, 1, 2)),
    "rbm.annealed_log_partition": Row(
        lambda m, b: rbm.annealed_log_partition(KEY, m, chains=5, temperatures=4, base_bias=b),
        (BIT, W[:D])),
    "dbn.pretrain": Row(lambda x: dbn.pretrain(KEY, x, (3, 2), learn_nothing, units="gaussian"),
                        (X,)),
    "dbn.unroll": Row(lambda s: dbn.unroll(KEY, s, 2), (STACK,), (0,)),
    "dbn.sample": Row(lambda s: dbn.sample(KEY, s, 4, steps=2), (STACK,)),
    "train.fit": Row(trained, (NET, X, 0.1)),
    "train.add_l2": Row(train.add_l2, (NET, NET, 0.1), (0, 1, 2)),
    "train.max_norm": Row(train.max_norm, (NET, 0.5), (0, 1)),
    "train.split": Row(lambda x: train.split(KEY, x, (5, 7)), (X,), (0,)),
    "train.as_float": Row(train.as_float, (X,), (0,)),
    "train.epoch_batches": Row(lambda x: x[train.epoch_batches(KEY, N, 5)[0]], (X,), (0,)),
    "sweep.run": Row(swept, (2.0,), (0,)),
    "sweep.run_groups": Row(swept_by_name, (2.0,), (0,)),
    "sweep.best": Row(lambda r: sweep.best(sweep.Sweep({"a": MEMBERS}, r), lambda r: r).result,
                      (W,), (0,)),
    **{f"hopfield.store {rule}": Row(lambda x, rule=rule: hopfield.store(jnp.sign(x), rule=rule),
                                     (X,)) for rule in hopfield.RULES},
    "hopfield.energy": Row(lambda w: hopfield.energy(w + w.T, jnp.sign(X[:, 0]).astype(w.dtype)),
                           (SQUARE,), (0,)),
    "hopfield.overlap": Row(hopfield.overlap, (X[0], X[1]), (0, 1)),
    "hopfield.recall": Row(lambda w: hopfield.recall(w + w.T, jnp.sign(X[:, 0]).astype(w.dtype),
                                                     key=KEY), (SQUARE,)),
    "hopfield.modern_energy": Row(hopfield.modern_energy, (X, X[0], 1.5), (0, 1, 2)),
    "hopfield.modern_update": Row(hopfield.modern_update, (X, X[0], 1.5), (0, 1, 2)),
    "hopfield.modern_recall": Row(hopfield.modern_recall, (X, X[0], 1.5)),
    "neuron.gate": Row(lambda s: jax.tree.map(lambda p: s * p, neuron.gate("xor", D)), (1.0,)),
    "neuron.apply": Row(neuron.apply, ((neuron.Neuron(X[:3], W[:3]), neuron.Neuron(X[:2].repeat(
        2, 1)[:, :3], W[:2])), X)),
    **{f"neuron.hebb {rule}": Row(lambda w, x, r, rule=rule: neuron.hebb(w, x, rate=r, rule=rule),
                                  (X[0], X, 0.1)) for rule in neuron.RULES},
    "perceptron.init": Row(lambda s: jax.tree.map(lambda p: s + p, perceptron.init(D)), (1.0,)),
    "perceptron.scores": Row(perceptron.scores, (LINES, X), (0, 1)),
    "perceptron.predict": Row(perceptron.predict, (LINES, X)),
    "perceptron.bound": Row(lambda p, x: perceptron.bound(p, x, SIDES[CLEAR] > 0),
                            (LINES, X[CLEAR]), (0, 1)),
    **{f"perceptron.fit {v}": Row(lambda p, x, r, v=v: perceptron.fit(
        p, x, Y, decision="winner", variant=v, rate=r, max_passes=2),
        (LINES, X, 0.5)) for v in perceptron.VARIANTS},
    "metrics.accuracy": Row(metrics.accuracy, (Y, Y[::-1].copy())),
    "metrics.rmse": Row(metrics.rmse, (W, W[::-1].copy()), (0, 1)),
    "metrics.confusion": Row(lambda a, b: metrics.confusion(a, b, K), (Y, Y[::-1].copy())),
    "metrics.adjusted_rand": Row(lambda a, b: metrics.adjusted_rand(a, b, K), (Y, Y[::-1].copy())),
    **{f"metrics.{f.__name__}": Row(lambda h, w, f=f: f(jax.nn.softmax(h), Y, sample_weight=w),
                                    (GRAD_OUT, W), (0, 1))
       for f in (metrics.log_loss, metrics.brier, metrics.calibration_error)},
    "metrics.reliability": Row(lambda h, w: metrics.reliability(
        jax.nn.softmax(h), Y, bins=1, sample_weight=w), (GRAD_OUT, W), (0, 1)),
    "metrics.mean_interval": Row(metrics.mean_interval, (W,), (0,)),
}  # fmt: skip

# Public functions that are no functions of arrays: each has tests of its own.
NO_ROW = {
    "mlp.autodiff": "returns a function like that of mlp.value_and_grad",
    "gmm.describe": "returns a sentence",
    "gmm.select": "chooses on the host: the shape of its result depends on values",
    "gmm.segments": "returns functions",
    "gmm.fit_many": "a driver on the host around many gmm.fit",
    "gmm.factors": "names a family, on the host",
    "train.augmentation": "returns a rule",
    "train.averaging": "returns a rule",
    "train.check_state": "returns nothing",
    "train.describe": "returns a sentence",
    "train.fit_stream": "a driver on the host around train.fit",
    "train.optimizer": "returns an optax transformation",
    "train.schedule": "returns a rule",
    "files.save": "writes a file",
    "files.load": "reads a file",
    "files.read": "reads a file",
    "train.segments": "returns functions",
    "sweep.ask": "asks a study, on the host",
    "sweep.tell": "tells a study, on the host",
    "sweep.grid": "makes the members, on the host",
    "sweep.halving": "a driver on the host around fits in pieces",
    "sweep.random": "makes the members, on the host",
    "sweep.sobol": "makes the members, on the host",
    "sweep.latin_hypercube": "makes the members, on the host",
    "sweep.sample": "makes the members, on the host",
    "sweep.to_json": "writes text",
    "sweep.from_json": "reads text",
    "sweep.member_keys": "returns keys",
    "sweep.k_fold": "numbers the rows",
    "sweep.stratified": "numbers the rows, on the host",
    "sweep.cross_validate": "sweep.run_groups, whose row it shares, over members made on the host",
    "sweep.nested": "chooses on the host",
    "sweep.average": "sorts members into configurations on the host",
    "sweep.collect": "reads a finished sweep on the host",
    "scale.arrays": "makes a source, on the host",
    "scale.batches": "makes a source, on the host",
    "scale.by_rows": "a loop on the host; its values are those of the function it is given",
    "scale.data_parallel": "returns a function; its values are those of the one it is given",
    "scale.feed": "returns a reader of batches",
    "scale.join": "joins processes",
    "scale.leave": "parts processes",
    "scale.mesh": "returns devices",
    "scale.npy": "makes a source, on the host",
    "scale.parquet": "makes a source, on the host",
    "scale.run": "a loop in Python around the functions of a protocol",
    "scale.shuffled": "makes a source, on the host",
    "scale.supervise": "starts processes",
    "scale.sweep": "a loop in Python around `sweep.run`",
}


# What is fitted stands first there.
AFTER_THE_FIT = {"sweep.run", "sweep.run_groups", "sweep.cross_validate", "sweep.nested",
                 "sweep.halving", "scale.run", "scale.sweep"}  # fmt: skip


def public_functions() -> dict[str, Callable[..., Any]]:
    found = {}
    for module_name in jaxnn.__all__:
        module = getattr(jaxnn, module_name)
        names = getattr(module, "__all__", None) or [
            n for n, f in vars(module).items() if inspect.isfunction(f) and not n.startswith("_")
        ]
        for name in names:
            value = getattr(module, name)
            if inspect.isfunction(value) or isinstance(value, JITTED):
                found[f"{module_name}.{name}"] = value
    return found


def arrays(tree: Any) -> Any:
    return jax.tree.map(jnp.asarray, tree)


def floats(tree: Any) -> list[jax.Array]:
    leaves = [leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype")]
    return [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]


def nudge(tree: Any, by: float) -> Any:
    """The same arguments, each float a little different; integers and flags as they are."""
    return jax.tree.map(
        lambda a: a * (1 + by) if jnp.issubdtype(a.dtype, jnp.floating) else a, arrays(tree)
    )


def close(a: Any, b: Any, rtol: float = 1e-9) -> None:
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, rtol=rtol, atol=1e-10), a, b)


@pytest.fixture
def programs():
    """A list that grows by one for each program that JAX builds, from its cache on disk or not."""
    built = []

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            built.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield built
    jax.monitoring.unregister_event_duration_listener(listen)


def test_every_public_function_has_a_row():
    covered = {name.split()[0] for name in ROWS}
    assert covered | set(NO_ROW) == set(public_functions())
    assert not covered & set(NO_ROW)


def test_the_key_stands_in_its_place():
    """First where a function draws; where it may draw, it takes None for evaluation."""
    for name, function in public_functions().items():
        parameters = list(inspect.signature(function).parameters.values())
        for place, parameter in enumerate(parameters):
            if parameter.name == "key" and place > 0 and name not in AFTER_THE_FIT:
                may_be_none = "None" in str(parameter.annotation)
                assert may_be_none, f"{name}: key must come first, or be allowed to be None"
                assert parameter.default in (None, inspect.Parameter.empty), name


def check_jit_of_vmap(row: Row, two: list[Any], looked: list[Any]) -> None:
    """One program for both members says what a call for each says, traced or not."""
    batch = jax.jit(jax.vmap(row.call))(*jax.tree.map(lambda *a: jnp.stack(a), *two))
    for i, expected in enumerate(looked):
        close(jax.tree.map(lambda a, i=i: a[i], batch), expected)


def check_single(row: Row, args: Any) -> None:
    """What is given in float32 is traced to float32, though x64 is on."""
    single = jax.tree.map(
        lambda a: a.astype(np.float32) if np.issubdtype(a.dtype, np.floating) else a,
        jax.tree.map(np.asarray, args),
    )
    if floats(single):
        found = jax.eval_shape(row.call, *single)
        assert {leaf.dtype for leaf in floats(found)} <= {jnp.dtype(jnp.float32)}


def check_gradient(row: Row, args: Any) -> None:
    """In a random direction it is the central difference, whose calls need no other program."""
    leaves, rebuild = jax.tree.flatten(args)
    smooth = {id(leaf) for place in row.smooth for leaf in floats(args[place])}
    places = [i for i, leaf in enumerate(leaves) if id(leaf) in smooth]

    def at(values: list[Any]) -> list[jax.Array]:
        full = list(leaves)
        for place, value in zip(places, values, strict=True):
            full[place] = value
        return floats(row.call(*jax.tree.unflatten(rebuild, full)))

    @jax.jit
    def slope(values: list[jax.Array]) -> list[jax.Array]:
        # A sum of different multiples, so that no two leaves can cancel.
        scalar = lambda values: sum(
            jnp.vdot(np.cos(np.arange(a.size)), a.ravel()) for a in at(values)
        )
        return jax.grad(scalar)(values)

    def scalar(by: float) -> float:
        moved = [jnp.asarray(p + by * v) for p, v in zip(points, along, strict=True)]
        parts = [np.asarray(a).ravel() for a in at(moved)]
        return sum(float(np.cos(np.arange(a.size)) @ a) for a in parts)

    points = [np.asarray(leaves[i]) for i in places]
    draw = np.random.default_rng(2)
    along = [draw.normal(size=p.shape) for p in points]
    gradient = [np.asarray(g) for g in slope([leaves[i] for i in places])]
    assert all(np.all(np.isfinite(g)) for g in gradient)
    found = sum(float(np.vdot(g, v)) for g, v in zip(gradient, along, strict=True))
    step = 1e-4
    expected = (scalar(step) - scalar(-step)) / (2 * step)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ROWS)
def test_contract(name, programs):
    row = ROWS[name]
    two = [nudge(row.args, by) for by in (0.0, 1e-3)]
    first = jax.block_until_ready(row.call(*two[0]))
    programs.clear()
    second = jax.block_until_ready(row.call(*two[1]))  # other values of the same shapes
    assert programs == []
    check_single(row, two[0])
    check_jit_of_vmap(row, two, [first, second])
    if row.smooth:
        check_gradient(row, two[0])


def test_a_planted_recompilation_is_found(programs):
    """The rule itself can fail: a closure jitted anew is another program."""
    for _ in range(2):
        jax.jit(lambda x: x + 1)(jnp.ones(3))
    assert len(programs) >= 2
