"""Columns of a sweep as text, as a pandas table and as JSON."""

import json
import math
from pathlib import Path
from typing import Any

Columns = dict[str, list[Any]]
ROWS = 20  # of a printed table


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def text(columns: Columns, order: list[int], by: str) -> str:
    """Returns the members in an order as a table of text; a star marks the first.

    Of more than `ROWS` members the first are shown, and how many there are.
    """
    shown = order[:ROWS]
    cells = [["member", *columns]]
    cells += [[str(i), *(_cell(values[i]) for values in columns.values())] for i in shown]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in cells
    ]
    if shown and not math.isnan(columns[by][shown[0]]):
        lines[1] += "  *"
    if len(order) > ROWS:
        lines.append(f"... {len(order)} members, sorted by {by}")
    return "\n".join(lines)


def frame(columns: Columns) -> Any:
    """Returns a pandas DataFrame; raises ImportError, naming the extra, without pandas."""
    try:
        import pandas as pd
    except ImportError:
        raise ImportError("tables need pandas: install jaxnn-functional[tables]") from None
    return pd.DataFrame(
        {name: [list(v) if isinstance(v, tuple) else v for v in values]
         for name, values in columns.items()}
    )  # fmt: skip


def _json(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else repr(value)
    if isinstance(value, list | tuple):
        return [_json(v) for v in value]
    return value if isinstance(value, bool | int | float | str | type(None)) else repr(value)


def as_json(columns: Columns, path: Any = None) -> str:
    """Returns a list of one object a member as JSON; NaN is null, infinities are words."""
    n = len(next(iter(columns.values())))
    rows = [{name: _json(values[i]) for name, values in columns.items()} for i in range(n)]
    written = json.dumps(rows, allow_nan=False)
    if path is not None:
        Path(path).write_text(written, encoding="utf-8")
    return written
