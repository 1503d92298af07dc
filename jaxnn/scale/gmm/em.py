"""`gmm.fit` over any number of rows, devices and processes.

The E-step of a chunk of rows is that of `jaxnn.gmm`, and so is everything after it; here is only
who adds the moments up.  Every process calls the same function with the rows that it has.
Shapes: n rows, d features, k components.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxnn import checks
from jaxnn.gmm import loop, priors
from jaxnn.gmm.em import per_feature
from jaxnn.gmm.model import GMM, check_mixture
from jaxnn.gmm.moments import Moments, moments
from jaxnn.gmm.outcome import Fit, check_sound
from jaxnn.gmm.priors import Prior
from jaxnn.scale import meshes, processes, resumable
from jaxnn.scale.fingerprints import facts_about
from jaxnn.scale.resumable import Saving
from jaxnn.scale.rows import Rows, Survey, spread, survey, weights
from jaxnn.scale.sources import Source
from jaxnn.train.data import Batch
from jaxnn.types import Scalar

Given = Source | Batch | ArrayLike


class Climb(NamedTuple):
    """A fit under way, apart from its `loop.State`: the rows and all that stays the same.

    With `begin`, `advance` and `finish` whoever wants to look at a fit, stop it or keep it between
    two steps can write the loop of `fit` himself.
    """

    rows: Rows
    plan: loop.Plan
    accelerate: bool
    facts: dict[str, Any]


def moments_of(carry: Moments, mixture: GMM, chunk: Batch) -> Moments:
    """Returns the sums with the moments of a chunk added."""
    new = moments(mixture, chunk.x, weights(chunk))
    return jax.tree.map(jnp.add, carry, new)


def _advance(
    carry: Moments, state: loop.State, plan: loop.Plan, accelerate: bool
) -> tuple[loop.State, Array]:
    new = loop.advance(state, meshes.total(meshes.own(carry)), plan, accelerate)
    return new, loop.unfinished(new, plan)


def no_moments(mixture: GMM) -> Moments:
    """Returns zero moments of this mixture, on the host."""
    x = jax.ShapeDtypeStruct((1, mixture.means.shape[1]), mixture.means.dtype)
    weight = jax.ShapeDtypeStruct((1,), mixture.means.dtype)
    with jax.set_mesh(meshes.mesh()):  # not that of the caller, which may be an explicit one
        like = jax.eval_shape(moments, mixture, x, weight)
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)


def begin(
    mixture: GMM,
    rows: Given,
    *,
    mesh: Mesh | None = None,
    chunk: int | None = None,
    prior: Prior | None = None,
    ridge: Scalar = 1e-6,
    ridge_absolute: Scalar | Float[ArrayLike, " d"] = 0.0,
    tol: Scalar = 1e-4,
    max_steps: int = 200,
    accelerate: bool = False,
) -> tuple[Climb, loop.State]:
    """Returns a fit before its first step, after one pass that checks the rows; see `fit`."""
    where = "scale.gmm.fit"
    data, mixture = door(where, mixture, rows, mesh, chunk)
    check_sound(where, mixture)
    checks.scalar(where, "ridge", ridge)
    checks.scalar(where, "tol", tol)
    limit = checks.steps(where, "max_steps", max_steps)
    extra = per_feature(where, "ridge_absolute", ridge_absolute, mixture)
    prior = None if prior is None else priors.door(where, prior, mixture)
    facts = {"mixture": mixture, "prior": prior, "ridge": ridge, "ridge_absolute": extra,
             "tol": tol, "max_steps": max_steps, "accelerate": accelerate}  # fmt: skip
    processes.agree(where, facts)
    found = survey(where, data)
    k, counted = mixture.means.shape[0], int(processes.on_host(found.counted))
    if k > counted:
        raise ValueError(f"{where}: there must be at least {k} rows for {k} components, "
                         f"got {counted}")  # fmt: skip
    numbers = [np.asarray(number, data.dtype) for number in (ridge, tol)]
    given = meshes.everywhere(
        data.team, (mixture, no_moments(mixture), prior, *numbers, extra, limit)
    )
    start, plan = meshes.same(data.team, _first, found, *given)
    return Climb(data, plan, bool(accelerate), facts), start


def _first(
    found: Survey, mixture: GMM, like: Moments, prior: Prior | None, ridge: Array, tol: Array,
    extra: Array, limit: Array,
) -> tuple[loop.State, loop.Plan]:  # fmt: skip
    variance = jnp.where(found.variance > 0, found.variance, 1)
    plan = loop.Plan(
        rows=found.rows,
        variance=variance,
        ridges=ridge * variance + extra,
        on=mixture.log_weights > -jnp.inf,
        prior=prior,
        tol=tol,
        max_steps=limit,
    )
    return loop.start(mixture, like, plan), plan


def door(
    where: str, mixture: GMM, rows: Given, mesh: Mesh | None, chunk: int | None
) -> tuple[Rows, GMM]:
    """Returns checked rows, and the mixture on the host, which they fit in every process."""
    means = check_mixture(where, mixture)
    checks.precise(where, "mixture", means)
    data = spread(where, meshes.team(where, mesh), rows, chunk)
    processes.agree(where, {"the number of columns": data.columns, "the dtype": str(data.dtype)})
    if data.columns != means.shape[1]:
        raise ValueError(f"{where}: rows must have the {means.shape[1]} columns of the mixture, "
                         f"got {data.columns}")  # fmt: skip
    if data.dtype != means.dtype:
        raise TypeError(f"{where}: rows must be {means.dtype} like the mixture, got {data.dtype}; "
                        "cast one")  # fmt: skip
    return data, processes.on_host(mixture)


def advance(climb: Climb, state: loop.State) -> tuple[loop.State, bool]:
    """Returns the state after one pass over the rows, and whether another one is worth while."""
    team = climb.rows.team
    like = no_moments(state.mixture)
    carry = meshes.fold(team, moments_of, like, state.candidate, climb.rows.chunks(0))
    options = (climb.accelerate,)
    state, more = meshes.close(team, carry, _advance, state, climb.plan, options=options)
    return state, bool(processes.on_host(more))


def finish(climb: Climb, state: loop.State) -> Fit:
    """Returns how the fit ended."""
    ended = meshes.same(climb.rows.team, loop.finish, state, climb.plan)
    return jax.tree.map(jnp.asarray, processes.on_host(ended))


def fit(
    mixture: GMM,
    rows: Given,
    *,
    mesh: Mesh | None = None,
    chunk: int | None = None,
    prior: Prior | None = None,
    ridge: Scalar = 1e-6,
    ridge_absolute: Scalar | Float[ArrayLike, " d"] = 0.0,
    tol: Scalar = 1e-4,
    max_steps: int = 200,
    accelerate: bool = False,
    progress: Callable[[int, float], None] | None = None,
    saving: Saving | None = None,
) -> Fit:
    """Runs EM as `gmm.fit` does, over rows that need not fit into memory, device or machine.

    Each step is one pass over the rows: every device adds up the moments of its share, chunk by
    chunk, and one all-reduce of all moments follows.  The result is that of `gmm.fit` on all rows
    together, but for the order in which numbers were added.

    Args:
        mixture: where to start, the same in every process.
        rows: those of this process: an array (n, d), a `train.Batch` with weights, or a source such
            as `scale.npy(path)`.  Processes may have unlike many, and some none (an array of shape
            (0, d)).
        mesh: whose devices share the rows; by default all.  Any axes will do.
        chunk: rows on the devices of this process at a time; by default arrays are one chunk, and
            sources are read 8 MiB at a time.
        prior: as in `gmm.fit`.
        ridge: as in `gmm.fit`.
        ridge_absolute: as in `gmm.fit`.
        tol: as in `gmm.fit`.
        max_steps: as in `gmm.fit`.
        accelerate: as in `gmm.fit`.
        progress: called after each pass with the steps so far and the objective (nats per sample).
        saving: the folder of checkpoints, of process 0, and after how many steps one is written.  A
            resume may have other devices, processes and chunks, and who holds which rows may
            change; other rows, and anything else that is other, are refused.  It costs a pass more.

    Returns:
        A `gmm.Fit`, the same in every process.

    Raises:
        TypeError, ValueError: what `gmm.fit` refuses; rows that change between passes; processes
            that do not agree about columns, dtype, start or numbers; with `saving`, what
            `scale.run` raises, and how it ends on SIGTERM and Ctrl-C.
    """
    climb, state = begin(
        mixture, rows, mesh=mesh, chunk=chunk, prior=prior, ridge=ridge,
        ridge_absolute=ridge_absolute, tol=tol, max_steps=max_steps, accelerate=accelerate,
    )  # fmt: skip

    def look(step: int, state: loop.State) -> None:
        del step
        if progress is not None:
            steps, objective = processes.on_host((state.steps, state.objective))
            progress(int(steps), float(objective))

    facts = {} if saving is None else facts_about(climb.rows, climb.facts)
    state = resumable.loop(
        "scale.gmm.fit", saving, facts, state, True, partial(advance, climb), look=look,
        place=partial(meshes.everywhere, climb.rows.team),
    )  # fmt: skip
    return finish(climb, state)
