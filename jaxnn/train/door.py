"""What a training is given, checked and made into arrays before anything is compiled."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PyTree

from jaxnn import checks
from jaxnn.train import augment as augments
from jaxnn.train import rules, schedules, seen, slots, step, warn
from jaxnn.train.augment import Augmentation
from jaxnn.train.averages import RANGES as AVERAGE_RANGES
from jaxnn.train.averages import Averaging
from jaxnn.train.data import Batch, leading
from jaxnn.train.optimizers import DEFAULT_RATES, Factory
from jaxnn.train.schedules import Schedule
from jaxnn.train.state import Choices, Plan, Rows, Score
from jaxnn.types import Key, Scalar, ValueAndGrad

LONGEST = jnp.iinfo(jnp.int32).max


class Job(NamedTuple):
    """A training that was checked: what its compiled parts take."""

    params: PyTree
    rows: Rows
    plan: Plan
    choices: Choices


def prepare(
    where: str,
    key: Key,
    params: PyTree,
    batch: Batch,
    value_and_grad: ValueAndGrad,
    *,
    epochs: int,
    passes: int | None = 1,
    optimizer: str | Factory = "adam",
    learning_rate: Scalar | Schedule | None = None,
    flavour: str = "optax",
    batch_size: int | None = None,
    accumulate: int = 1,
    shuffle: bool = True,
    sampling: Float[Array, " n"] | None = None,
    l2: Scalar = 0.0,
    max_norm: Scalar | None = None,
    average: Averaging | None = None,
    augment: Augmentation | None = None,
    validation: Batch | None = None,
    validate_every: int = 1,
    score: Score | None = None,
    metrics: Mapping[str, Score] | None = None,
    patience: int | Int[Array, ""] | None = None,
    stop_at: int | Int[Array, ""] | None = None,
    order_key: Key | None = None,
    min_gain: Scalar = 0.0,
    **options: Any,
) -> Job:
    """Returns what a training needs; raises what `train.fit` says.

    `passes` over as many rows as there are in `batch` make an epoch; None: nobody knows.
    """
    checks.key(where, key)
    if order_key is not None:
        checks.key(where, order_key, "order_key")
    epochs = checks.count(where, "epochs", epochs)
    params, dtype = parameters(where, params)
    batch, weight = rows(where, "batch", batch, dtype)
    n = leading(where, "batch", batch)
    size = n
    if batch_size is not None:
        size = min(n, checks.count(where, "batch_size", batch_size))
    if sampling is not None:
        sampling = checks.weights(where, "sampling", sampling, n).astype(dtype)
    choices = Choices(
        value_and_grad=value_and_grad,
        optimizer=optimizer,
        flavour=flavour,
        epochs=epochs,
        batch_size=size,
        accumulate=checks.count(where, "accumulate", accumulate),
        shuffle=shuffle,
        validate_every=checks.count(where, "validate_every", validate_every),
        score=score,
        metrics=tuple(sorted((metrics or {}).items())),
        finite=bool(jax.config.jax_debug_nans),  # pyright: ignore[reportAttributeAccessIssue]
    )
    last = epochs if stop_at is None else _stop_at(where, stop_at, epochs)
    updates = None if passes is None else last * passes * step.steps_of(n, choices)
    plan = Plan(
        learning_rate=_rate(where, optimizer, learning_rate, updates, dtype),
        l2=_penalty(where, l2, dtype),
        max_norm=None if max_norm is None else _limit(where, max_norm, dtype),
        average=_average(where, average, dtype),
        augment=_augment(where, augment, batch, dtype),
        patience=_patience(where, patience, validation),
        stop_at=None if stop_at is None else jnp.asarray(last, jnp.int32),
        order_key=order_key,
        min_gain=number(where, "min_gain", min_gain, dtype),
        options={name: number(where, name, x, dtype) for name, x in options.items()},
    )
    step.transformation(plan, choices)  # checks name and options
    slots.slot(where, value_and_grad, params, batch, key)
    if not shuffle and size < n:
        warn.sorted_labels(where, batch.y)
    if validation is not None:
        held_out, held_weight = rows(where, "validation", validation, dtype)
        slots.judge(where, value_and_grad, score, choices.metrics, params, held_out)
        validation = held_out._replace(weight=ones(held_out, held_weight, dtype))
        both = (batch, held_out)
        seen.once(value_and_grad, "overlap", None, both, lambda: warn.overlap(where, *both))
    elif metrics:
        raise ValueError(f"{where}: metrics need a validation batch to look at, got None")
    return Job(params, Rows(batch, weight, sampling, validation), plan, choices)


def _cast(rule: PyTree, dtype: Any) -> PyTree:
    """Returns a rule with its numbers as arrays; what is counted in them needs 32 bits."""
    kind = jnp.promote_types(dtype, jnp.float32)
    return jax.tree.map(lambda a: jnp.asarray(a, kind), rule)


def _rate(where: str, optimizer: Any, rate: Any, updates: Any, dtype: Any) -> Any:
    """Returns the learning rate, a number or a schedule, as data."""
    if rate is None:
        rate = DEFAULT_RATES.get(optimizer, 1e-3) if isinstance(optimizer, str) else 1e-3
    if not callable(rate):
        return number(where, "learning_rate", rate, dtype)
    if updates is None and getattr(rate, "steps", ()) is None:
        raise ValueError(
            f"{where}: learning_rate must say its steps, since the number of chunks is not known"
        )
    rate = schedules.resolve(where, rate, 1 if updates is None else updates)
    return rate if isinstance(rate, jax.tree_util.Partial) else _cast(rate, dtype)


def _penalty(where: str, l2: Any, dtype: Any) -> Float[Array, ""] | None:
    found = number(where, "l2", l2, dtype)
    # A Python 0 is known before compilation, so that no penalty costs nothing.
    return None if isinstance(l2, int | float) and l2 == 0 else found


def _limit(where: str, limit: Any, dtype: Any) -> Float[Array, ""]:
    checks.positive(where, "max_norm", limit)
    return number(where, "max_norm", limit, dtype)


def _average(where: str, rule: Any, dtype: Any) -> Averaging | None:
    if rule is None:
        return None
    if not isinstance(rule, Averaging):
        raise TypeError(
            f"{where}: average must be a rule such as train.averaging('ema'), "
            f"got {type(rule).__name__}"
        )
    rules.within(where, rule, AVERAGE_RANGES)
    return _cast(rule, dtype)


def _augment(where: str, rule: Any, batch: Batch, dtype: Any) -> Augmentation | None:
    if rule is None:
        return None
    if not callable(rule):
        raise TypeError(
            f"{where}: augment must be a rule such as train.augmentation('noise', scale=0.1), or "
            f"a function (key, batch) -> batch, got {type(rule).__name__}"
        )
    augments.check(where, rule, batch)
    if type(rule) in augments.AUGMENTATIONS.values():
        return _cast(rule, dtype)
    return rule if isinstance(rule, jax.tree_util.Partial) else jax.tree_util.Partial(rule)


def number(where: str, name: str, x: Any, dtype: Any) -> Float[Array, ""]:
    """Returns one number that is not negative, perhaps traced, as an array of `dtype`."""
    if not isinstance(x, int | float) and not hasattr(x, "dtype"):
        raise TypeError(f"{where}: {name} must be a number, got {type(x).__name__}")
    checks.shape(where, name, jnp.asarray(x), ())
    checks.non_negative(where, name, x)
    return _array(x, dtype)


def _array(x: Any, dtype: Any) -> Array:
    """Returns a number as an array; one of Python by way of the host, where nothing is compiled."""
    kind = jnp.dtype(dtype)
    return jnp.asarray(kind.type(x) if isinstance(x, int | float) else x, kind)


def _patience(where: str, epochs: Any, validation: Batch | None) -> Int[Array, ""]:
    """Returns the patience as an array; None is more than any run can take."""
    if epochs is None:
        epochs = LONGEST
    elif validation is None:
        raise ValueError(f"{where}: patience needs a validation batch to watch, got None")
    elif checks.concrete(epochs):
        epochs = checks.count(where, "patience", epochs, most=LONGEST)
    array = _array(epochs, jnp.int32)
    checks.shape(where, "patience", array, ())
    return array


def _stop_at(where: str, epoch: Any, epochs: int) -> Int[Array, ""] | int:
    """Returns after how many epochs a run stops, at least one."""
    if checks.concrete(epoch):
        return checks.count(where, "stop_at", epoch, most=epochs)
    array = jnp.asarray(epoch)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"{where}: stop_at must be a whole number, got {array.dtype}")
    checks.shape(where, "stop_at", array, ())
    return jnp.clip(array, 1, epochs).astype(jnp.int32)


def parameters(where: str, params: PyTree) -> tuple[PyTree, Any]:
    """Returns parameters as arrays, and the floating-point type that they all have."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        raise ValueError(f"{where}: params must hold at least one array, got {params!r}")
    names = [f"params{jax.tree_util.keystr(path)}" for path, _ in leaves]
    arrays = [
        checks.floating(where, name, leaf) for name, (_, leaf) in zip(names, leaves, strict=True)
    ]
    dtype = arrays[0].dtype
    for name, array in zip(names, arrays, strict=True):
        checks.same_dtype(where, name, array, names[0], dtype)
    return jax.tree.map(lambda p: jnp.asarray(p, dtype), params), dtype  # no weak types


def ones(batch: Batch, weight: Float[Array, " n"] | None, dtype: Any) -> Float[Array, " n"]:
    """Returns the weights of rows, ones where there are none."""
    return jnp.ones(jax.tree.leaves(batch)[0].shape[0], dtype) if weight is None else weight


def rows(
    where: str, name: str, batch: Batch, dtype: Any
) -> tuple[Batch, Float[Array, " n"] | None]:
    """Returns a batch of arrays without weights, and its weights, or None for none."""
    if not isinstance(batch, Batch):
        raise TypeError(
            f"{where}: {name} must be a train.Batch, got {type(batch).__name__}; "
            "write Batch(x=x, y=y)"
        )
    try:
        batch = jax.tree.map(jnp.asarray, batch)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{where}: {name} must hold arrays of numbers ({str(error).splitlines()[0]})"
        ) from None
    n = leading(where, name, batch)
    if batch.weight is None:
        return batch, None
    weight = checks.weights(where, f"{name}.weight", batch.weight, n)
    return batch._replace(weight=None), weight.astype(dtype)
