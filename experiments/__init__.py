"""Experiments with jaxnn: one question a file, each answered by one page.

An experiment is a module of this package that defines `Config` and `run`.  The first line of its
docstring is the question.  It brings:

    Config                         frozen pydantic dataclass, `config=runner.STRICT`; every field
                                   has a default, a range and a docstring
    SMOKE: dict                    overrides with which it runs in seconds
    run(config, seed, progress)    returns a `runner.Outcome`
    plot(outcome)                  returns the pictures: name -> matplotlib Figure or Animation
    TITLE: (str, str)              a short title in English and in Chinese, literals

A sweep goes through `progress.sweep`, which is `sweep.run` and keeps what is done for `--resume`.
`python -m experiments list` shows them, `python -m experiments run NAME` runs one.
"""

import ast
from pathlib import Path


def questions() -> dict[str, str]:
    """Returns the question of each experiment by name, read from the sources without importing."""
    found = {}
    for folder in __path__:
        for file in sorted(Path(folder).glob("*.py")):
            tree = ast.parse(file.read_text("utf-8"))
            if {"Config", "run"} <= {getattr(node, "name", None) for node in tree.body}:
                found[file.stem] = (ast.get_docstring(tree) or file.stem).splitlines()[0]
    return found


def resumable(name: str) -> bool:
    """Returns whether an experiment keeps what is done: read from its source, as questions are."""
    file = next(f for folder in __path__ if (f := Path(folder, f"{name}.py")).exists())
    nodes = ast.walk(ast.parse(file.read_text("utf-8")))
    return any(isinstance(n, ast.Attribute) and ast.unparse(n) == "progress.sweep" for n in nodes)
