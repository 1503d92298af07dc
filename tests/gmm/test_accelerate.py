"""Jumps: exact on geometric sequences, never lowering the likelihood, and fewer passes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import gmm
from jaxnn.gmm import em, loop
from jaxnn.gmm.accelerate import bound, extrapolate

K, D = 3, 2
UNIT = np.array([0.5, 20.0])
rng = np.random.default_rng(7)
# Two Gaussians one standard deviation apart: EM needs hundreds of steps.
SLOW = rng.normal(size=(200, D)) + np.repeat([[0.0, 0.0], [1.2, 0.5]], 100, axis=0)


def iterate(family: str, error: float) -> gmm.GMM:
    """A mixture at distance `error` from its limit, in the coordinates that jumps are made in."""
    local = np.random.default_rng(1)
    step = lambda *shape: local.normal(size=shape) + error * local.normal(size=shape)
    means = step(K, D) * UNIT
    diagonal, below = np.exp(step(K, D)), step(K, D, D)
    tril = (np.tril(below, -1) + diagonal[:, :, None] * np.eye(D)) * UNIT[:, None]
    cov = {
        "full": gmm.Full(tril),
        "tied": gmm.Tied(tril[0]),
        "diag": gmm.Diag(np.exp(step(K, D))),
        "spherical": gmm.Spherical(np.exp(step(K))),
    }[family]
    log_weights = np.array([np.log(0.5), np.log(0.5), -np.inf])
    return jax.tree.map(jnp.asarray, gmm.GMM(log_weights, means, cov))


@pytest.mark.parametrize("family", ["full", "tied", "diag", "spherical"])
def test_jump_lands_on_the_limit_of_a_geometric_sequence(family):
    """Closed form: errors e, λe, λ²e give α = 1 / (1 − λ), and a + 2αr + α²v = the limit."""
    jump = jax.jit(extrapolate)
    a, b, c = (iterate(family, e) for e in (1.0, 0.8, 0.64))
    far, length = jump(a, b, c, UNIT, np.array(100.0))
    np.testing.assert_allclose(length, 5, rtol=1e-9)
    for found, limit in zip(*map(jax.tree.leaves, (far, iterate(family, 0.0))), strict=True):
        np.testing.assert_allclose(found, limit, rtol=1e-7, atol=1e-9)
    near, length = jump(a, b, c, UNIT, np.array(1.0))
    assert length == 1
    for found, last in zip(*map(jax.tree.leaves, (near, c)), strict=True):
        np.testing.assert_allclose(found, last, rtol=1e-9, atol=1e-12)
    assert jump(a, a, a, UNIT, np.array(4.0))[1] == 1


def test_a_jump_of_axes_is_a_turn():
    """Closed form: where tangents of half the angles are a geometric sequence, the jump lands on
    the limit; along a straight line between matrices axes would not stay orthogonal."""

    def turned(error):
        half = np.arctan(0.3 + 0.4 * error)
        cos, sin = np.cos(2 * half), np.sin(2 * half)
        axes = np.array([[[cos, sin], [-sin, cos]]])
        given = (
            np.full(2, np.log(0.5)),
            np.zeros((2, 2)),
            gmm.Eigen(np.ones(1), np.ones((1, 2)), axes),
        )
        return jax.tree.map(jnp.asarray, gmm.GMM(*given))

    a, b, c = (turned(e) for e in (1.0, 0.5, 0.25))
    far, length = jax.jit(extrapolate)(a, b, c, UNIT, np.array(100.0))
    np.testing.assert_allclose(length, 2, rtol=1e-9)
    np.testing.assert_allclose(far.cov.orientation, turned(0.0).cov.orientation, rtol=1e-9)


def test_bound_grows_where_it_is_in_the_way_and_shrinks_after_a_bad_jump():
    """jumped, accepted, length, longest -> next bound; by the rule in the docstring."""
    for given, wanted in {
        (True, True, 4.0, 4.0): 16,
        (True, True, 3.0, 4.0): 4,
        (True, False, 3.0, 16.0): 4,
        (True, False, 3.0, 4.0): 2,
        (False, True, 4.0, 4.0): 4,
    }.items():
        assert bound(*map(jnp.array, given)) == wanted


def test_fewer_passes_and_never_a_lower_likelihood():
    """The path, cut off after every number of passes, climbs; it ends where EM does or higher."""
    start = gmm.init(jax.random.key(0), SLOW, 2)
    cuts = (*range(15), 1200)

    def cut(start, x):
        options = {"ridge": 0.0, "tol": 1e-7, "accelerate": True}
        return [gmm.fit(start, x, max_steps=most, **options) for most in cuts]

    path = cut(start, SLOW)
    np.testing.assert_array_less(-1e-13, np.diff([fit.objective for fit in path]))
    fast = path[-1]
    plain = gmm.fit(start, SLOW, ridge=0.0, tol=1e-7, max_steps=5000)
    assert plain.converged
    assert fast.converged
    assert fast.steps < plain.steps / 2
    assert fast.log_lik > plain.log_lik - 1e-6
    np.testing.assert_allclose(fast.log_lik, gmm.log_prob(fast.mixture, SLOW).mean(), rtol=1e-12)
    # Other units: the same jumps.
    scale = np.array([1e-4, 1e5])
    moved = start._replace(
        means=start.means * scale[None],
        cov=gmm.Full(start.cov.scale_tril * scale[None, :, None]),
    )
    other = cut(moved, SLOW * scale)
    np.testing.assert_allclose(
        [fit.log_lik + np.log(scale).sum() for fit in other],
        [fit.log_lik for fit in path], atol=1e-7,
    )  # fmt: skip


def test_a_bad_jump_is_not_taken(monkeypatch):
    """Every second pass is a planted jump, to nowhere; oracle: plain EM of half as many steps."""

    def nowhere(a, b, c, unit, longest):
        return c._replace(means=c.means + 3), jnp.array(2.0)

    monkeypatch.setattr(loop.squarem, "extrapolate", nowhere)
    jumpy = jax.jit(lambda *given: em.climb.__wrapped__(*given, accelerate=True))
    start = gmm.init(jax.random.key(0), SLOW, 2)
    zero = jnp.array(0.0)
    x, ones, ridge = jnp.asarray(SLOW), jnp.ones(len(SLOW)), jnp.zeros(D)
    fit = jumpy(start, x, ones, None, zero, ridge, zero, jnp.array(8))
    plain = gmm.fit(start, SLOW, ridge=0.0, tol=0.0, max_steps=4)
    np.testing.assert_allclose(fit.mixture.means, plain.mixture.means, rtol=1e-12)
    np.testing.assert_allclose(fit.gain, plain.gain, rtol=1e-6)
