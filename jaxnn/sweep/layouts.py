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

from jaxnn.sweep.cost import operations_of

AXIS = "members"
LARGE = 2**20  # operations of a member, its loops of unknown length taken for `cost.TURNS`

# How the members of a chunk are laid out in the compiled program.  `vmap` works on all of them at
# once; `map` on one after another, so that a member that stops early is really done.
LAYOUTS: dict[str, Callable[[Callable[[Any], PyTree], Any], PyTree]] = {
    "vmap": lambda one, members: jax.vmap(one)(members),
    "map": jax.lax.map,
}


def _loops(jaxpr: Any) -> bool:
    """Returns whether a program has a loop whose length depends on values, at any depth."""
    inner = (getattr(jaxpr, "jaxpr", jaxpr)).eqns
    return any(
        eqn.primitive.name == "while"
        or any(
            _loops(part)
            for value in eqn.params.values()
            for part in (value if isinstance(value, tuple | list) else (value,))
            if hasattr(getattr(part, "jaxpr", part), "eqns")
        )
        for eqn in inner
    )


def chosen(layout: str, mesh: Mesh | None, one: Callable[..., PyTree], *args: Any) -> str:
    """Returns `layout`, or for "auto" what was measured to be faster for `one(*args)`.

    That is `map` on CPU if the function has a loop that ends when the values say so, since under
    `vmap` all members wait for the slowest, unless it does so little that members one by one
    would only be overhead; and `vmap` otherwise.
    """
    if layout != "auto":
        return layout
    device = jax.devices()[0] if mesh is None else mesh.devices.item(0)
    if device.platform != "cpu":
        return "vmap"
    program = jax.jit(one).trace(*args).jaxpr
    return "map" if _loops(program) and operations_of(program) >= LARGE else "vmap"


def one_member(members: PyTree) -> PyTree:
    """Returns the shapes of a member."""
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), members)


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
