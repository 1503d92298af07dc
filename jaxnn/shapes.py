"""A NamedTuple of arrays beside the shapes that its own annotations declare.

`scale_tril: Float[Array, "k d d"]` says what is wanted; here it is asked for, at doors and when a
model comes out of a file.  A letter has one size in a whole model, the classes inside it included;
`#k` is k or 1, as jaxtyping has it.
"""

import functools
from typing import Any, NamedTuple, get_args, get_type_hints

Sizes = dict[str, int]


class Declared(NamedTuple):
    """What a field may be: alternatives of dimensions, and whether it may be None."""

    shapes: tuple[tuple[str, ...], ...]
    optional: bool


@functools.cache
def declared(kind: type) -> dict[str, Declared]:
    """Returns the fields of a NamedTuple class that hold arrays, as they are annotated."""
    found = {}
    for name, hint in get_type_hints(kind).items():
        choices = get_args(hint) or (hint,)
        shapes = tuple(
            tuple(choice.dim_str.split()) for choice in choices if hasattr(choice, "dim_str")
        )
        if shapes:
            found[name] = Declared(shapes, type(None) in choices)
    return found


def _match(dims: tuple[str, ...], shape: tuple[int, ...], sizes: Sizes) -> Sizes | None:
    """Returns the sizes of letters if a shape is as declared, with those known before."""
    found = dict(sizes)
    if any(dim.startswith("*") for dim in dims):  # any number of axes, at the end
        dims = dims[:-1] + ("_",) * (len(shape) - len(dims) + 1)
    if len(dims) != len(shape):
        return None
    for dim, size in zip(dims, shape, strict=True):
        if dim == "_" or (dim.startswith("#") and size == 1):
            continue
        if found.setdefault(dim.removeprefix("#"), size) != size:
            return None
    return found


def agree(where: str, name: str, model: Any, sizes: Sizes | None = None, lead: int = 0) -> Sizes:
    """Returns the size of each letter; raises unless all arrays of `model` are as declared.

    Args:
        where: the function that asks.
        name: of the argument.
        model: a NamedTuple of arrays and of further such NamedTuples.
        sizes: letters whose size is known before.
        lead: leading axes of a batch of models, the same of every array.

    Raises:
        ValueError: an array of another shape; TypeError: something else than an array.
    """
    sizes = dict(sizes or {})
    fields = declared(type(model))
    for field, value in model._asdict().items():
        place = f"{name}.{field}"
        if field not in fields:
            if hasattr(value, "_asdict"):
                sizes = agree(where, place, value, sizes, lead)
            continue
        shapes, optional = fields[field]
        if value is None and optional:
            continue
        shape = getattr(value, "shape", None)
        if shape is None:
            raise TypeError(f"{where}: {place} must be an array, got {type(value).__name__}")
        sizes = _agree_array(where, place, tuple(shape), shapes, sizes, lead)
    return sizes


def _agree_array(
    where: str,
    place: str,
    shape: tuple[int, ...],
    shapes: tuple[tuple[str, ...], ...],
    sizes: Sizes,
    lead: int,
) -> Sizes:
    batch = tuple(f"batch {axis}" for axis in range(lead))
    for dims in shapes:
        found = _match(batch + dims, shape, sizes)
        if found is not None:
            return found
    wanted = " or ".join(_written(batch + dims, sizes) for dims in shapes)
    raise ValueError(f"{where}: {place} must have shape {wanted}, got {shape}")


def _written(dims: tuple[str, ...], sizes: Sizes) -> str:
    def known(dim: str) -> str:
        size = sizes.get(dim.removeprefix("#"))
        return dim if size is None else f"1 or {size}" if dim.startswith("#") else str(size)

    words = [known(dim) for dim in dims]
    return f"({words[0]},)" if len(words) == 1 else f"({', '.join(words)})"
