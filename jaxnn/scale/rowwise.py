"""Any function of a model and rows over more rows than fit: as many at a time as memory allows.

The function must be row-wise: what it returns for a row depends on no other row.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.typing import ArrayLike
from jaxtyping import PyTree

from jaxnn import memory
from jaxnn.scale import meshes
from jaxnn.scale.chunks import AHEAD
from jaxnn.scale.meshes import Team
from jaxnn.scale.rows import spread
from jaxnn.scale.sources import Source, source
from jaxnn.train.data import Batch

WAITING = AHEAD + 1  # chunks on the devices besides the one that is worked on

UNKNOWN = 2**20  # rows at a time, at most, where the source does not say how many there are


def by_rows(
    function: Callable[[Any, Any], PyTree],
    model: PyTree,
    x: Source | ArrayLike,
    *,
    memory_budget: int | str = "auto",
    mesh: Mesh | None = None,
) -> PyTree:
    """Returns `function(model, x)`, as many rows at a time as the budget allows.

    For `gmm.log_prob`, `gmm.posterior`, `kde.log_prob`, `mlp.apply` and whatever else takes rows
    one by one.  Rows at a time are as many as the compiled program's own account of its memory
    allows; all chunks have one shape and share that program, and the last is filled up.

    Args:
        function: pure, of the model and rows (m, d); returns arrays with leading axis m.  Give the
            same function object again and nothing is compiled anew.
        model: pytree of arrays, of which each device has a copy.
        x: rows (n, d), float32 or float64: an array, a memory map, or a source such as
            `scale.npy(path)`; of this process.
        memory_budget: bytes that this may take on a device, with the model and the chunks that
            are read ahead; or "auto" for half of what is free.
        mesh: whose devices share the rows; by default all of this process.

    Returns:
        What the function returns, as NumPy arrays in the memory of the host.

    Raises:
        TypeError, ValueError: no table of rows, or rows that are not finite; a model with a NaN; a
            function that does not return one row for each; a budget below what one row on each
            device needs, naming the bytes; and what the function itself raises for the shapes.

    >>> x = np.ones((3, 2), np.float32)
    >>> by_rows(lambda shift, x: x[:, 0] + shift, jnp.float32(1), x).tolist()
    [2.0, 2.0, 2.0]
    """
    where = "scale.by_rows"
    if not callable(function):
        raise TypeError(f"{where}: function must be a function, got {type(function).__name__}")
    budget = memory.bytes_allowed(where, memory_budget)
    _check_model(where, model)
    team = meshes.team(where, mesh)
    team = Team(all=team.here, here=team.here)  # each process has its own rows, and asks nobody
    origin = _finite(where, source(where, x))
    rows = spread(where, team, origin)
    some = jax.ShapeDtypeStruct((2, rows.columns), rows.dtype)
    shapes = jax.eval_shape(function, model, some)
    _check_shapes(where, shapes)
    if origin.rows == 0:
        return _joined(where, iter(()), shapes, 0)

    copies, devices = meshes.everywhere(team, model), team.here.size
    split = NamedSharding(team.here, meshes.SPLIT)
    coming = WAITING * rows.columns * rows.dtype.itemsize

    def length(each: int) -> int:
        """Returns rows of a chunk, at most `each` on a device: as equal as can be."""
        turns = 1 if origin.rows is None else -(-origin.rows // (each * devices))
        whole = each * devices if origin.rows is None else origin.rows
        return -(-whole // (turns * devices)) * devices

    def program(each: int) -> Any:
        like = jax.ShapeDtypeStruct((length(each), rows.columns), rows.dtype, sharding=split)
        with jax.set_mesh(team.here):
            return meshes.each_alone.lower(function, team.here, copies, like).compile()

    most = UNKNOWN if origin.rows is None else -(-origin.rows // devices)
    cost = lambda each: memory.needed(program(each)) + coming * (length(each) // devices)
    fixed = sum(leaf.nbytes for leaf in jax.tree.leaves(copies))
    # No more than the rows themselves, that come and go, leave room for.
    out = sum(leaf.size * leaf.dtype.itemsize // 2 for leaf in jax.tree.leaves(shapes))
    own = coming + coming // WAITING + out
    most = max(1, min(most, (budget - fixed) // own))
    each = memory.most_that_fit(where, cost, most, fixed, budget, "row on each device")
    run, chunks = program(each), spread(where, team, origin, length(each)).chunks(0)

    def parts() -> Iterator[PyTree]:
        for chunk in chunks:
            real = np.count_nonzero(np.asarray(chunk.weight))
            found = run(copies, chunk.x)
            yield jax.tree.map(lambda a, n=real: np.asarray(a)[:n], found)

    with jax.set_mesh(team.here):
        return _joined(where, parts(), shapes, origin.rows)


def _check_model(where: str, model: PyTree) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(model):
        if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) and np.isnan(np.asarray(leaf)).any():
            raise ValueError(f"{where}: model must hold no NaN, got one in "
                             f"model{jax.tree_util.keystr(path)}")  # fmt: skip


def _check_shapes(where: str, shapes: PyTree) -> None:
    found = [leaf.shape for leaf in jax.tree.leaves(shapes)]
    if not found or any(shape[:1] != (2,) for shape in found):
        raise ValueError(f"{where}: function must return arrays with a row for each row of x, got "
                         f"{', '.join(map(str, found)) or 'none'} for 2 rows")  # fmt: skip


def _finite(where: str, origin: Source) -> Source:
    """Returns features alone, looked at while they are read."""

    def read(size: int, turn: int) -> Iterator[Batch]:
        done = 0
        for block in origin.read(size, turn):
            fine = np.isfinite(block.x)
            if not fine.all():
                row, column = np.argwhere(~fine)[0]
                raise ValueError(
                    f"{where}: x must be finite, got {block.x[row, column]} at row, column "
                    f"{done + int(row)}, {int(column)}; drop or impute such entries"
                )
            done += len(block.x)
            yield Batch(x=block.x)

    return origin._replace(read=read, like=Batch(x=origin.like.x))


def _joined(where: str, parts: Iterator[PyTree], shapes: PyTree, rows: int | None) -> PyTree:
    """Returns all parts as one, written to their places where the number of rows is known."""
    room = lambda n: jax.tree.map(lambda a: np.empty((n, *a.shape[1:]), a.dtype), shapes)
    if rows is None:
        return jax.tree.map(lambda *a: np.concatenate(a), room(0), *parts)
    whole, done = room(rows), 0
    for part in parts:
        start, done = done, done + len(jax.tree.leaves(part)[0])
        if done > rows:
            break
        jax.tree.map(lambda into, a, i=start, j=done: into.__setitem__(slice(i, j), a), whole, part)
    if done != rows:
        raise ValueError(f"{where}: x must have the {rows} rows that its source tells of, got "
                         f"{'more' if done > rows else done}")  # fmt: skip
    return whole
