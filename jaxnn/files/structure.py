"""A model as plain JSON and a dict of named arrays, and back.

The JSON says how the arrays are put together: `{"kind": ..., "fields": ...}` a class of `KINDS`,
`{"static": ...}` an entry of `STATICS`, `{"tuple": [...]}`, `{"dict": {...}}`, `"array"`, None.
Arrays are named by their place: `cov.scale_tril`, `[0].weight`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxnn import checks, shapes
from jaxnn.files.kinds import FINITE, KINDS, STATICS

KIND_OF = {kind.type: name for name, kind in KINDS.items()}
STATIC_OF = {static.type: name for name, static in STATICS.items()}
DEPTH = 32  # of structures: real ones have three or four levels


def take_apart(where: str, name: str, model: Any) -> tuple[Any, dict[str, Array]]:
    """Returns the JSON and the arrays of a model; raises TypeError for what cannot be saved."""
    arrays: dict[str, Array] = {}

    def visit(place: str, node: Any) -> Any:
        if node is None:
            return None
        if type(node) in KIND_OF:
            fields = {
                field: visit(f"{place}.{field}" if place else field, value)
                for field, value in node._asdict().items()
            }
            return {"kind": KIND_OF[type(node)], "fields": fields}
        if type(node) in STATIC_OF:
            kind = STATIC_OF[type(node)]
            try:
                return {"static": kind, "value": STATICS[kind].write(node)}
            except ValueError as error:
                raise TypeError(f"{where}: {place} of {name} cannot be saved: {error}") from None
        if type(node) is tuple:
            return {"tuple": [visit(f"{place}[{i}]", part) for i, part in enumerate(node)]}
        if type(node) is dict and all(isinstance(key, str) for key in node):
            return {"dict": {key: visit(f"{place}[{key!r}]", part) for key, part in node.items()}}
        if isinstance(node, jax.Array | np.ndarray | np.generic):
            if not checks.concrete(node):
                raise TypeError(f"{where}: {name} must not be traced; save outside of jit")
            array = jnp.asarray(node)
            if array.dtype != node.dtype:
                raise TypeError(f"{where}: {place} of {name} is {node.dtype}, which needs x64")
            arrays[place or "array"] = array
            return "array"
        raise TypeError(
            f"{where}: {place or name} must be a model of jaxnn, an array, or a tuple or dict of "
            f"them, got {type(node).__name__}"
        )

    return visit("", model), arrays


def names(where: str, node: Any, place: str = "", depth: int = 0) -> list[str]:
    """Returns the arrays that a structure asks for; raises ValueError if it is none."""
    wrong = ValueError(f"{where}: the structure of the model is not understood at {place!r}")
    if node is None:
        return []
    if node == "array":
        return [place or "array"]
    if depth > DEPTH or not isinstance(node, dict):
        raise wrong
    match node:
        case {"kind": str(kind), "fields": dict(fields)} if len(node) == 2:
            if kind not in KINDS:
                raise ValueError(f"{where}: unknown kind of model {kind!r}")
            if set(fields) != set(KINDS[kind].type._fields):
                raise wrong
            parts = {(f"{place}.{field}" if place else field): v for field, v in fields.items()}
        case {"static": str(kind), "value": dict()} if len(node) == 2 and kind in STATICS:
            return []
        case {"tuple": list(items)} if len(node) == 1:
            parts = {f"{place}[{i}]": item for i, item in enumerate(items)}
        case {"dict": dict(items)} if len(node) == 1:
            parts = {f"{place}[{key!r}]": item for key, item in items.items()}
        case _:
            raise wrong
    return [name for key, part in parts.items() for name in names(where, part, key, depth + 1)]


def put_together(where: str, node: Any, arrays: Mapping[str, Any], place: str = "") -> Any:
    """Returns the model of a structure that `names` accepted."""
    if node is None:
        return None
    if node == "array":
        return arrays[place or "array"]
    match node:
        case {"kind": kind, "fields": fields}:
            inside = lambda field: f"{place}.{field}" if place else field
            parts = {f: put_together(where, v, arrays, inside(f)) for f, v in fields.items()}
            return KINDS[kind].type(**parts)
        case {"static": kind, "value": value}:
            try:
                return STATICS[kind].read(value)
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{where}: {place} is no {kind}: {error}") from None
        case {"tuple": items}:
            return tuple(
                put_together(where, item, arrays, f"{place}[{i}]") for i, item in enumerate(items)
            )
    return {
        key: put_together(where, item, arrays, f"{place}[{key!r}]")
        for key, item in node["dict"].items()
    }


def check(where: str, name: str, model: Any) -> None:
    """Raises ValueError unless shapes fit, as declared, and numbers are those of a model.

    A model may be a batch: then all arrays have the same leading axes.
    """
    if type(model) in KIND_OF:
        _check_model(where, name, model)
    elif isinstance(model, tuple):
        for i, part in enumerate(model):
            check(where, f"{name}[{i}]", part)
    elif isinstance(model, dict):
        for key, part in model.items():
            check(where, f"{name}[{key!r}]", part)
    elif model is not None:
        _hold(where, name, model, FINITE, 0)


def _lead(model: Any) -> int:
    """Returns the leading axes of a batch of models, as the first array of one shape tells."""
    for field, declared in shapes.declared(type(model)).items():
        value = getattr(model, field)
        if value is not None and len(declared.shapes) == 1 and "*" not in str(declared.shapes):
            return max(0, jnp.ndim(value) - len(declared.shapes[0]))
    return next((_lead(value) for value in model if type(value) in KIND_OF), 0)


def _check_model(where: str, name: str, model: Any) -> None:
    lead = _lead(model)
    shapes.agree(where, name, model, lead=lead)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(model)}
    if len(dtypes) != 1 or not jnp.issubdtype(dtypes.copy().pop(), jnp.floating):
        given = ", ".join(sorted(map(str, dtypes)))
        raise ValueError(f"{where}: {name} must be of one floating-point dtype, got {given}")

    def visit(place: str, node: Any) -> None:
        rules = KINDS[KIND_OF[type(node)]].rules
        for field, value in node._asdict().items():
            inside = f"{place}.{field}"
            if type(value) in KIND_OF:
                visit(inside, value)
            elif isinstance(value, tuple | dict):
                check(where, inside, value)
            elif hasattr(value, "shape"):
                _hold(where, inside, value, rules.get(field, FINITE), lead)

    visit(name, model)


def _hold(where: str, name: str, value: Any, rule: Any, lead: int) -> None:
    array = np.asarray(value)
    if jnp.issubdtype(array.dtype, jnp.floating) and array.size:
        wide = array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)
        if not np.all(rule.holds(wide, lead)):
            raise ValueError(f"{where}: {name} must be {rule.words}, which it is not")
