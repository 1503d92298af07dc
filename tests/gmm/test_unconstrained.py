"""Free numbers: there and back, their gradients against differences, and what they are for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from refusals import refused

from experiments.datasets import faithful
from jaxnn import gmm, train

K, D = 3, 2
rng = np.random.default_rng(11)
MEANS = rng.normal(size=(K, D))
ROOT = rng.normal(size=(K, D, D))
FULL = ROOT @ ROOT.transpose(0, 2, 1) + 0.5 * np.eye(D)
GIVEN = {"full": FULL, "tied": FULL[0], "diag": FULL[:, 0] ** 2 + 1, "spherical": FULL[:, 0, 0]}
X = np.concatenate([rng.normal(size=(4, D)), MEANS[:1]])  # the last row lies on a mean
W = rng.uniform(0.5, 1.5, len(X))
GAPS = X.copy()
GAPS[1, 0] = np.nan
COS, SIN = np.cos(2.0), np.sin(2.0)
STRUCTURED = {
    "factors": gmm.Factors(ROOT[:, :, :1], 0.5 + rng.uniform(size=(1, D))),
    "VVE": gmm.Eigen(np.array([0.5, 1.0, 2.0]), np.array([[1, 1], [0.5, 2], [1.25, 0.8]]),
                     np.array([[[COS, SIN], [SIN, -COS]]])),
}  # fmt: skip
FAMILY = {"spherical": "spherical", "VVE": "VVE", "factors": gmm.factors(1, noise="tied")}


def mixture(family: str, weights=(0.5, 0.2, 0.3)) -> gmm.GMM:
    if family in STRUCTURED:
        given = gmm.GMM(np.log(weights), MEANS, STRUCTURED[family])
        return jax.tree.map(jnp.asarray, given)
    return gmm.from_covariances(np.array(weights), MEANS, GIVEN[family], family=family)


@pytest.mark.parametrize("family", ["full", "diag"])
def test_there_and_back_is_the_same(family):
    """To rounding; a shift of all logits changes nothing, a dead component stays dead."""
    start = mixture(family, (0.5, 0.0, 0.5))
    params = gmm.unconstrain(start)
    back = gmm.constrain(params._replace(logits=params.logits + 3.0), family=family)
    assert type(back.cov) is type(start.cov)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=4e-16, atol=3e-16), back, start)
    again = gmm.unconstrain(gmm.constrain(params, family=family))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=4e-16, atol=3e-16), again, params
    )


@pytest.mark.parametrize("family", ["spherical", "factors", "VVE"])
def test_gradient_is_differences(family):
    """Every parameter, with a dead component, a row on a mean, and for one family a gap.

    Full covariances have a row in the contract.
    """
    start = mixture(family)._replace(log_weights=jnp.log(jnp.array([0.5, 0, 0.5])))
    missing = family == "spherical"
    x = jnp.asarray(GAPS if missing else X)
    params = gmm.unconstrain(start)
    value_and_grad = gmm.negative_log_likelihood(FAMILY[family], missing=missing)
    flat, unflatten = ravel_pytree(params)
    turns = jnp.eye(len(flat))[jnp.asarray(np.flatnonzero(np.isfinite(flat)))]
    batch = train.Batch(x, None, jnp.asarray(W))

    @jax.jit
    def both(flat):
        value = lambda v: value_and_grad(unflatten(v), batch, None)[0]
        h = 1e-5
        sides = [jax.vmap(value)(flat[None] + s * h * turns) for s in (1, -1)]
        here, gradient = value_and_grad(unflatten(flat), batch, None)
        return here, ravel_pytree(gradient)[0], (sides[0] - sides[1]) / (2 * h)

    here, gradient, differences = both(flat)
    density = gmm.log_prob(start, x, missing=missing)
    np.testing.assert_allclose(here, -np.average(density, weights=W), rtol=1e-12)
    np.testing.assert_allclose(turns @ gradient, differences, atol=1e-8)
    np.testing.assert_array_equal(gradient[np.isneginf(flat)], 0)


def test_adam_on_batches_reaches_em():
    """Oracle: EM's maximum on Old Faithful, known to be -1130.2640 in data units."""
    x = faithful().astype(float)
    data = train.Standardiser.of(jnp.asarray(x))
    z = data.apply(jnp.asarray(x))
    start = gmm.init(jax.random.key(0), z, 2)
    trained = train.fit(
        jax.random.key(1), gmm.unconstrain(start), train.Batch(z),
        gmm.negative_log_likelihood("full"), epochs=60, batch_size=68, learning_rate=0.02,
    )  # fmt: skip
    fitted = gmm.constrain(trained.params, family="full")
    nats = gmm.log_prob(fitted, z).mean() - np.log(np.asarray(data.scale)).sum()
    assert nats > -1130.2640 / 272 - 1e-3
    assert nats < -1130.2639 / 272


M = gmm.unconstrain(mixture("full"))
BAD = {
    "no mixture": (lambda: gmm.unconstrain(None), TypeError, "mixture must be a GMM"),
    "family": (lambda: gmm.unconstrain(mixture("full")._replace(cov=1)), TypeError,
               "must be one of Full, .*, Factors, got int"),
    "name": (lambda: gmm.constrain(M, family="ful"), ValueError, "did you mean 'full'"),
    "loss": (lambda: gmm.negative_log_likelihood("ful"), ValueError, "did you mean 'full'"),
    "no params": (lambda: gmm.constrain(0, family="full"), TypeError, "params must be a Unconstr"),
    "C36 other family": (lambda: gmm.constrain(M, family="spherical"), ValueError,
                         r"params.log_scale must have shape \(3,\), got \(3, 2\)"),
    "C36 leaf": (lambda: gmm.constrain(M._replace(rest=M.means), family="full"), ValueError,
                 r"params.rest must have shape \(3, 2, 2\), got \(3, 2\)"),
    "C36 no rest": (lambda: gmm.constrain(M._replace(rest=None), family="full"), ValueError,
                    "params.rest must have the parts that gmm.unconstrain gives it for full"),
    "rank": (lambda: gmm.constrain(M, family=gmm.factors(2)), ValueError, "rank must be below"),
    "logits": (lambda: gmm.constrain(M._replace(logits=M.means), family="full"), ValueError,
               r"params.logits must have shape \(3,\)"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    refused(*BAD[case], where="gmm.")
