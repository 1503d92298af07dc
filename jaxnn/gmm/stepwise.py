"""EM on mini-batches and streams: stepwise EM (Cappé and Moulines, 2009).

Instead of the moments of all rows, a running average of the moments of batches is maximised:
s ← (1 − γ) s + γ s_batch, eq. 9 there.  Moments live in the whitened coordinates of the mixture
that made them, so after every M-step the average is carried over into those of the new one:

    y = S⁻¹(x − m),  y' = S'⁻¹(x − m') = A y + b,   A = S'⁻¹S,  b = S'⁻¹(m − m').

This is exact algebra: E[y'y'ᵀ] = A E[yyᵀ] Aᵀ + A E[y] bᵀ + b E[y]ᵀ Aᵀ + bbᵀ.  It adds a rounding of
eps a step, in units of the component, of which the averaging forgets the share γ each step: after
any number of steps the moments are right to some eps / γ.  Nothing depends on the data's origin.
Shapes: n samples, d features, k components.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxnn import checks
from jaxnn.gmm.covariances import Diag, Full, Spherical, Tied
from jaxnn.gmm.loop import maximise
from jaxnn.gmm.model import GMM, door
from jaxnn.gmm.moments import Moments, moments, row_weights
from jaxnn.linalg import mean_and_variance
from jaxnn.types import Data, Key, Scalar, Weights

Seconds = tuple[Array, Array]  # first and second moments


def _solve(root: Float[Array, "*k d d"], right: Float[Array, "*k d m"]) -> Array:
    return jax.lax.linalg.triangular_solve(root, right, left_side=True, lower=True)


def _full(old: Full, new: Full, total: Moments, apart: Float[Array, "k d"]) -> Seconds:
    a = _solve(new.scale_tril, old.scale_tril)
    b = _solve(new.scale_tril, apart[:, :, None])[:, :, 0]
    first = jnp.einsum("kij,kj->ki", a, total.first)
    cross = first[:, :, None] * b[:, None, :]
    second = a @ total.second @ jnp.swapaxes(a, 1, 2) + cross + jnp.swapaxes(cross, 1, 2)
    second += total.counts[:, None, None] * b[:, :, None] * b[:, None, :]
    return first + total.counts[:, None] * b, second


def _tied(old: Tied, new: Tied, total: Moments, apart: Float[Array, "k d"]) -> Seconds:
    a = _solve(new.scale_tril, old.scale_tril)
    b = _solve(new.scale_tril, apart.T).T
    first = total.first @ a.T
    cross = first.T @ b
    second = a @ total.second @ a.T + cross + cross.T + (total.counts[:, None] * b).T @ b
    return first + total.counts[:, None] * b, second


def _diag(old: Diag, new: Diag, total: Moments, apart: Float[Array, "k d"]) -> Seconds:
    a, b = old.scale / new.scale, apart / new.scale
    first, counts = a * total.first, total.counts[:, None]
    second = jnp.square(a) * total.second + 2 * first * b + counts * jnp.square(b)
    return first + counts * b, second


def _spherical(
    old: Spherical, new: Spherical, total: Moments, apart: Float[Array, "k d"]
) -> Seconds:
    a, b = old.scale / new.scale, apart / new.scale[:, None]
    first, counts = a[:, None] * total.first, total.counts
    second = jnp.square(a) * total.second + jnp.mean(2 * first * b, axis=1)
    second += counts * jnp.mean(jnp.square(b), axis=1)
    return first + counts[:, None] * b, second


class Carry(NamedTuple):
    """What a family needs: its moments in new coordinates, and those that give it back."""

    carry: Callable[[Any, Any, Moments, Array], Seconds]
    second: Callable[[Float[Array, " k"], int], Array]  # of a mixture, in its own coordinates


def _eye(counts: Float[Array, "*k"], d: int) -> Array:
    return counts[..., None, None] * jnp.broadcast_to(
        jnp.eye(d, dtype=counts.dtype), (*counts.shape, d, d)
    )


CARRY: dict[type, Carry] = {
    Full: Carry(_full, _eye),
    Tied: Carry(_tied, lambda counts, d: _eye(jnp.sum(counts), d)),
    Diag: Carry(_diag, lambda counts, d: jnp.broadcast_to(counts[:, None], (len(counts), d))),
    Spherical: Carry(_spherical, lambda counts, _: counts),
}


def recentre(total: Moments, old: GMM, new: GMM) -> Moments:
    """Returns moments made by `old`, in the coordinates of `new`; responsibilities stay."""
    rule = CARRY[type(old.cov)]
    first, second = rule.carry(old.cov, new.cov, total, old.means - new.means)
    return total._replace(first=first, second=second)


class Stepwise(NamedTuple):
    """A mixture under way: `moments` are averages a row, in the coordinates of `mixture`.

    `moments.log_lik` is the running average of the log-likelihood of each batch (nats a row)
    before its own step, the first steps being under the spell of the zero it starts from.
    """

    mixture: GMM
    moments: Moments
    steps: Int[Array, ""]


def blend(
    state: Stepwise,
    batch: Moments,
    rows: Float[Array, ""],
    step_size: Float[Array, ""],
    ridges: Float[Array, " d"],
) -> Stepwise:
    """Returns the state after a batch whose moments under `state.mixture` somebody has summed."""
    old = state.mixture
    # Rows that all weigh nothing teach nothing.
    share = jnp.where(rows > 0, step_size, 0)
    scale = share / jnp.where(rows > 0, rows, 1)
    both = jax.tree.map(lambda a, b: (1 - share) * a + scale * b, state.moments, batch)
    new = maximise(old, both, ridges)
    return Stepwise(new, recentre(both, old, new), state.steps + 1)


def _advance(
    state: Stepwise,
    x: Float[Array, "b d"],
    weight: Float[Array, " b"],
    rows: Float[Array, ""],
    step_size: Float[Array, ""],
    ridges: Float[Array, " d"],
) -> Stepwise:
    return blend(state, moments(state.mixture, x, weight), rows, step_size, ridges)


_advance_once = jax.jit(_advance)


def _start(mixture: GMM) -> Stepwise:
    counts = jnp.exp(mixture.log_weights)
    implied = Moments(
        counts=counts,
        first=jnp.zeros_like(mixture.means),
        second=CARRY[type(mixture.cov)].second(counts, mixture.means.shape[1]),
        log_lik=jnp.zeros((), counts.dtype),
    )
    return Stepwise(mixture, implied, jnp.zeros((), jnp.int32))


def _supported(where: str, mixture: GMM) -> None:
    checks.instance(where, "mixture", mixture, GMM)
    if type(mixture.cov) not in CARRY:
        known = ", ".join(kind.__name__ for kind in CARRY)
        raise TypeError(f"{where}: mixture.cov must be one of {known}, "
                        f"got {type(mixture.cov).__name__}")  # fmt: skip


def stepwise_init(mixture: GMM) -> Stepwise:
    """Returns the state to start from: the moments of which `mixture` is the M-step.

    The start thus counts as what was seen before; a first step of size 1 forgets it.
    Raises TypeError for no mixture, or one whose family has no moments to carry over.
    """
    _supported("gmm.stepwise_init", mixture)
    return _start(mixture)


def stepwise_step(
    state: Stepwise,
    x: Data,
    step_size: Scalar,
    *,
    sample_weight: Weights | None = None,
    ridge: Scalar | Float[ArrayLike, " d"] = 0.0,
) -> Stepwise:
    """Returns the state after one batch: E-step on it, blend, M-step.

    Args:
        state: from `stepwise_init` or a step before.
        x: rows of shape (b, d); give every batch of a stream the same shape.
        step_size: γ in (0, 1]. For a stream that never changes, (t + offset)^−power with power in
            (1/2, 1] converges; a constant γ follows a stream that drifts.
        sample_weight: shape (b,). The batch counts as an average, whatever its total weight.
        ridge: added to each variance, data units squared; a number or one per feature.

    Raises:
        TypeError, ValueError: no state; bad rows or weights; a step size outside (0, 1]; a
            negative ridge.
    """
    where = "gmm.stepwise_step"
    checks.instance(where, "state", state, Stepwise)
    _supported(where, state.mixture)
    x = door(where, state.mixture, x)
    checks.probability(where, "step_size", step_size)
    checks.shape(where, "step_size", step_size, ())
    checks.non_negative(where, "ridge", ridge)
    d = x.shape[1]
    if jnp.ndim(ridge) > 0:
        checks.shape(where, "ridge", ridge, (d,))
    weight = row_weights(where, x, sample_weight)
    ridges = jnp.broadcast_to(jnp.asarray(ridge, x.dtype), (d,))
    step = jnp.asarray(step_size, x.dtype)
    return _advance_once(state, x, weight, jnp.sum(weight), step, ridges)


class StepwiseFit(NamedTuple):
    """The last mixture, its log-likelihood on all rows (nats a row), and the state to go on."""

    mixture: GMM
    log_lik: Float[Array, ""]
    state: Stepwise


@partial(jax.jit, static_argnames="size")
def _fit(
    key: Key,
    mixture: GMM,
    x: Float[Array, "n d"],
    weight: Float[Array, " n"],
    epochs: Int[Array, ""],
    power: Float[Array, ""],
    offset: Float[Array, ""],
    ridge: Float[Array, ""],
    size: int,
) -> StepwiseFit:
    n = x.shape[0]
    batches = n // size
    rows = size * jnp.mean(weight)
    ridges = ridge * mean_and_variance(x, weight)[1]

    def epoch(number: Int[Array, ""], state: Stepwise) -> Stepwise:
        order = jax.random.permutation(jax.random.fold_in(key, number), n)

        def step(state: Stepwise, chosen: Int[Array, " b"]) -> tuple[Stepwise, None]:
            t = (state.steps + 1).astype(x.dtype)
            step_size = (t + offset) ** -power
            part = x[chosen], weight[chosen]
            return _advance(state, *part, rows, step_size, ridges), None

        return jax.lax.scan(step, state, order[: batches * size].reshape(batches, size))[0]

    state = jax.lax.fori_loop(0, epochs, epoch, _start(mixture))
    log_lik = moments(state.mixture, x, weight).log_lik / jnp.sum(weight)
    return StepwiseFit(state.mixture, log_lik, state)


def fit_stepwise(
    key: Key,
    mixture: GMM,
    x: Data,
    *,
    batch_size: int,
    epochs: int | Int[Array, ""],
    power: Scalar = 0.6,
    offset: Scalar = 2.0,
    sample_weight: Weights | None = None,
    ridge: Scalar = 1e-6,
) -> StepwiseFit:
    """Returns the mixture after stepwise EM on shuffled batches, in one compiled loop.

    Step t, from 1, blends with γ = (t + offset)^−power.  Powers in (1/2, 1] converge on an endless
    stream (Cappé and Moulines, 2009, assumption 1); small ones forget the start sooner (Liang and
    Klein, 2009).  Power 0 is EM on each batch alone, and on one batch of all rows plain EM.

    Args:
        key: shuffles the rows, anew for each epoch.
        mixture: where to start; full, tied, diag or spherical.
        x: rows of shape (n, d).
        batch_size: rows of a step (static), from 1 to n. The n mod batch_size rows that are
            left over sit an epoch out, other ones each time.
        epochs: passes over the rows; traced, as all numbers.
        power: of the step sizes, in [0, 1].
        offset: of the step sizes, at least 0.
        sample_weight: shape (n,); an integer weight is a repetition.
        ridge: a share of the variance of each column, as for `fit`.

    Raises:
        TypeError, ValueError: bad rows, weights or key; a batch size outside [1, n]; a power, an
            offset, a ridge or a number of epochs out of range.
    """
    where = "gmm.fit_stepwise"
    checks.key(where, key)
    _supported(where, mixture)
    x = door(where, mixture, x)
    size = checks.count(where, "batch_size", batch_size, most=x.shape[0])
    epochs = checks.steps(where, "epochs", epochs)
    for name, number in (("power", power), ("offset", offset), ("ridge", ridge)):
        checks.scalar(where, name, number)
    if checks.concrete(power) and not checks.holds(lambda: jnp.asarray(power) <= 1):
        raise ValueError(f"{where}: power must lie in [0, 1], got {power}")
    numbers = (jnp.asarray(number, x.dtype) for number in (power, offset, ridge))
    weight = row_weights(where, x, sample_weight)
    return _fit(key, mixture, x, weight, epochs, *numbers, size=size)
