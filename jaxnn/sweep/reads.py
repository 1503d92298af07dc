"""Which hyperparameters a fit reads: a misspelt name is told from one that it does without.

Names among them are part of the structure of the dict, so that jit, vmap and the state of a fit in
pieces carry them.
"""

import difflib
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import jax

from jaxnn import checks
from jaxnn.sweep.axes import identity


class Reads(dict[str, Any]):
    """A dict that remembers which names were asked for, and which of them it lacks.

    Its `static` entries are no leaves, but belong to its structure.
    """

    def __init__(self, values: dict[str, Any], static: Iterable[str] = ()):
        super().__init__(values)
        self.static = tuple(static)
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


def _flatten(reads: Reads) -> tuple[tuple[Any, ...], Any]:
    values = dict(reads.items())  # which counts as reading them
    static = tuple((name, identity(values[name])) for name in sorted(reads.static))
    names = tuple(sorted(name for name in values if name not in reads.static))
    return tuple(values[name] for name in names), (names, static)


def _flatten_with_keys(reads: Reads) -> tuple[Any, Any]:
    leaves, (names, static) = _flatten(reads)
    keys = [jax.tree_util.DictKey(name) for name in names]
    return list(zip(keys, leaves, strict=True)), (names, static)


def _unflatten(structure: Any, leaves: Any) -> Reads:
    names, static = structure
    bound = {name: value for name, (value, _) in static}
    return Reads(dict(zip(names, leaves, strict=True)) | bound, bound)  # which begins anew


jax.tree_util.register_pytree_with_keys(Reads, _flatten_with_keys, _unflatten, _flatten)


def without_names(tree: Any) -> Any:
    """Returns a tree whose dicts of this kind are plain ones, of numbers only."""
    ours = lambda v: isinstance(v, Reads)
    plain = lambda d: {name: v for name, v in d.items() if name not in d.static}
    return jax.tree.map(lambda v: plain(v) if ours(v) else v, tree, is_leaf=ours)


def explain(where: str, hparams: Collection[str], error: KeyError) -> None:
    """Raises ValueError if a fit was stopped by a name that is nearly that of a hyperparameter."""
    name = error.args[0] if error.args else None
    near = difflib.get_close_matches(str(name), list(hparams), n=1, cutoff=0.5)
    if near and name not in hparams:
        raise ValueError(_lacking(where, name, hparams)) from error


CONCRETE = (  # what JAX says where a traced number decides on a shape or a branch
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.TracerArrayConversionError,
)


@contextmanager
def explained(where: str, hparams: Collection[str]) -> Iterator[None]:
    """Explains what fits raise within: see `explain`, and a note on numbers that cannot be traced.

    The names are those that a fit might have misspelt.
    """
    try:
        yield
    except KeyError as error:
        explain(where, hparams, error)
        raise
    except TypeError as error:
        if isinstance(error, CONCRETE) or "concrete values" in str(error):
            error.add_note(
                f"{where}: hyperparameters are traced numbers, which decide on no shape and no "
                "branch; make one that does static, sweep.Choice(values, static=True), for "
                "sweep.run_groups"
            )
        raise


def _lacking(where: str, name: Any, hparams: Collection[str]) -> str:
    near = difflib.get_close_matches(str(name), list(hparams), n=1, cutoff=0.5)
    guess = f" (did you mean {near[0]!r}?)" if near else ""
    return (
        f"{where}: fit_one reads {name!r}, which hparams lacks{guess}; it has {', '.join(hparams)}"
    )


FREE = ("seed",)  # names that a fit need not read: they act through the key


def call(
    where: str, fit_one: Callable[..., Any], hparams: dict[str, Any], key: Any, *shared: Any,
    static: Iterable[str] = (),
) -> Any:  # fmt: skip
    """Returns `fit_one(hparams, key, *shared)`, traced or not; `static` says which are names.

    Raises ValueError, naming the nearest name, if it reads a name that `hparams` lacks, or reads
    none of what is given under a name other than `seed`.
    """
    reads = Reads(hparams, static)
    try:
        result = fit_one(reads, key, *shared)
    except KeyError as error:
        name = error.args[0] if error.args else None
        if name not in reads.missed:
            raise
        raise ValueError(_lacking(where, name, hparams)) from None
    known = reads.read | reads.missed
    for name in hparams:
        if name not in FREE:
            checks.in_table(where, "hyperparameter", name, sorted(known) or ["none"])
    return without_names(result)
