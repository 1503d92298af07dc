"""Variational Bayes against scikit-learn from the same posterior, and against closed forms."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from scipy import special, stats
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture

from jaxnn import gmm

X = load_iris().data
N, D = X.shape
K = 5
expected_mixture, surrogate = map(jax.jit, (gmm.expected_mixture, gmm.surrogate))
NAMES = {"dirichlet": "dirichlet_distribution", "dirichlet process": "dirichlet_process"}
# Each family, and each belief about the weights, at least once: a program for each.
CASES = {
    "full process": ("full", "dirichlet process"),
    "tied": ("tied", "dirichlet process"),
    "diag": ("diag", "dirichlet"),
    "spherical": ("spherical", "dirichlet process"),
}


@cache
def prior_of(case: str) -> gmm.BayesPrior:
    family, weights = CASES[case]
    return gmm.bayes_prior(X, K, family=family, weights=weights, ridge=0.0)


def peer(case: str, steps: int) -> BayesianGaussianMixture:
    family, weights = CASES[case]
    oracle = BayesianGaussianMixture(
        n_components=K, covariance_type=family, weight_concentration_prior_type=NAMES[weights],
        reg_covar=0, tol=0, max_iter=steps, random_state=0,
    )  # fmt: skip
    if steps == 0:
        return oracle.fit(X)
    with pytest.warns(ConvergenceWarning):
        return oracle.fit(X)


def belief(case: str, oracle: BayesianGaussianMixture) -> gmm.BayesGMM:
    """What scikit-learn has learned, as a posterior of ours."""
    concentration = oracle.weight_concentration_
    several = isinstance(concentration, tuple)
    weights = gmm.StickBreaking(*concentration) if several else gmm.Dirichlet(concentration)
    return jax.tree.map(
        jnp.asarray,
        gmm.BayesGMM(
            weights, oracle.means_, oracle.mean_precision_,
            np.broadcast_to(oracle.degrees_of_freedom_, K),
            gmm.COVARIANCES[CASES[case][0]].from_covariances(jnp.asarray(oracle.covariances_)),
        ),
    )  # fmt: skip


@cache
def start_of(case: str) -> gmm.BayesGMM:
    return belief(case, peer(case, 0))


@pytest.fixture(params=CASES)
def case(request):
    return request.param


def fit(case: str, steps: int) -> gmm.BayesFit:
    return gmm.fit_bayes(start_of(case), X, prior=prior_of(case), tol=0.0, max_steps=steps)


def constant(case: str) -> float:
    """What scikit-learn leaves out of its bound: the prior's normalisers and 2π."""
    family, _ = CASES[case]
    prior = prior_of(case)
    spread = np.asarray(prior.covariance)
    if family in ("diag", "spherical"):
        spread = np.diag(np.broadcast_to(spread, D))
    dof = float(prior.dof)
    wishart = 0.5 * dof * np.linalg.slogdet(spread)[1] - 0.5 * dof * D * np.log(2)
    wishart -= sum(special.gammaln(0.5 * (dof - i)) for i in range(D))
    if isinstance(prior.weights, gmm.StickBreaking):
        weights = -special.betaln(prior.weights.taken, prior.weights.left).sum()
    else:
        alpha = np.asarray(prior.weights.concentration)
        weights = special.gammaln(alpha.sum()) - special.gammaln(alpha).sum()
    return K * wishart + weights - 0.5 * N * D * np.log(2 * np.pi)


@pytest.mark.parametrize("steps", [1, 7])
def test_equals_scikit_learn_step_by_step(case, steps):
    """Oracle: BayesianGaussianMixture from the same posterior, after the same number of steps.

    Its bound of step m is that of the responsibilities before, so ours lies between its m-th and
    its next.
    """
    oracle, ours = peer(case, steps), fit(case, steps)
    assert ours.steps == steps
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8),
        ours.posterior, belief(case, oracle),
    )  # fmt: skip
    if case in ("full process", "diag"):  # one of each belief about the weights
        np.testing.assert_allclose(
            gmm.posterior(surrogate(ours.posterior), X), oracle.predict_proba(X), atol=1e-8
        )
    mixture = expected_mixture(ours.posterior)
    np.testing.assert_allclose(np.exp(mixture.log_weights), oracle.weights_, atol=1e-8)
    bound = float(ours.lower_bound) * N - constant(case)
    after = peer(case, steps + 1).lower_bound_
    assert np.all((oracle.lower_bound_ <= bound + 1e-8) & (bound <= after + 1e-8))


@pytest.mark.parametrize("case", ["full process", "spherical"])
def test_the_bound_at_the_end_is_scikit_learns(case):
    """At a fixed point both bounds are the same number, up to the constants it leaves out."""
    steps = {"full process": 80}.get(case, 300)
    oracle, end = peer(case, steps), fit(case, steps)
    assert oracle.lower_bounds_[-1] - oracle.lower_bounds_[-2] < 1e-9
    np.testing.assert_allclose(
        float(end.lower_bound) * N - constant(case), oracle.lower_bound_, atol=1e-8
    )


def test_never_lowers_the_bound(case):
    """Coordinate ascent's own theorem, from a start far from any cluster, rows weighted."""
    rng = np.random.default_rng(0)
    weight = rng.uniform(0, 3, N)
    start = start_of(case)._replace(means=jnp.asarray(rng.normal(size=(K, D)) * 3))
    bounds = []
    for steps in range(12):
        end = gmm.fit_bayes(
            start, X, prior=prior_of(case), sample_weight=weight, tol=0.0, max_steps=steps
        )
        bounds.append(float(end.lower_bound))
    assert np.all(np.diff(bounds) >= -1e-12)
    assert bounds[-1] > bounds[0] + 0.1


ONE = np.random.default_rng(1).normal(size=(7, 3)) @ np.array([[2.0, 1, 0], [0, 1, 3], [0, 0, 1]])


def student(mean, precision, dof, inverse_scale):
    """Bishop (2006), eq. 10.82."""
    free = dof + 1 - len(mean)
    return stats.multivariate_t(mean, inverse_scale * (1 + precision) / (precision * free), df=free)


def test_one_component_has_the_exact_evidence():
    """Oracle: the evidence as a product of predictives, row after row (conjugate, so exact)."""
    prior = gmm.bayes_prior(
        ONE, 1, weights="dirichlet", mean=np.array([0.3, -1, 0]), mean_precision=0.5, dof=4.5,
        covariance=np.diag([1.0, 2, 3]) + 0.5,
    )  # fmt: skip
    m, b, v, c = (np.asarray(a, float) for a in prior[1:])
    evidence = 0.0
    for row in ONE:
        evidence += student(m, b, v, c).logpdf(row)
        c = c + b / (b + 1) * np.outer(row - m, row - m)
        m, b, v = (b * m + row) / (b + 1), b + 1, v + 1
    start = gmm.BayesGMM(
        prior.weights, prior.mean[None], jnp.ones(1), prior.dof[None],
        gmm.Full(jnp.eye(3)[None]),
    )  # fmt: skip
    end = gmm.fit_bayes(start, ONE, prior=prior)
    np.testing.assert_allclose(end.lower_bound * len(ONE), evidence, rtol=1e-12)
    assert end.converged
    found = end.posterior
    np.testing.assert_allclose(found.means[0], m, rtol=1e-11)
    np.testing.assert_allclose([found.mean_precision[0], found.dof[0]], [b, v], rtol=1e-12)
    covariance = np.asarray(found.cov.scale_tril[0])
    np.testing.assert_allclose(covariance @ covariance.T * v, c, rtol=1e-11)


def test_weights_are_repetitions():
    """Oracle: numpy.repeat, in the prior and in the fit; a weight of zero is an absent row."""
    w = np.random.default_rng(0).permutation(np.r_[np.zeros(75, int), np.full(75, 2)])
    start, many = start_of("full process"), np.repeat(X, w, axis=0)
    weighted = gmm.fit_bayes(start, X, sample_weight=w.astype(float), tol=0.0, max_steps=8)
    repeated = gmm.fit_bayes(start, many, tol=0.0, max_steps=8)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8), weighted, repeated)


def test_a_step_by_hand_is_the_fits():
    """Moments of parts of the data add up; a mixture's responsibilities make the first posterior.

    Oracle: `fit_bayes` itself, which takes the data at once.
    """
    start = expected_mixture(start_of("full process"))
    prior = prior_of("full process")
    total = jax.tree.map(jnp.add, gmm.e_step(start, X[:75]), gmm.e_step(start, X[75:]))
    by_hand = jax.jit(gmm.bayes_step)(start, total, prior)
    none = gmm.fit_bayes(start, X, prior=prior, max_steps=0)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    jax.tree.map(close, by_hand, none.posterior)
    assert none.steps == 0
    assert not none.converged


def test_unused_components_are_found():
    """Two far clusters, five components, little concentration: two survive."""
    rng = np.random.default_rng(0)
    x = np.r_[rng.normal(size=(75, D)), rng.normal(size=(75, D)) + 12]
    prior = gmm.bayes_prior(x, K, concentration=1e-3, ridge=0.0)
    start = gmm.init(jax.random.key(0), x, K)
    end = gmm.fit_bayes(start, x, prior=prior, tol=1e-8, max_steps=500)
    mixture = expected_mixture(end.posterior)
    assert np.sum(np.exp(mixture.log_weights) > 0.05) == 2


def broken() -> gmm.GMM:
    mixture = expected_mixture(start_of("full process"))
    return mixture._replace(means=mixture.means * jnp.nan)


FULL, PRIOR = (partial(function, "full process") for function in (start_of, prior_of))
BAD = {
    "start": (lambda: gmm.fit_bayes(None, X), TypeError, "start must be a GMM or a BayesGMM"),
    "width": (lambda: gmm.fit_bayes(FULL(), X[:, :1]), ValueError, r"\(any, 4\), got \(150, 1\)"),
    "NaN": (lambda: gmm.fit_bayes(FULL(), X * np.nan), ValueError, "x must be finite"),
    "C8 tol": (lambda: gmm.fit_bayes(FULL(), X, tol=-1.0), ValueError, "tol must be"),
    "C9 steps": (lambda: gmm.fit_bayes(FULL(), X, max_steps=-1), ValueError, "max_steps"),
    "C20 weight": (lambda: gmm.fit_bayes(FULL(), X, sample_weight=-np.ones(N)), ValueError,
                   "sample_weight must not be negative"),
    "C36 start": (lambda: gmm.fit_bayes(FULL()._replace(dof=jnp.full(K, np.nan)), X), ValueError,
                  "start must be finite, got nan at row 0"),
    "start dof": (lambda: gmm.fit_bayes(FULL()._replace(dof=jnp.full(K, 3.0)), X), ValueError,
                  "start.dof - d"),
    "start precision": (lambda: gmm.fit_bayes(FULL()._replace(mean_precision=jnp.zeros(K)), X),
                        ValueError, "start.mean_precision must be positive"),
    "mixture": (lambda: gmm.fit_bayes(broken(), X),
                ValueError, "must be finite, got NaN"),
    "prior": (lambda: gmm.fit_bayes(FULL(), X, prior=3), TypeError, "prior must be a BayesPrior"),
    "prior width": (lambda: gmm.fit_bayes(FULL(), X, prior=PRIOR()._replace(mean=np.ones(3))),
                    ValueError, r"prior.mean must have shape \(4,\)"),
    "prior k": (lambda: gmm.fit_bayes(FULL(), X, prior=gmm.bayes_prior(X, 3)), ValueError,
                r"prior.weights must have shape \(5,\)"),
    "prior dof": (lambda: gmm.fit_bayes(FULL(), X, prior=PRIOR()._replace(dof=jnp.array(3.0))),
                  ValueError, "prior.dof - d"),
    "kind": (lambda: gmm.fit_bayes(start_of("diag"), X, prior=PRIOR()), TypeError,
             "prior.weights must be a Dirichlet, got StickBreaking"),
    "leaf": (lambda: gmm.fit_bayes(FULL()._replace(dof=jnp.ones(2)), X), ValueError,
             "dof must have"),
    "moments": (lambda: gmm.bayes_step(gmm.surrogate(FULL()), None, PRIOR()), TypeError,
                "total must"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    refused(*BAD[case], where="gmm.")
