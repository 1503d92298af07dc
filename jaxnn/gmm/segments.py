"""EM in equal pieces: for sweeps whose members stop at steps of their own, and for checkpoints."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxnn import checks
from jaxnn.gmm.em import fit
from jaxnn.gmm.model import GMM, check_mixture
from jaxnn.gmm.outcome import Fit, Status, unfinished
from jaxnn.gmm.restarts import Limits, limits, resume
from jaxnn.types import Key, Scalar, Segments


class EMState(NamedTuple):
    """A fit so far, and the numbers under which it goes on; `short_steps` are those of a piece."""

    fit: Fit
    limits: Limits


def segments(
    start: Callable[..., GMM],
    *,
    steps: int = 16,
    ridge: Scalar = 1e-6,
    tol: Scalar = 1e-4,
    max_steps: int = 200,
) -> Segments:
    """Returns `fit` in pieces of some steps, which `sweep.run` takes: `result` is a `Fit`.

    The shared data are the rows, shape (n, d). A piece costs one E-step more than its steps, and
    the steps are those of `fit`.

    Args:
        start: `(hparams, key, x) -> mixture`, where a member begins, such as with `init`.
        steps: M-steps of a piece.
        ridge: as in `fit`; hyperparameters of these three names come first.
        tol: as in `fit`.
        max_steps: as in `fit`.

    The score is minus the mean log-likelihood of the rows, nats, NaN where EM was not finite.
    Raises TypeError or ValueError for anything but a function, a negative number or steps below 1.
    """
    where = "gmm.segments"
    if not callable(start):
        raise TypeError(f"{where}: start must be a function, got {type(start).__name__}")
    steps = checks.count(where, "steps", steps)
    limits(where, jnp.float32, ridge, tol, max_steps, steps)  # checks them
    given = {"ridge": ridge, "tol": tol, "max_steps": max_steps}

    def init(hparams: dict[str, Array], key: Key, x: Float[Array, "n d"]) -> EMState:
        mixture = start(hparams, key, x)
        check_mixture(where, mixture)
        numbers = given | {name: hparams[name] for name in given if name in hparams}
        first = fit(mixture, x, ridge=numbers["ridge"], tol=numbers["tol"], max_steps=0)
        return EMState(first, limits(where, x.dtype, short_steps=steps, **numbers))

    def advance(state: EMState, x: Float[Array, "n d"]) -> EMState:
        ridge, tol, most, piece = state.limits
        most = jnp.minimum(most, state.fit.steps + piece)
        weight = jnp.ones(x.shape[0], x.dtype)
        return state._replace(fit=resume(state.fit, x, weight, ridge, tol, most))

    def score(state: EMState) -> Float[Array, ""]:
        broken = state.fit.status == Status.NOT_FINITE
        return jnp.where(broken, jnp.nan, -state.fit.log_lik)

    def halted(state: EMState) -> Bool[Array, ""]:
        return ~unfinished(state.fit, state.limits.tol) | (
            state.fit.steps >= state.limits.max_steps
        )

    return Segments(
        init=init, advance=advance, score=score, halted=halted, result=lambda state: state.fit
    )
