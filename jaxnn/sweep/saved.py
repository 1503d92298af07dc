"""Spaces as JSON, and back."""

import json
from dataclasses import fields, is_dataclass
from typing import Any

from jaxnn import checks
from jaxnn.sweep.axes import Choice, Integers, LogUniform, Normal, Uniform
from jaxnn.sweep.spaces import Design, Grid, Product, Space, Zip
from jaxnn.sweep.tables import When

KINDS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (Choice, Design, Grid, Integers, LogUniform, Normal, Product, Uniform, When, Zip)
}
_PLAIN = (bool, int, float, str, type(None))


def _names(kind: Any) -> list[str]:
    return [f.name for f in fields(kind)] if is_dataclass(kind) else list(kind._fields)


def _pack(name: str, value: Any) -> Any:
    if type(value) in KINDS.values():
        inside = {name: _pack(name, getattr(value, name)) for name in _names(type(value))}
        return {"is": type(value).__name__} | inside
    if name == "axes":
        return {axis: _pack(axis, values) for axis, values in value}
    if isinstance(value, list | tuple):
        return [_pack(name, v) for v in value]
    if not isinstance(value, _PLAIN):
        raise TypeError(
            f"sweep.to_json: {name} must consist of numbers, names, tuples and the "
            f"distributions of jaxnn.sweep, got {value!r}"
        )
    return value


def to_json(space: Space) -> str:
    """Returns a space as JSON text, for `from_json`.

    Raises TypeError for distributions and static values of the caller's own, and ValueError for
    numbers that are not finite.
    """
    if not isinstance(space, Space):
        raise TypeError(f"sweep.to_json: space must be a space such as Grid, got {space!r}")
    packed = _pack("space", space)
    try:
        return json.dumps(packed, allow_nan=False)
    except ValueError:
        raise ValueError("sweep.to_json: numbers of a space must be finite") from None


def _unpack(value: Any) -> Any:
    where = "sweep.from_json"
    if isinstance(value, list):
        return tuple(_unpack(v) for v in value)
    if not isinstance(value, dict):
        return value
    inside = {name: _unpack(v) for name, v in value.items()}
    if not isinstance(inside.get("is"), str):  # axes by name
        return inside
    checks.in_table(where, "kind of space", inside["is"], KINDS)
    kind = KINDS[inside.pop("is")]
    wanted = _names(kind)
    if sorted(inside) != sorted(wanted):
        raise ValueError(
            f"{where}: a {kind.__name__} must have {', '.join(wanted)}, got {', '.join(inside)}"
        )
    return kind(**inside)


def from_json(text: str) -> Space:
    """Returns the space that `to_json` wrote.

    Raises ValueError for text that is no JSON, or not of a space, naming what is unknown.
    """
    where = "sweep.from_json"
    try:
        found = _unpack(json.loads(text))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{where}: text must be JSON, got {error}") from None
    if not isinstance(found, Space):
        raise ValueError(f"{where}: text must hold a space, got a {type(found).__name__}")
    return found
