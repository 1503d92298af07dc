"""The switch between the fast form and the safe one, and that both are the same function."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from jaxnn import gmm
from jaxnn.gmm import forms
from jaxnn.gmm.moments import moments
from jaxnn.gmm.natural import NATURAL

K, D, N = 8, 32, 400
FAMILIES = ["full", "tied", "diag", "spherical"]


def clusters(family: str, offset: float, tightness: float, correlation: float = 0.0):
    """A float32 mixture, rows drawn from it, and their log-densities by NumPy in float64."""
    rng = np.random.default_rng(0)
    means = (rng.normal(size=(K, D)) + offset).astype(np.float32)
    shape = (1 - correlation) * np.eye(D) + correlation
    root = np.linalg.cholesky(shape) * tightness
    x = (means[:, None] + rng.normal(size=(K, N // K, D)) @ root.T).reshape(N, D)
    x = x.astype(np.float32)
    full = np.stack([root @ root.T] * K).astype(np.float32)
    given = {"full": full, "tied": full[0], "diag": np.full((K, D), tightness**2, np.float32),
             "spherical": np.full(K, tightness**2, np.float32)}[family]  # fmt: skip
    cov = gmm.COVARIANCES[family].from_covariances(jnp.asarray(given))
    mixture = gmm.GMM(jnp.full(K, -np.log(K), jnp.float32), jnp.asarray(means), cov)
    if family in ("full", "tied"):
        roots = np.broadcast_to(np.asarray(cov.scale_tril, np.float64), (K, D, D))
    else:
        scale = np.asarray(cov.scale, np.float64)
        roots = np.stack([np.eye(D) * s for s in scale])
    residuals = x[None].astype(np.float64) - means[:, None]
    y = np.linalg.solve(roots, residuals.transpose(0, 2, 1))
    log_det = np.linalg.slogdet(roots)[1]
    joint = -np.log(K) - D / 2 * np.log(2 * np.pi) - log_det[:, None] - 0.5 * (y**2).sum(1)
    return mixture, x, logsumexp(joint, axis=0)


def natural_of(mixture: gmm.GMM):
    return NATURAL[type(mixture.cov)](mixture.cov, mixture.means, jnp.mean(mixture.means, axis=0))


def fast_form(mixture: gmm.GMM) -> forms.Form:
    return forms.linear(natural_of(mixture), *mixture)


# How the rows lie: offset, tightness, correlation; and whether the fast form may be used.
CASES = {
    "ordinary": ((0.0, 1.0), True),
    "offset": ((1e4, 1.0), True),
    "tight": ((0.0, 1e-2), False),
    "needles": ((0.0, 1.0, 0.999), False),
}


@jax.jit
def fast_and_trusted(mixture: gmm.GMM, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    joint = fast_form(mixture).joint(x)[1]
    trusted = forms.trusted(natural_of(mixture), jnp.ones(K, bool))
    return jax.nn.logsumexp(joint, axis=0), trusted


def errors(family: str, case: str) -> tuple[float, float, bool]:
    """Largest error of log_prob and of the fast form alone (nats), and whether it is trusted."""
    mixture, x, oracle = clusters(family, *CASES[case][0])
    fast, trusted = fast_and_trusted(mixture, x)
    chosen = np.asarray(gmm.log_prob(mixture, x), np.float64)
    return np.abs(chosen - oracle).max(), np.abs(fast - oracle).max(), bool(trusted)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_switch_keeps_float32_accurate(family, case):
    """Below 5e-3 nats everywhere (float64 by NumPy), also where the fast form alone is not."""
    if case == "needles" and family in ("diag", "spherical"):
        return
    chosen, fast, trusted = errors(family, case)
    assert chosen < 5e-3
    assert trusted == CASES[case][1]
    if not trusted:
        assert fast > 5e-3
        assert chosen < fast / 20, "the safe form was not taken"


def small(family: str, tightness: float = 1.0) -> tuple[gmm.GMM, jax.Array]:
    rng = np.random.default_rng(1)
    root = rng.normal(size=(3, 2, 2))
    full = root @ root.transpose(0, 2, 1) + np.eye(2)
    given = {"full": full, "tied": full[0], "diag": full[:, 0] ** 2 + 1, "spherical": full[:, 0, 0]}
    parts = np.array([0.5, 0.2, 0.3]), rng.normal(size=(3, 2)), given[family] * tightness**2
    return gmm.from_covariances(*parts, family=family), jnp.asarray(rng.normal(size=(60, 2)))


@pytest.mark.parametrize("family", ["full", "diag"])
def test_gradients_of_both_forms_are_one(family):
    """Oracle: the safe form's, in every parameter and in the data."""
    mixture, x = small(family)

    def gradients(natural: bool):
        def log_lik(mixture, x):
            form = fast_form(mixture) if natural else forms.whitened(*mixture)
            return jnp.sum(jnp.sin(jax.nn.logsumexp(form.joint(x)[1], axis=0)))

        return jax.jit(jax.grad(log_lik, argnums=(0, 1)))(mixture, x)

    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
    jax.tree.map(close, gradients(True), gradients(False))


def test_the_switch_changes_nothing(monkeypatch):
    """Oracle: the safe form; moments, densities and gradients, in ragged tiles, under vmap."""
    mixture, x = small("full")
    weight = jnp.linspace(0.5, 2.5, len(x))

    def everything(mixture, x, weight):
        log_lik = lambda m: jnp.sum(weight * gmm.log_prob(m, x))
        return moments(mixture, x, weight), gmm.log_joint(mixture, x), jax.grad(log_lik)(mixture)

    # Few rows: no other form is built.
    safe = jax.jit(lambda *given: everything(*given))(mixture, x, weight)
    np.testing.assert_allclose(safe[0].counts.sum(), weight.sum(), rtol=1e-12)
    monkeypatch.setattr(forms, "SMALL", 0)
    monkeypatch.setattr(forms, "tile_rows", lambda n, width: 16)
    # One row more, of weight zero: no program from before the patch has that shape.
    more, none = jnp.r_[x, x[:1]][None], jnp.r_[weight, 0.0]
    total, joint, slope = jax.jit(jax.vmap(everything, in_axes=(None, 0, None)))(
        mixture, more, none
    )
    close = lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-9, atol=1e-9)
    jax.tree.map(close, (total, joint[:, :-1], slope), safe)


@partial(jax.jit, static_argnames="n")
def width_taken(mixture: gmm.GMM, n: int) -> jax.Array:
    return forms.choose(*mixture, n, lambda form: jnp.array(form.width))


def form_taken(mixture: gmm.GMM, n: int) -> int:
    """The width of the form that runs: statistics and responsibilities, or residuals."""
    return int(width_taken(mixture, n))


def test_which_form_is_taken(monkeypatch):
    """Few rows, tight components and families without a fast form: residuals, k × d numbers."""
    ordinary, tight = small("full")[0], small("full", tightness=1e-4)[0]
    n = forms.SMALL
    assert form_taken(ordinary, n) == 6 + 3 * 3
    assert form_taken(ordinary, 60) == 6
    assert form_taken(tight, n) == 6
    one = ordinary.cov._replace(scale_tril=ordinary.cov.scale_tril.at[2].multiply(1e-4))
    assert form_taken(ordinary._replace(cov=one), n) == 6, "one tight component is enough"
    off = tight._replace(
        means=tight.means.at[1:].set(1e6),
        log_weights=jnp.array([0.0, -jnp.inf, -jnp.inf]),
        cov=tight.cov._replace(scale_tril=ordinary.cov.scale_tril.at[1:].set(1e-200)),
    )
    assert form_taken(off, n) == 6 + 3 * 3, "components of weight zero must not count"
    pair = jax.tree.map(lambda *leaves: jnp.stack(leaves), ordinary, tight)
    both = jax.vmap(lambda mixture: width_taken(mixture, n))
    assert both(pair).tolist() == [6, 6], "one choice for all members"
    assert both(jax.tree.map(lambda a: a[:1], pair)).tolist() == [6 + 3 * 3]
    program = jax.jit(jax.vmap(both)).lower(jax.tree.map(lambda a: a[None], pair))
    assert program.as_text().count("stablehlo.case") == 1, "and only one form is run"
    broken = ordinary._replace(means=ordinary.means * jnp.nan)
    assert form_taken(broken, n) == 6
    monkeypatch.delitem(NATURAL, gmm.Full)
    assert form_taken(ordinary, n + 1) == 6  # a new trace, which sees the patch
