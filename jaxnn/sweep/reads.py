"""Which hyperparameters a fit reads: a misspelt name is told from one that it does without."""

import difflib
from collections.abc import Callable, Iterator
from typing import Any

import jax

from jaxnn import checks


class Reads(dict[str, Any]):
    """A dict that remembers which names were asked for, and which of them it lacks."""

    def __init__(self, values: dict[str, Any]):
        super().__init__(values)
        self.read: set[str] = set()
        self.missed: set[str] = set()

    def _note(self, name: str) -> None:
        (self.read if super().__contains__(name) else self.missed).add(name)

    def __getitem__(self, name: str) -> Any:
        self._note(name)
        return super().__getitem__(name)

    def __contains__(self, name: Any) -> bool:
        self._note(name)
        return super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Returns the value of a name, or the default."""
        self._note(name)
        return super().get(name, default)

    def pop(self, name: str, *default: Any) -> Any:
        """Returns the value of a name, and forgets it."""
        self._note(name)
        return super().pop(name, *default)

    def __iter__(self) -> Iterator[str]:  # also what `**` uses, once it is defined here
        self.read.update(super().keys())
        return super().__iter__()

    def keys(self) -> Any:
        """Returns all names, which counts as reading them."""
        self.read.update(super().keys())
        return super().keys()

    def items(self) -> Any:
        """Returns all names and values, which counts as reading them."""
        self.read.update(super().keys())
        return super().items()

    def values(self) -> Any:
        """Returns all values, which counts as reading them."""
        self.read.update(super().keys())
        return super().values()


def _flatten(reads: Reads) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    names = tuple(sorted(reads))
    return tuple(reads[name] for name in names), names


def _unflatten(names: tuple[str, ...], leaves: Any) -> Any:
    return dict(zip(names, leaves, strict=True))


# A tree like the dict it stands for, and a plain dict again once it has been mapped.
jax.tree_util.register_pytree_node(Reads, _flatten, _unflatten)

FREE = ("seed",)  # names that a fit need not read: they act through the key


def call(
    where: str, fit_one: Callable[..., Any], hparams: dict[str, Any], key: Any, *shared: Any
) -> Any:
    """Returns `fit_one(hparams, key, *shared)`, traced or not.

    Raises ValueError, naming the nearest name, if it reads a name that `hparams` lacks, or reads
    none of what is given under a name other than `seed`.
    """
    reads = Reads(hparams)
    try:
        result = fit_one(reads, key, *shared)
    except KeyError as error:
        name = error.args[0] if error.args else None
        if name not in reads.missed:
            raise
        near = difflib.get_close_matches(str(name), list(hparams), n=1, cutoff=0.5)
        guess = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(
            f"{where}: fit_one reads {name!r}, which hparams lacks{guess}; it has "
            f"{', '.join(hparams)}"
        ) from None
    known = reads.read | reads.missed
    for name in hparams:
        if name not in FREE:
            checks.in_table(where, "hyperparameter", name, sorted(known) or ["none"])
    return result
