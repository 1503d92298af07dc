"""`gmm.fit_stepwise` over any number of rows, devices and processes: EM on batches of a stream.

Shapes: n rows, d features, k components.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from jaxnn import checks
from jaxnn.gmm import stepwise
from jaxnn.gmm.model import GMM
from jaxnn.gmm.moments import Moments, moments
from jaxnn.gmm.stepwise import Stepwise, StepwiseFit
from jaxnn.scale import meshes, processes, resumable
from jaxnn.scale.fingerprints import facts_about
from jaxnn.scale.gmm.em import Given, door, moments_of, no_moments
from jaxnn.scale.resumable import Saving
from jaxnn.scale.rows import Rows, survey, weights
from jaxnn.train.data import Batch
from jaxnn.types import Scalar


def _step(
    chunk: Batch, state: Stepwise, power: Array, offset: Array, ridges: Float[Array, " d"]
) -> Stepwise:
    part = moments(state.mixture, chunk.x, weights(chunk)), jnp.sum(weights(chunk))
    batch, rows = meshes.total(part)
    t = (state.steps + 1).astype(rows.dtype)
    return stepwise.blend(state, batch, rows, (t + offset) ** -power, ridges)


def _log_lik(carry: Moments, rows: Float[Array, ""]) -> Float[Array, ""]:
    return meshes.total(meshes.own(carry)).log_lik / rows


def _padded(rows: Rows, turn: int, count: int) -> Iterator[Batch]:
    """Yields as many chunks as the process with the most has; the last may weigh nothing."""
    done = 0
    for chunk in rows.chunks(turn):
        done += 1
        yield chunk
    for _ in range(done, count):
        x: Any = np.zeros((rows.size, rows.columns), rows.dtype)
        yield meshes.split(rows.team.here, Batch(x=x, weight=x[:, 0]))


def fit_stepwise(
    mixture: GMM,
    rows: Given,
    *,
    batch_size: int,
    epochs: int,
    power: Scalar = 0.6,
    offset: Scalar = 2.0,
    ridge: Scalar = 1e-6,
    mesh: Mesh | None = None,
    progress: Callable[[int], None] | None = None,
    saving: Saving | None = None,
) -> StepwiseFit:
    """Runs stepwise EM as `gmm.fit_stepwise` does, one all-reduce a step, over rows as they come.

    Args:
        mixture: where to start, the same in every process; full, tied, diag or spherical.
        rows: as in `scale.gmm.fit`.  Their order is that of the source: wrap what is sorted in
            `scale.shuffled`.  One pass before the first step checks them and takes the variances.
        batch_size: rows of a step, of all processes together.  Each brings its share, filled up
            with rows of weight zero; so does the last batch of an epoch.
        epochs: passes over the rows.
        power: of the step sizes, in [0, 1]; as in `gmm.fit_stepwise`.
        offset: of the step sizes, at least 0.
        ridge: a share of the variance of each column, as for `fit`.
        mesh: whose devices share the rows; by default all.
        progress: called after each epoch with the number of epochs so far.
        saving: as in `scale.gmm.fit`; a piece is an epoch.

    Returns:
        A `gmm.StepwiseFit`, the same in every process.

    Raises:
        TypeError, ValueError: what `gmm.fit_stepwise` and `scale.gmm.fit` refuse.
    """
    where = "scale.gmm.fit_stepwise"
    count = checks.count(where, "batch_size", batch_size)
    epochs = checks.count(where, "epochs", epochs)
    for name, number in (("power", power), ("offset", offset), ("ridge", ridge)):
        checks.scalar(where, name, number)
    if not checks.holds(lambda: jnp.asarray(power) <= 1):
        raise ValueError(f"{where}: power must lie in [0, 1], got {power}")
    data, mixture = door(where, mixture, rows, mesh, -(-count // jax.process_count()))
    start = stepwise.stepwise_init(mixture)
    facts = {"mixture": mixture, "batch_size": count, "epochs": epochs, "power": power,
             "offset": offset, "ridge": ridge}  # fmt: skip
    processes.agree(where, facts)
    found = survey(where, data)
    host = processes.on_host(found)
    ridges = ridge * np.where(host.variance > 0, host.variance, 1).astype(data.dtype)
    batches = int(processes.gathered(np.array(data.passes[0])).max())
    numbers = [np.asarray(number, data.dtype) for number in (power, offset)]
    state, *numbers = meshes.everywhere(data.team, (start, *numbers, ridges.astype(data.dtype)))

    def advance(at: tuple[np.ndarray, Stepwise]) -> tuple[tuple[np.ndarray, Stepwise], bool]:
        epoch, state = np.asarray(at[0] + 1), at[1]
        for chunk in _padded(data, int(epoch), batches):
            before = state
            state = meshes.close(data.team, chunk, _step, state, *numbers)
            jax.block_until_ready(before)
        return (epoch, state), int(epoch) < epochs

    _, state = resumable.loop(
        where, saving, {} if saving is None else facts_about(data, facts),
        (np.asarray(0, np.int32), state), True, advance,
        place=lambda at: (at[0], meshes.everywhere(data.team, at[1])),
        look=None if progress is None else lambda epoch, _: progress(epoch),
    )  # fmt: skip
    carry = meshes.fold(data.team, moments_of, no_moments(mixture), state.mixture, data.chunks(0))
    log_lik = meshes.close(data.team, carry, _log_lik, found.rows)
    fitted = processes.on_host((state.mixture, log_lik, state))
    return StepwiseFit(*jax.tree.map(jnp.asarray, fitted))
