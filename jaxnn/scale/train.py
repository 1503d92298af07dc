"""Training on many devices, and from sources: for any trainer that descends a `ValueAndGrad`.

A loss is a mean over rows, so its gradients add up: `data_parallel` turns a function of one device
into one of all devices of a mesh, which fits the same slot.  `fit` is `train.fit` over a source.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from jaxnn import checks
from jaxnn.scale import meshes, processes
from jaxnn.scale.chunks import ahead, chunk_rows, equal
from jaxnn.scale.keeper import Keeper
from jaxnn.scale.leaves import digest
from jaxnn.scale.resumable import Saving
from jaxnn.scale.rows import weights
from jaxnn.scale.sources import Source, source
from jaxnn.scale.turns import Turns, told
from jaxnn.train import stream
from jaxnn.train.data import Batch
from jaxnn.train.state import Trained
from jaxnn.types import Key, ValueAndGrad


@dataclass(frozen=True)
class _Parallel:
    """A function and a mesh; equal ones are one program to JAX."""

    value_and_grad: ValueAndGrad
    mesh: Mesh

    def __call__(self, params: PyTree, batch: Batch, key: Key | None, /) -> tuple[Array, PyTree]:
        # Under `jax.set_mesh` programs must be of that mesh, and say how their arrays lie.
        free = jax.sharding.get_abstract_mesh().empty
        mesh = meshes.mesh(self.mesh.devices.ravel()) if free else self.mesh
        names, devices = mesh.axis_names, mesh.size
        n = jax.tree.leaves(batch.x)[0].shape[0]
        weight = jnp.ones(n, jnp.result_type(*jax.tree.leaves(params)))
        weight = weight if batch.weight is None else batch.weight
        spare = -n % devices
        rows = batch._replace(weight=None)
        if spare:
            # By their numbers: each device takes its own, where padding would make them talk.
            number = jnp.arange(n + spare) % n
            real = jnp.arange(n + spare) < n
            rows = jax.tree.map(lambda a: a[number], rows)
            weight = jnp.where(real, weight[number], 0)
        rows = rows._replace(weight=weight)
        some, same = PartitionSpec(names), PartitionSpec()
        if AxisType.Explicit in mesh.axis_types:
            rows = jax.tree.map(lambda a: jax.sharding.reshard(a, some), rows)

        def part(params: PyTree, rows: Batch, key: Key | None) -> PyTree:
            if key is not None:
                key = jax.random.fold_in(key, jax.lax.axis_index(names))
            mass = jnp.sum(weights(rows))
            found = self.value_and_grad(params, rows, key)
            # Rows that only fill up have a mean of 0/0.
            shares = jax.tree.map(lambda a: jnp.where(mass > 0, mass.astype(a.dtype) * a, 0), found)
            flat, back = ravel_pytree((shares, mass))
            sums, total = back(jax.lax.psum(flat, names))
            return jax.tree.map(lambda a: a / total.astype(a.dtype), sums)

        specs = (same, some, same)
        run = jax.shard_map(part, mesh=mesh, in_specs=specs, out_specs=same, check_vma=False)
        return run(params, rows, key)


def data_parallel(value_and_grad: ValueAndGrad, mesh: Mesh) -> ValueAndGrad:
    """Returns the same function, each batch shared by the devices of a mesh; one all-reduce.

    Give what it returns to `train.fit` in place of `value_and_grad`.  The number of rows of a batch
    need not be a multiple of the devices: it is filled up with rows of weight zero.  Value and
    gradient are those of one device but for the order of the sums.  With dropout each device folds
    its number into the key, so masks differ from those of one device.

    Args:
        value_and_grad: `(params, batch, key) -> (value, gradient)`, a weighted mean over rows.
        mesh: of any axes, automatic or explicit; rows go over all of its devices.

    Raises:
        TypeError: no function, or no mesh.
    """
    where = "scale.data_parallel"
    if not callable(value_and_grad):
        raise TypeError(f"{where}: value_and_grad must be a function, got "
                        f"{type(value_and_grad).__name__}")  # fmt: skip
    checks.instance(where, "mesh", mesh, Mesh)
    return _Parallel(value_and_grad, mesh)


def feed(
    rows: Any, *, batch_size: int, mesh: Mesh | None = None
) -> Callable[[int], Iterator[Batch]]:
    """Returns `turn -> iterator` over the equal batches of a pass, on the devices of a mesh.

    A thread reads and places the next batches meanwhile.  The last one is filled up with rows of
    weight zero, and where processes have unlike many rows, those with fewer add whole batches of
    weight zero: all of them take the same number of steps.

    Args:
        rows: those of this process: a `train.Batch`, or a source, perhaps `scale.shuffled`.
        batch_size: rows of a step, of all processes together; each brings its share.
        mesh: by default all devices.

    Raises:
        TypeError, ValueError: no rows, or a batch size below 1; in several processes a source that
            does not know how many rows it has.
    """
    where = "scale.feed"
    origin = source(where, rows)
    team = meshes.team(where, mesh)
    take = -(-checks.count(where, "batch_size", batch_size) // jax.process_count())
    size = -(-take // team.here.size) * team.here.size
    steps = None
    if jax.process_count() > 1:
        if origin.rows is None:
            raise ValueError(f"{where}: rows must say how many they are, so that all processes can "
                             "take as many steps; give rows to scale.batches")  # fmt: skip
        processes.agree(where, {"batch_size": batch_size, "dtypes and columns": origin.like})
        steps = int(processes.gathered(np.array(-(-origin.rows // take))).max())
    elif origin.rows == 0:
        raise ValueError(f"{where}: rows must hold at least one, got none")
    dtype = _weight_dtype(origin)
    spread = NamedSharding(team.all, meshes.SPLIT)

    def place(batch: Batch) -> Batch:
        if team.alone:
            return jax.device_put(batch, spread)
        return jax.tree.map(lambda a: jax.make_array_from_process_local_data(spread, a), batch)

    def padded(turn: int) -> Iterator[Batch]:
        done = 0
        for batch in equal(origin, take, size, turn, dtype):
            done += 1
            yield batch
        like = origin.like._replace(weight=np.zeros(0, dtype))
        for _ in range(done, steps or 0):
            yield jax.tree.map(lambda a: np.zeros((size, *a.shape[1:]), a.dtype), like)

    return lambda turn: ahead(padded(turn), place)


def _weight_dtype(origin: Source) -> Any:
    """The dtype of the weights: their own, else that of the features."""
    if origin.like.weight is not None:
        return origin.like.weight.dtype
    kinds = [leaf.dtype for leaf in jax.tree.leaves(origin.like.x) if leaf.dtype.kind == "f"]
    return kinds[0] if kinds else np.dtype(np.float32)


def fit(
    key: Key,
    params: PyTree,
    rows: Any,
    value_and_grad: ValueAndGrad,
    *,
    epochs: int,
    chunk: int | None = None,
    saving: Saving | None = None,
    **settings: Any,
) -> Trained:
    """Trains `params` on rows of a source, chunk after chunk, in every epoch anew.

    One compiled program serves all chunks, and a thread reads the next ones meanwhile.  Rows that
    fit into one chunk are trained on as `train.fit` does, bit for bit.  With more, the rows of a
    chunk are shuffled among each other and the chunks come in the order of the source, so do not
    store rows sorted by class; `scale.shuffled` mixes further.

    Args:
        key: as in `train.fit`.
        params: as in `train.fit`.
        rows: a source with targets, such as `scale.npy(x, y)` or `scale.parquet(..., y=column)`;
            or a `train.Batch` of arrays.
        value_and_grad: as in `train.fit`; with `data_parallel` for several devices.
        epochs: the most passes over the rows; epoch e reads turn e of the source.
        chunk: rows on the device at a time; by default some megabytes, in whole batches.
        saving: the folder of checkpoints, and after how many chunks one is written.  A resume goes
            on in the middle of an epoch: what it has seen of the pass is read once more, without
            being trained on, and ends with the same bits.  Refused are another key, other
            parameters to start from, other numbers and names of settings, another length of
            chunks, and other rows: another number, kind or first chunk of them, or others in what
            is read once more.  What `value_and_grad` is, say in `saving.config`.
        **settings: as in `train.fit_stream`: `batch_size` and the rest.

    Raises:
        TypeError, ValueError: what `train.fit_stream` raises; a source without rows; a chunk below
            1; a job of several processes, for which `feed` is there; with `saving`, what
            `scale.run` raises, and how it ends on SIGTERM and Ctrl-C.
    """
    where = "scale.train.fit"
    origin = source(where, rows)
    if jax.process_count() > 1:
        raise ValueError(f"{where}: must run in one process, got {jax.process_count()}; "
                         "scale.feed gives each process its part of all batches")  # fmt: skip
    if origin.rows == 0:
        raise ValueError(f"{where}: rows must hold at least one, got none")
    if chunk is not None:
        take = checks.count(where, "chunk", chunk)
    else:
        take = chunk_rows(origin.like, origin.rows, 1)
        step = (settings.get("batch_size") or 1) * settings.get("accumulate", 1)
        if isinstance(step, int) and step > 0:
            take = -(-take // step) * step
    turns = Turns(where, origin, take, digesting=saving is not None)
    train = partial(
        stream.run, key, params, turns.first, turns, value_and_grad, epochs=epochs, **settings
    )
    if saving is None:
        return train()
    checks.key(where, key)
    facts = {
        "key": digest(key), "params": digest(params), "data": digest(turns.first()),
        "rows": origin.rows, "chunk": take, "epochs": epochs,
    }  # fmt: skip
    with Keeper(where, saving, facts | {name: told(x) for name, x in settings.items()}) as keeper:

        def begin(start: stream.Midway) -> stream.Midway:
            found = keeper.restore(start)
            if found is None:
                return start
            turns.go_on(int(found.state.state.epoch), int(found.state.chunks), found.note)
            return found.state

        save = lambda midway: keeper.piece(midway, turns.so_far(int(midway.chunks)))
        trained = train(save=save, begin=begin)
        keeper.end()
    return trained
