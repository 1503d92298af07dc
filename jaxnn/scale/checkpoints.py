"""Checkpoints by orbax: written in the background, believed if whole, and never of another run.

A folder belongs to one run at a time and to one configuration for good: what the run is (numbers,
key, a digest of its data) is kept beside the arrays and compared before anything is restored.  A
checkpoint that was not finished is no checkpoint; one that is damaged is passed over, with a
warning, for the one before.
"""

import contextlib
import errno
import json
import os
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxnn import checks
from jaxnn.scale import folders
from jaxnn.scale.leaves import described, digest, names, original, plain

WHERE = "scale.checkpoints"
EXTRA = "checkpoints need orbax; pip install 'jaxnn-functional[scale]'"


class Restored(NamedTuple):
    """What a checkpoint held: after how many pieces it was written, the state, and the note."""

    step: int
    state: PyTree
    note: Any


class OtherRun(ValueError):
    """The checkpoints of a folder are whole, and of another run."""


class Checkpoints:
    """The checkpoints of one run in one folder; a context manager.

    Args:
        folder: Where they are; made if need be.
        facts: What the run is, as JSON has it.  Compared, entry by entry, before a restore.
        resume: Whether to go on with what is there.  Without it the folder must hold none.
        keep: How many to keep, the newest.

    Raises:
        ValueError: The folder holds checkpoints and `resume` is off, or those of another run, or
            another process is at work in it, or a symbolic link leads out of it.
        OSError: The folder cannot be made or written.
        TypeError: `facts` is no JSON.
        ImportError: There is no orbax.
    """

    def __init__(
        self, folder: str | os.PathLike[str], facts: dict[str, Any], *, resume: bool = False,
        keep: int = 2,
    ):  # fmt: skip
        self.folder = Path(folder).absolute()
        keep = checks.count(WHERE, "keep", keep)
        try:
            self.facts = json.loads(json.dumps(facts, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise TypeError(f"{WHERE}: facts must be a dict that JSON takes ({error})") from None
        self.saved: int | None = None
        self._lock = None
        folders.writable(WHERE, self.folder)
        folders.enclosed(WHERE, self.folder)
        self._lock = folders.locked(WHERE, self.folder)
        try:
            self._open(keep)
            steps = self._manager.all_steps()
            if steps and not resume:
                raise ValueError(
                    f"{WHERE}: folder must hold no checkpoints of a former run, got those of step "
                    f"{', '.join(map(str, sorted(steps)))} in {self.folder}; resume=True goes on "
                    "with them"
                )
        except BaseException:
            self._unlock()
            raise
        self._keep = keep

    def _open(self, keep: int) -> None:
        try:
            import orbax.checkpoint as ocp
        except ImportError as error:
            raise ImportError(EXTRA) from error
        self._args = ocp.args
        alone = {}
        if jax.process_count() > 1:  # the others are told by `one_writer`; orbax waits for none
            me = jax.process_index()
            only = ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me})
            alone = {"multiprocessing_options": only, "create": False}
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, enable_async_checkpointing=True, **alone
        )
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.wait()
            with contextlib.suppress(Exception):
                self._manager.close()
        finally:
            self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def save(self, step: int, state: PyTree, note: Any = None) -> None:
        """Begins to write a checkpoint; the state may be used at once, and must not be donated.

        A disk that is full costs the checkpoint and not the run: it warns, and the next one tries
        again.  So does a fault of the one before, which only shows now.  `note` is JSON.
        """
        arrays, impls = plain(state)
        if jax.process_count() > 1:  # orbax takes arrays of JAX for parts of those of all processes
            arrays = {name: np.asarray(array) for name, array in arrays.items()}
        about = {
            "facts": self.facts, "impls": impls, "arrays": described(state),
            "names": names(state), "digest": digest(arrays), "note": note,
        }  # fmt: skip
        filled = {name: array for name, array in arrays.items() if np.size(array)}  # orbax's wish
        args = self._args
        try:
            self._manager.save(
                step,
                args=args.Composite(state=args.StandardSave(filled), about=args.JsonSave(about)),
                force=True,
            )
            self.saved = step
        except Exception as error:
            self._failed(step, error)

    def wait(self) -> None:
        """Waits until all is written; warns if the last checkpoint was not."""
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        except Exception as error:
            self._failed(self.saved, error)

    def _failed(self, step: int | None, error: Exception) -> None:
        self.saved = None
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        why = "the disk is full" if full or "No space left" in str(error) else str(error)
        with contextlib.suppress(Exception):
            self._manager.close()
        self._open(self._keep)  # what failed is not used again
        last = self._manager.latest_step()
        kept = "none is there" if last is None else f"the last whole one is of step {last}"
        warnings.warn(
            f"{WHERE}: the checkpoint of step {step} was not written to {self.folder}, {kept}: "
            f"{why.splitlines()[0] if why else type(error).__name__}",
            UserWarning,
            stacklevel=4,
        )

    def restore(self, like: PyTree) -> Restored | None:
        """Returns the newest whole checkpoint, None if there is none.

        Args:
            like: Arrays or `jax.ShapeDtypeStruct`s in the structure of the state; those with a
                sharding are restored to it, on whatever devices there are now.  Or only the
                structure: then NumPy arrays of whatever shapes there were are returned.

        Raises:
            OtherRun: It belongs to another run: the entry of the facts is named.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                about = self._about(step)
                self._compare(about, like)
                found = Restored(step, self._state(step, about, like), about["note"])
                self.saved = step
                return found
            except OtherRun:
                raise
            except Exception as error:
                first = (str(error) or type(error).__name__).splitlines()[0][:200]
                warnings.warn(
                    f"{WHERE}: the checkpoint of step {step} in {self.folder} is damaged and is "
                    f"passed over ({first})",
                    UserWarning,
                    stacklevel=3,
                )
                damaged = self.folder / f"{step}"
                damaged.rename(self.folder / f"damaged-{step}-{os.urandom(3).hex()}")
                self._manager.reload()  # its list of steps
        return None

    def _about(self, step: int) -> dict[str, Any]:
        args = self._args
        return self._manager.restore(step, args=args.Composite(about=args.JsonRestore()))["about"]

    def _compare(self, about: dict[str, Any], like: PyTree) -> None:
        mine, theirs = self.facts, about["facts"]
        for name in sorted(mine.keys() | theirs.keys()):
            if mine.get(name) != theirs.get(name):
                raise OtherRun(
                    f"{WHERE}: the checkpoints in {self.folder} must be of this run, but "
                    f"{name} was {_short(theirs.get(name))} and is {_short(mine.get(name))} now"
                )
        for ours, theirs in zip(names(like), about["names"], strict=False):
            if ours != theirs:  # as of another optimizer
                raise OtherRun(
                    f"{WHERE}: the checkpoints in {self.folder} must hold the state of this run, "
                    f"but one of its arrays is state{theirs} there and state{ours} now"
                )
        structure = isinstance(like, jax.tree_util.PyTreeDef)
        impls = about["impls"] if structure else plain(like)[1]
        if impls != about["impls"]:
            raise OtherRun(
                f"{WHERE}: the checkpoints in {self.folder} must hold random keys as this run has "
                f"them, {_short(impls)}, got {_short(about['impls'])}"
            )
        if (
            len(about["arrays"]) != like.num_leaves
            if structure
            else about["arrays"] != described(like)
        ):
            raise OtherRun(
                f"{WHERE}: the checkpoints in {self.folder} must hold the state of this run, but "
                "its arrays have other shapes or dtypes"
            )

    def _state(self, step: int, about: dict[str, Any], like: PyTree) -> PyTree:
        if isinstance(like, jax.tree_util.PyTreeDef):
            nothing = [np.zeros((), jnp.dtype(dtype)) for _, dtype in about["arrays"]]
            shapes = [shape for shape, _ in about["arrays"]]
            like_arrays = map(np.broadcast_to, nothing, shapes)  # takes no memory
            arrays = {f"{i:05d}": array for i, array in enumerate(like_arrays)}
        else:
            arrays, _ = plain(jax.tree.map(_spec, like))
        filled = {name: array for name, array in arrays.items() if np.prod(np.shape(array))}
        args = self._args
        found = self._manager.restore(step, args=args.Composite(state=args.StandardRestore(filled)))
        arrays = {
            name: found["state"].get(name, np.zeros(array.shape, array.dtype))
            for name, array in arrays.items()
        }
        if about["digest"] is not None and digest(arrays) not in (None, about["digest"]):
            raise ValueError("its SHA-256 does not fit")
        return original(arrays, about["impls"], like)


def _spec(leaf: Any) -> Any:
    if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
        return leaf
    if isinstance(leaf, np.ndarray | np.generic):
        return np.asarray(leaf)  # comes back as one
    sharding = getattr(leaf, "sharding", None)
    return jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf), sharding=sharding)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
