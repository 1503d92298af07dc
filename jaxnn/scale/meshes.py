"""A fold over rows that many devices share: each adds up its own, and once a pass they add theirs.

    carry = step(carry, given, chunk)       on every device alone, chunk after chunk
    result = close(carry, given)            on all devices together, with one collective in `close`

So a process needs no rows but its own and no equal number of them: only `close` is a program of
all processes.  Meshes of any axes will do, explicit or automatic: the rows go over all devices.
"""

import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from jaxnn import checks

Result = TypeVar("Result")

AXIS = "rows"
SPLIT, SAME = PartitionSpec(AXIS), PartitionSpec()


def mesh(devices: Iterable[Any] | None = None, *, axis: str = AXIS) -> Mesh:
    """Returns a mesh of one axis over devices, by default all devices of all processes.

    Args:
        devices: such as `jax.devices()[:4]`; under `jax.distributed` some of every process.
        axis: name of the axis.

    Raises:
        TypeError, ValueError: no devices, or what is none.

    >>> mesh().size == len(jax.devices())
    True
    """
    where = "scale.mesh"
    found = _all_devices(where) if devices is None else list(devices)
    if not found:
        raise ValueError(f"{where}: devices must hold at least one device, got none")
    for device in found:
        if not isinstance(device, jax.Device):
            raise TypeError(f"{where}: devices must hold devices such as jax.devices()[0], got "
                            f"{type(device).__name__}")  # fmt: skip
    return Mesh(np.array(found), (axis,), axis_types=(jax.sharding.AxisType.Auto,))


def _all_devices(where: str) -> list[Any]:
    try:
        return jax.devices()
    except (RuntimeError, AssertionError) as error:  # JAX asserts that some platform has started
        wanted = os.environ.get("JAX_PLATFORMS")
        raise RuntimeError(
            f"{where}: JAX finds no device, with JAX_PLATFORMS {wanted or 'not set'} "
            f"({str(error).splitlines()[0] if str(error) else 'the platform did not start'})"
        ) from None


class Team(NamedTuple):
    """The devices that share the rows, all and those of this process: meshes of the one `AXIS`."""

    all: Mesh
    here: Mesh

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.all.size == self.here.size


def team(where: str, given: Mesh | None) -> Team:
    """Returns the devices of a mesh, by default all; raises unless this process has one of them."""
    if given is not None:
        checks.instance(where, "mesh", given, Mesh)
    devices = list((mesh() if given is None else given).devices.ravel())
    mine = [d for d in devices if d.process_index == jax.process_index()]
    if not mine:
        raise ValueError(
            f"{where}: mesh must hold a device of every process, got none of process "
            f"{jax.process_index()}; scale.mesh() holds all"
        )
    # In the order of the processes, since each holds its own rows together.
    devices.sort(key=lambda d: d.process_index)
    return Team(all=mesh(devices), here=mesh(mine))


def split(where: Mesh, tree: PyTree) -> PyTree:
    """Returns arrays cut along their leading axis, a piece on each device of this process."""
    return jax.device_put(tree, NamedSharding(where, SPLIT))


def everywhere(team: Team, tree: PyTree) -> PyTree:
    """Returns arrays, the same on each process, as arrays that every device has a copy of."""
    same = NamedSharding(team.all, SAME)
    if team.alone:
        return jax.device_put(tree, same)
    host = lambda a: np.asarray(a.addressable_data(0) if isinstance(a, Array) else a)
    return jax.tree.map(lambda a: jax.make_array_from_process_local_data(same, host(a)), tree)


def only_here(team: Team, tree: PyTree) -> PyTree:
    """Returns arrays that every device has a copy of as arrays of this process alone."""
    if team.alone:
        return tree
    same = NamedSharding(team.here, SAME)
    pieces = lambda a: [shard.data for shard in a.addressable_shards]
    return jax.tree.map(
        lambda a: jax.make_array_from_single_device_arrays(a.shape, same, pieces(a)), tree
    )


def _joined(team: Team, carry: PyTree) -> PyTree:
    """Returns a carry on the devices of this process as its part of that on all devices."""
    if team.alone:
        return carry
    shape = lambda a: (a.shape[0] // team.here.size * team.all.size, *a.shape[1:])
    pieces = lambda a: [shard.data for shard in a.addressable_shards]
    return jax.tree.map(
        lambda a: jax.make_array_from_single_device_arrays(
            shape(a), NamedSharding(team.all, SPLIT), pieces(a)
        ),
        carry,
    )


@partial(jax.jit, static_argnames=("step", "where"))
def each(step: Callable[..., PyTree], where: Mesh, carry: PyTree, given: PyTree, chunk: PyTree):
    """Returns the carry of every device after its part of a chunk; no collective."""

    def alone(carry: PyTree, given: PyTree, chunk: PyTree) -> PyTree:
        new = step(own(carry), given, chunk)
        return jax.tree.map(lambda a: a[None], new)

    specs = (SPLIT, SAME, SPLIT)
    return jax.shard_map(alone, mesh=where, in_specs=specs, out_specs=SPLIT, check_vma=False)(
        carry, given, chunk
    )


@partial(jax.jit, static_argnames=("close", "where", "options"))
def together(
    close: Callable[..., PyTree], where: Mesh, carry: PyTree, given: PyTree, options: tuple = ()
):
    """Returns `close(part, *given, *options)` on every device, in which `total` may be used."""

    def all_of(carry: PyTree, given: PyTree) -> PyTree:
        return close(carry, *given, *options)

    specs = (SPLIT, SAME)
    return jax.shard_map(all_of, mesh=where, in_specs=specs, out_specs=SAME, check_vma=False)(
        carry, given
    )


def own(carry: PyTree) -> PyTree:
    """Returns the carry of this device, from its part of those of all."""
    return jax.tree.map(lambda a: a[0], carry)


def total(tree: PyTree) -> PyTree:
    """Returns the sum of trees of numbers of one dtype over all devices, by one all-reduce."""
    flat, back = ravel_pytree(tree)
    return back(jax.lax.psum(flat, AXIS))


def collected(tree: PyTree) -> PyTree:
    """Returns trees of numbers of one dtype with a leading axis of devices, by one all-gather."""
    flat, back = ravel_pytree(tree)
    return jax.vmap(back)(jax.lax.all_gather(flat, AXIS))


def fold(
    team: Team, step: Callable[..., PyTree], zero: PyTree, given: PyTree, chunks: Iterable[PyTree]
) -> PyTree:
    """Returns the carry of each device of this process after its parts of all chunks.

    Args:
        team: the devices.
        step: `(carry, given, chunk) -> carry`, the same function object each time.
        zero: what each device starts from, as shapes and dtypes or arrays.
        given: arrays that every device has (from `everywhere`).
        chunks: pytrees of arrays that `split` has spread.
    """
    start = lambda a: np.broadcast_to(np.asarray(a)[None], (team.here.size, *np.shape(a)))
    carry = split(team.here, jax.tree.map(start, zero))
    given, before = only_here(team, given), None
    try:
        with jax.set_mesh(team.here):
            for chunk in chunks:
                carry = each(step, team.here, carry, given, chunk)
                # One chunk is being worked on while the next is asked for, and no more than that.
                jax.block_until_ready(before)
                before = carry
            return jax.block_until_ready(carry)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise MemoryError(
            f"scale: a chunk of rows must fit on the devices with what is made of it, got "
            f"{str(error).splitlines()[0]}; give a smaller chunk, or rows as a source"
        ) from None


def close(
    team: Team, carry: PyTree, f: Callable[..., Result], *given: PyTree, options: tuple = ()
) -> Result:
    """Returns `f(part, *given, *options)` of all devices, the same on every one.

    The part of a device are its pieces along the leading axis: of a carry one (see `own`), of rows
    as many as it has.
    """
    with jax.set_mesh(team.all):
        return together(f, team.all, _joined(team, carry), given, options)


@partial(jax.jit, static_argnames=("f", "where"))
def _same(f: Callable[..., PyTree], where: Mesh, given: PyTree):
    run = lambda given: f(*given)
    return jax.shard_map(run, mesh=where, in_specs=SAME, out_specs=SAME, check_vma=False)(given)


def same(team: Team, f: Callable[..., Result], *given: PyTree) -> Result:
    """Returns `f(*given)`, computed on every device alike, of arrays that all of them have."""
    with jax.set_mesh(team.all):
        return _same(f, team.all, given)


@partial(jax.jit, static_argnames=("f", "where"))
def each_alone(f: Callable[..., PyTree], where: Mesh, given: PyTree, rows: PyTree):
    """Returns `f(given, rows)`, row by row on every device its own; no collective."""
    specs = (SAME, SPLIT)
    return jax.shard_map(f, mesh=where, in_specs=specs, out_specs=SPLIT, check_vma=False)(
        given, rows
    )
