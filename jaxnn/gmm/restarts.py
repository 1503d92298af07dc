"""Many starts of one mixture: short runs of EM first, the best of them continued.

Shapes: s starts, n samples, d features.  Log-likelihoods are nats per sample.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxnn import checks, memory
from jaxnn.gmm.em import climb
from jaxnn.gmm.families import family_of
from jaxnn.gmm.family import Family, NamedFamily
from jaxnn.gmm.missing import Observed, check_columns, fill, observe
from jaxnn.gmm.model import GMM
from jaxnn.gmm.moments import row_weights
from jaxnn.gmm.observed import rule_of
from jaxnn.gmm.outcome import Fit, Status, unfinished
from jaxnn.gmm.starts import STARTS, draw_seeds, from_seeds, rows_and_count
from jaxnn.types import Data, Key, Scalar, Weights

# How members are laid out in the compiled program.  `vmap` works on all at once and waits for the
# slowest; `map` on one after another, each done when it is done: 2 to 4 times faster on CPU.
LAYOUTS: dict[str, Callable[[Callable[[Any], PyTree], Any], PyTree]] = {
    "vmap": lambda one, members: jax.vmap(one)(members),
    "map": jax.lax.map,
}


def layout_or_default(where: str, layout: str | None) -> str:
    """Returns the checked layout; by default `map` on CPU and `vmap` elsewhere."""
    if layout is None:
        return "map" if jax.default_backend() == "cpu" else "vmap"
    checks.in_table(where, "layout", layout, LAYOUTS)
    return layout


class Limits(NamedTuple):
    """When EM stops, and the share of the columns' variance added to each variance."""

    ridge: Float[Array, ""]
    tol: Float[Array, ""]
    max_steps: Int[Array, ""]
    short_steps: Int[Array, ""]


def limits(
    where: str, dtype: Any, ridge: Scalar, tol: Scalar,
    max_steps: int | Int[Array, ""], short_steps: int | Int[Array, ""],
) -> Limits:  # fmt: skip
    """Returns the checked numbers as arrays."""
    checks.scalar(where, "ridge", ridge)
    checks.scalar(where, "tol", tol)
    return Limits(
        ridge=jnp.asarray(ridge, dtype),
        tol=jnp.asarray(tol, dtype),
        max_steps=checks.steps(where, "max_steps", max_steps),
        short_steps=checks.steps(where, "short_steps", short_steps),
    )


class BestFit(NamedTuple):
    """The best of several starts, and how all of them did.

    `fit` is the best, run to its end.  `short` holds the log-likelihood of every start after its
    short run and `final` that of the continued ones, `continued`, after theirs; a start that was
    not finite stands at −inf and never wins against one that is; nor does one with a collapsed
    component win against one without.
    """

    fit: Fit
    short: Float[Array, " s"]
    continued: Int[Array, " c"]
    final: Float[Array, " c"]


def begun(mixture: GMM) -> Fit:
    """Returns the fit that `resume` begins: of −1 steps, since its start is not yet looked at."""
    nothing = jnp.full((), -jnp.inf, mixture.means.dtype)
    return Fit(
        mixture=mixture,
        log_lik=nothing,
        objective=jnp.zeros_like(nothing),
        gain=-nothing,
        converged=jnp.array(False),
        status=jnp.full((), Status.OUT_OF_STEPS, jnp.int32),
        component=jnp.full((), -1, jnp.int32),
        steps=jnp.full((), -1, jnp.int32),
    )


def resume(
    state: Fit, x: Float[Array, "n d"] | Observed, weight: Float[Array, " n"],
    ridge: Float[Array, ""], tol: Float[Array, ""], max_steps: Int[Array, ""],
) -> Fit:  # fmt: skip
    """Returns `state` after further EM, up to `max_steps` in all; one that had ended stays."""
    going = unfinished(state, tol) & (state.steps < max_steps)
    steps = jnp.maximum(state.steps, 0)

    def more() -> Fit:
        # Under `vmap` it is run for those that have ended too: then for no step.
        left = jnp.where(going, max_steps - steps, 0)
        no_more = jnp.zeros(state.mixture.means.shape[1], weight.dtype)
        new = climb(state.mixture, x, weight, None, ridge, no_more, tol, left)
        return new._replace(steps=steps + new.steps)

    return jax.lax.cond(going, more, lambda: state)


def preferred(values: Float[Array, " s"], fallen: Bool[Array, " s"]) -> Float[Array, " s"]:
    """Returns values to rank by: −inf where not finite, or fallen while others stand."""
    finite = jnp.isfinite(values)
    good = finite & ~fallen
    return jnp.where(jnp.where(jnp.any(good), good, finite), values, -jnp.inf)


def _comparable(log_lik: Float[Array, " s"]) -> Float[Array, " s"]:
    return jnp.where(jnp.isfinite(log_lik), log_lik, -jnp.inf)


def best_of(
    begin: Callable[[Any], GMM],
    seeds: PyTree,
    x: Float[Array, "n d"] | Observed,
    weight: Float[Array, " n"],
    limits: Limits,
    n_continued: int,
    layout: str,
) -> BestFit:
    """Returns the best fit from `begin(seed)` over the leading axis of `seeds`."""
    each = LAYOUTS[layout]
    ridge, tol, max_steps, short_steps = limits
    n_starts = jax.tree.leaves(seeds)[0].shape[0]
    short_steps = jnp.minimum(short_steps, max_steps)
    run = lambda member: resume(member[0], x, weight, ridge, tol, member[1])
    rank = lambda fits: preferred(fits.log_lik, fits.status >= Status.DEGENERATE)
    take = lambda tree, i: jax.tree.map(lambda a: a[i], tree)
    fits = each(lambda seed: begun(begin(seed)), seeds)
    if n_continued == n_starts:  # nothing to choose: all run to their end at once
        fits = each(run, (fits, jnp.broadcast_to(max_steps, n_starts)))
        short, continued = _comparable(fits.log_lik), jnp.arange(n_starts)
    elif layout == "map":
        # One after another, a loop over both rounds needs EM only once in the program.
        def round_(state: tuple[Fit, Array], last: Array) -> tuple[tuple[Fit, Array], Array]:
            fits, _ = state
            best = jax.lax.top_k(rank(fits), n_continued)[1]
            chosen = jnp.zeros(n_starts, bool).at[best].set(True)
            most = jnp.where(last, jnp.where(chosen, max_steps, -1), short_steps)
            fits = each(run, (fits, most))
            return (fits, best), fits.log_lik

        begin_ = (fits, jnp.zeros(n_continued, jnp.int32))
        (fits, continued), log_lik = jax.lax.scan(round_, begin_, jnp.array([False, True]))
        short, fits = _comparable(log_lik[0]), take(fits, continued)
    else:
        fits = each(run, (fits, jnp.broadcast_to(short_steps, n_starts)))
        short, continued = _comparable(fits.log_lik), jax.lax.top_k(rank(fits), n_continued)[1]
        most = jnp.broadcast_to(max_steps, n_continued)
        fits = each(run, (take(fits, continued), most))
    best = take(fits, jnp.argmax(rank(fits)))
    return BestFit(best, short, continued, _comparable(fits.log_lik))


@partial(jax.jit, static_argnames=("k", "family", "start", "n_starts", "n_continued", "layout"))
def _fit_best(
    key: Key,
    x: Float[Array, "n d"] | Observed,
    weight: Float[Array, " n"],
    limits: Limits,
    k: int,
    family: Family,
    start: str,
    n_starts: int,
    n_continued: int,
    layout: str,
) -> BestFit:
    active = jnp.asarray(k)
    keys = jax.random.split(key, n_starts)
    rows = complete(x, weight)
    seeds = draw_seeds(keys, rows, weight, active[None], k, start, LAYOUTS[layout])
    begin = lambda seed: from_seeds(seed, rows, weight, active, k, family, start)
    first = jax.tree.map(lambda a: a[0], seeds)
    return best_of(begin, first, x, weight, limits, n_continued, layout)


@memory.budgeted
def fit_best(
    key: Key,
    x: Data,
    n_components: int,
    *,
    family: str | Family = "full",
    start: str = "k-means++",
    n_starts: int = 10,
    short_steps: int | Int[Array, ""] = 10,
    n_continued: int | None = None,
    sample_weight: Weights | None = None,
    ridge: Scalar = 1e-6,
    tol: Scalar = 1e-4,
    max_steps: int | Int[Array, ""] = 200,
    layout: str | None = None,
    missing: bool = False,
    memory_budget: memory.Budget = None,
) -> BestFit:
    """Runs EM from many starts and returns the best: short runs first, the best continued.

    Source: Biernacki, Celeux and Govaert (2003), 'em-EM'.

    Args:
        key: draws all starts.
        x: rows of shape (n, d).
        n_components: k, from 1 to n.
        family: a name in `COVARIANCES`, or `factors(rank)`.
        start: a name in `STARTS`.
        n_starts: how many starts.
        short_steps: M-steps of each start before the choice.
        n_continued: how many are continued until a step gains less than `tol`; three by default.
            With all of them nothing is chosen early.
        sample_weight: shape (n,).
        ridge: as in `fit`.
        tol: as in `fit`.
        max_steps: the most M-steps of a start, its short run included.
        layout: a name in `restarts.LAYOUTS`; by default `map` on CPU and `vmap` elsewhere.
        missing: as in `fit`; starts are as in `init`.
        memory_budget: bytes on top of the arguments, or "auto"; see `jaxnn.memory`.

    Raises:
        TypeError, ValueError: bad rows, weights or key; counts out of range; an unknown name; a
            negative number; gaps in a family that knows none.
    """
    where = "gmm.fit_best"
    checks.key(where, key)
    x, k = rows_and_count(where, x, n_components, missing)
    kind = family_of(where, family)
    if isinstance(kind, NamedFamily):  # the others are for more features than rows
        checks.upright(where, "x", x)
    checks.in_table(where, "start", start, STARTS)
    n_starts, n_continued = starts_and_continued(where, n_starts, n_continued)
    weight = row_weights(where, x, sample_weight)
    numbers = limits(where, x.dtype, ridge, tol, max_steps, short_steps)
    layout = layout_or_default(where, layout)
    rows = x
    if missing:
        check_columns(where, x, weight)
        rows, weight = rows_with_gaps(where, x, weight, kind, k)
    return _fit_best(key, rows, weight, numbers, k, kind, start, n_starts, n_continued, layout)


def rows_with_gaps(
    where: str, x: Float[Array, "n d"], weight: Float[Array, " n"], family: Family, k: int
) -> tuple[Observed, Float[Array, " n"]]:
    """Returns `observe`, for a family of which there is no mixture yet."""
    variances = jax.ShapeDtypeStruct(x.shape[1:], x.dtype)
    cov = jax.eval_shape(lambda v: family.from_variances(v, k), variances)
    rule_of(where, cov)
    return observe(x, weight, cov, k)


def complete(x: Float[Array, "n d"] | Observed, weight: Float[Array, " n"]) -> Float[Array, "n d"]:
    """Returns rows without gaps, for starts; `weight` is zero for rows of nothing else."""
    return fill(x.x, weight)[0] if isinstance(x, Observed) else x


def starts_and_continued(
    where: str, n_starts: int, n_continued: int | None, default: int = 3
) -> tuple[int, int]:
    """Returns the checked numbers of starts and of those that are continued."""
    n_starts = checks.count(where, "n_starts", n_starts)
    if n_continued is None:
        return n_starts, min(default, n_starts)
    return n_starts, checks.count(where, "n_continued", n_continued, most=n_starts)
