"""One self-contained HTML page for one result: pictures inside, nothing fetched, no scripts."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

DPI = 150  # of the pictures, as `jaxnn.plot.style` sets it; the page shows them in real inches
GIF_DPI = 100  # animations are large enough as they are


class Table(NamedTuple):
    """Rows of text and numbers under named columns; the best rows, by index, stand out."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    best: Sequence[int] = ()


class Section(NamedTuple):
    """A part of the page.

    Blank lines part the paragraphs of `text`, which is plain text unless it is a
    `markupsafe.Markup`.  `pictures` maps names of pictures to captions, which are also what a
    screen reader says.
    """

    title: str
    text: str = ""
    pictures: Mapping[str, str] = {}
    table: Table | None = None


def is_number(value: Any) -> bool:
    """Returns whether a cell is set to the right: a number, or None for one that is missing."""
    return value is None or (hasattr(value, "__float__") and not isinstance(value, bool))


def cell(value: Any) -> str:
    """Returns a cell as text: four significant digits, whole numbers in full, None as a dash."""
    if value is None:
        return "–"
    if is_number(value) and not hasattr(value, "__index__"):
        return f"{float(value):.4g}"
    return str(value)


def span(ends: Sequence[float], form: str = ".3f") -> str:
    """Returns a value with the ends of its interval, all in one format: `0.500 [0.400, 0.600]`."""
    middle, low, high = (format(float(end), form) for end in ends)
    return f"{middle} [{low}, {high}]"


def kind(picture: bytes) -> str:
    """Returns whether a file is a `png` or a `gif`."""
    return "gif" if picture.startswith(b"GIF") else "png"


def embed(picture: bytes) -> dict[str, Any]:
    """Returns what an <img> needs: the data address, and the size in CSS pixels."""
    if kind(picture) == "gif":
        dpi, width, height = (
            GIF_DPI,
            *(int.from_bytes(picture[i : i + 2], "little") for i in (6, 8)),
        )
    else:
        dpi, width, height = DPI, *(int.from_bytes(picture[i : i + 4], "big") for i in (16, 20))
    return {
        "src": f"data:image/{kind(picture)};base64," + base64.b64encode(picture).decode(),
        "width": round(width * 96 / dpi),
        "height": round(height * 96 / dpi),
    }


def environment() -> jinja2.Environment:
    """Returns what renders the templates beside this file; all of them share `style.css`."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(cell=cell, json=json.dumps)
    made.tests["number"] = is_number
    return made


def render(
    *,
    question: str,
    finding: str,
    sections: Sequence[Section],
    pictures: Mapping[str, bytes],
    config: Sequence[tuple[str, Any, str]],
    provenance: Mapping[str, Any],
) -> str:
    """Returns the page; `pictures` holds image files, `config` rows of name, value and meaning."""
    return (
        environment()
        .get_template("page.html")
        .render(
            question=question,
            finding=finding,
            sections=sections,
            pictures={name: embed(png) for name, png in pictures.items()},
            config=config,
            provenance=provenance,
        )
    )
