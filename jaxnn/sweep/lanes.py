"""Several calls of one program at a time: on CPU, one for each core.

XLA keeps little more than one core busy with a program of many small operations, and runs what one
thread calls one after another.  What several threads call runs side by side.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import jax
from jax.sharding import Mesh

from jaxnn.sweep.cost import carried, operations_of

WORTH = 2**27  # operations of a sweep from which threads pay, some hundredths of a second
CACHE = 3 * 2**20  # bytes that loops of a call may carry: 32 small networks, measured to be best

Item = TypeVar("Item")
Found = TypeVar("Found")


def cores() -> int:
    """Returns how many cores this process may use."""
    own = getattr(os, "sched_getaffinity", None)  # Linux
    return (os.cpu_count() or 1) if own is None else len(own(0))


def possible(mesh: Mesh | None, args: Any) -> bool:
    """Returns whether calls could run at a time: with all arguments on one CPU device.

    Where JAX is told to look at each operation or at each number, threads would not be told.
    """
    watched = jax.config.jax_disable_jit or jax.config.jax_debug_nans  # pyright: ignore[reportAttributeAccessIssue]
    arrays = [leaf for leaf in jax.tree.leaves(args) if isinstance(leaf, jax.Array)]
    devices = {device for array in arrays for device in array.devices()}
    alone = len(devices) == 1 and devices.pop().platform == "cpu"
    return mesh is None and alone and not watched and cores() > 1


def shares(member: Any, n: int, most: int, free: bool) -> tuple[int, int]:
    """Returns how many calls run at a time, and for how many of n members each.

    Args:
        member: one member's program, traced.
        n: all members.
        most: members of a call, at most.
        free: whether fewer may be taken for the sake of the cache.
    """
    spread = any(len(a.devices()) > 1 for a in member.jaxpr.consts if isinstance(a, jax.Array))
    if spread or member.jaxpr.effects or n * operations_of(member.jaxpr) < WORTH:
        return 1, most
    lanes = min(n, cores())
    most = min(most, -(-n // lanes))
    if free:
        most = min(most, max(1, CACHE // max(1, carried(member.jaxpr))))
    calls = -(-n // most)
    return lanes, -(-n // (-(-calls // lanes) * lanes))  # as many calls for each core


def in_turn(
    call: Callable[[Item], Found], items: Iterable[Item], lanes: int
) -> Generator[Found, None, None]:
    """Yields `call(item)` of each, in order, so many at a time.

    Closed early, it drops what no thread has begun, and waits for the rest.
    """
    if lanes == 1:
        yield from map(call, items)
        return
    waiting: deque[Any] = deque()
    pool = ThreadPoolExecutor(lanes)
    try:
        for item in items:
            waiting.append(pool.submit(call, item))
            if len(waiting) > lanes:  # one more than run, so that no thread waits for the next
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
