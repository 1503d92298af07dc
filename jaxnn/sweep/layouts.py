"""How the members of a sweep are laid out: in one program, and over devices.

The member axis is cut over the devices of a mesh, each of which runs its own members as one device
would run them all: nothing is exchanged, so the compiled program has no collective.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import PyTree

AXIS = "members"

# How the members of a chunk are laid out in the compiled program.  `vmap` works on all of them at
# once; `map` on one after another, so that a member that stops early is really done.
LAYOUTS: dict[str, Callable[[Callable[[Any], PyTree], Any], PyTree]] = {
    "vmap": lambda one, members: jax.vmap(one)(members),
    "map": jax.lax.map,
}


def one_axis(where: str, mesh: Any) -> Mesh | None:
    """Returns all devices of a mesh along one axis; raises TypeError for anything but a mesh."""
    if mesh is None:
        return None
    if not isinstance(mesh, Mesh):
        raise TypeError(
            f"{where}: mesh must be a jax.sharding.Mesh such as jax.make_mesh((n,), ('members',)), "
            f"got {type(mesh).__name__}"
        )
    return Mesh(np.asarray(mesh.devices).reshape(-1), (AXIS,))


def spread(mesh: Mesh | None, function: Callable[..., PyTree], cut: int) -> Callable[..., PyTree]:
    """Returns `function` run by each device on its share of the first `cut` arguments.

    The others are whole on every device.  Without a mesh it is `function` itself.
    """
    if mesh is None:
        return function

    def each(*args: Any) -> PyTree:
        specs = (P(AXIS),) * cut + (P(),) * (len(args) - cut)
        run = jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=P(AXIS), check_vma=False)
        return run(*args)

    return each


def place(mesh: Mesh | None, cut: PyTree, whole: PyTree) -> tuple[PyTree, PyTree]:
    """Returns both trees on the mesh: `cut` along its first axis, `whole` on every device."""
    if mesh is None:
        return cut, whole
    put = lambda tree, spec: jax.device_put(tree, NamedSharding(mesh, spec))
    return put(cut, P(AXIS)), put(whole, P())
