"""Optimizers by name, built on optax, with clipping, decay and schedules around each.

`OPTIMIZERS` holds the nine of the lecture, plain SGD, AdamW, Lion and L-BFGS, as optax has them;
`FLAVOURS["torch"]` those that `torch.optim` has otherwise or alike.  A new one is one line, and one
of your own needs none: where a name stands, a function `(learning_rate, **numbers)` that returns an
optax transformation may stand, such as `optax.adabelief`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree

from jaxnn import checks
from jaxnn.train import norms, rules, schedules, torch_flavour
from jaxnn.train.decay import add_decay, add_l2, penalty
from jaxnn.train.opt_state import OptimizerState
from jaxnn.train.schedules import Schedule
from jaxnn.types import Scalar

Factory = Callable[..., optax.GradientTransformation]
WHERE = "train.optimizer"
DECAYS = frozenset({"b1", "b2", "decay", "momentum", "rho"})  # of running averages, below 1
RANGES = {"clip_value": checks.positive, "clip_norm": checks.positive}


class Entry(NamedTuple):
    """An optimizer, as a row of the table.

    Attributes:
        factory: `(learning_rate, **numbers) -> transformation`.
        numbers: its other numbers with their defaults; None for one that is left out.
        weight_decay: by default; None for none.
        coupled: whether weight_decay is added to the gradient and not to the step.
        biases: whether weight_decay is of every array.
        searches: whether it searches along its step, and so needs the loss it was given.
    """

    factory: Factory
    numbers: Mapping[str, float | None]
    weight_decay: float | None = None
    coupled: bool = False
    biases: bool = False
    searches: bool = False


def _lbfgs(learning_rate: Scalar) -> optax.GradientTransformationExtraArgs:
    """Returns L-BFGS with a zoom line search, whose step is then taken `learning_rate` times."""
    whole = optax.lbfgs()

    def init(params: PyTree) -> optax.OptState:
        kind = jnp.result_type(*jax.tree.leaves(params))  # optax makes some in JAX's default dtype
        cast = lambda a: a.astype(kind) if jnp.issubdtype(a.dtype, jnp.floating) else a
        return jax.tree.map(cast, whole.init(params))

    def update(updates: PyTree, state: Any, params: PyTree = None, **loss: Any) -> Any:
        steps, state = whole.update(updates, state, params, **loss)
        return jax.tree.map(lambda u: learning_rate * u, steps), state

    return optax.GradientTransformationExtraArgs(init, update)


ADAM = {"b1": 0.9, "b2": 0.999, "eps": 1e-8}
OPTIMIZERS: dict[str, Entry] = {
    "sgd": Entry(optax.sgd, {"momentum": None}),
    "momentum": Entry(optax.sgd, {"momentum": 0.9}),  # Polyak (1964)
    "nesterov": Entry(partial(optax.sgd, nesterov=True), {"momentum": 0.9}),  # Nesterov (1983)
    "adagrad": Entry(  # Duchi, Hazan and Singer (2011)
        optax.adagrad, {"initial_accumulator_value": 0.1, "eps": 1e-7}
    ),
    "rmsprop": Entry(  # Tieleman and Hinton (2012)
        optax.rmsprop, {"decay": 0.9, "eps": 1e-8, "initial_scale": 0.0, "momentum": None}
    ),
    "adadelta": Entry(optax.adadelta, {"rho": 0.9, "eps": 1e-6}),  # Zeiler (2012)
    "adam": Entry(optax.adam, ADAM | {"eps_root": 0.0}),  # Kingma and Ba (2014)
    "adamax": Entry(optax.adamax, ADAM),  # Kingma and Ba (2014), section 7.1
    "nadam": Entry(optax.nadam, ADAM | {"eps_root": 0.0}),  # Dozat (2016)
    "amsgrad": Entry(optax.amsgrad, ADAM | {"eps_root": 0.0}),  # Reddi, Kale and Kumar (2018)
    "adamw": Entry(  # Loshchilov and Hutter (2017)
        optax.adam, ADAM | {"eps_root": 0.0}, weight_decay=1e-4
    ),
    "lion": Entry(  # Chen et al. (2023)
        partial(optax.lion, weight_decay=0.0), {"b1": 0.9, "b2": 0.99}, weight_decay=1e-3
    ),
    "lbfgs": Entry(_lbfgs, {}, searches=True),  # Liu and Nocedal (1989)
}
COUPLED = partial(Entry, coupled=True, biases=True)
TORCH: dict[str, Entry] = {
    "sgd": COUPLED(optax.sgd, {"momentum": None}),
    "momentum": COUPLED(optax.sgd, {"momentum": 0.9}),
    "nesterov": COUPLED(partial(optax.sgd, nesterov=True), {"momentum": 0.9}),
    "adagrad": COUPLED(
        torch_flavour.adagrad, {"lr_decay": 0.0, "initial_accumulator_value": 0.0, "eps": 1e-10}
    ),
    "rmsprop": COUPLED(
        partial(optax.rmsprop, eps_in_sqrt=False), {"decay": 0.99, "eps": 1e-8, "momentum": None}
    ),
    "adadelta": COUPLED(optax.adadelta, {"rho": 0.9, "eps": 1e-6}),
    "adam": COUPLED(optax.adam, ADAM),
    "adamax": COUPLED(optax.adamax, ADAM),
    "nadam": COUPLED(torch_flavour.nadam, ADAM | {"momentum_decay": 4e-3}),
    "amsgrad": COUPLED(torch_flavour.amsgrad, ADAM),
    "adamw": Entry(optax.adam, ADAM, weight_decay=1e-2, biases=True),
}
FLAVOURS = {"optax": OPTIMIZERS, "torch": TORCH}
DEFAULT_RATES = {"lbfgs": 1.0, "adadelta": 1.0}  # their learning rate is a factor on a step


def optimizer(
    optimizer: str | Factory,
    learning_rate: Scalar | Schedule,
    *,
    flavour: str = "optax",
    clip_value: Scalar | None = None,
    clip_norm: Scalar | None = None,
    l2: Scalar | None = None,
    weight_decay: Scalar | None = None,
    **options: Scalar,
) -> optax.GradientTransformationExtraArgs:
    """Returns the optax transformation called `optimizer`.

    In this order an update clips the gradient, adds that of the penalty, asks the optimizer, and
    lets the weights decay.  Numbers are traced: a sweep over them compiles once.

    Args:
        optimizer: an entry of `OPTIMIZERS`, or a function `(learning_rate, **options)` that
            returns an optax transformation (static: give the same function object again).
        learning_rate: step length, 0 for no step; or a `schedule`, or a function of the number of
            updates done. For `lbfgs` the factor, 1 as a rule, on the step of the line search.
        flavour: "optax", or "torch" for steps equal to those of `torch.optim`; see
            `jaxnn.train.torch_flavour`.
        clip_value: the gradient's entries are brought into [-clip_value, clip_value].
        clip_norm: a gradient longer than that, as one vector, is shortened to it.
        l2: λ of the penalty λ‖W‖², of which biases are no part.
        weight_decay: learning_rate·weight_decay·W is taken off the weights W besides the step
            (Loshchilov and Hutter, 2019), biases excepted. By default 1e-4 for `adamw`, 1e-3 for
            `lion`, and none for others. Flavour "torch" means by it what torch does.
        **options: the optimizer's other numbers, as optax names them (`b1`, `momentum`, `eps`, …).
            An `eps` so small that its square would underflow counts as the smallest that is not,
            and leaves an entry whose gradient is 0 where it is.

    Returns:
        A transformation whose `update` takes the loss, too (`value`, `grad`, `value_fn`, without
        the penalty): `lbfgs` needs it, others do not.

    Raises:
        ValueError: an unknown name, a negative number, a decay of 1 or more, a clip that is not
            positive, or clipping and weight_decay for `lbfgs`, which is to go down a loss.
        TypeError: an option that this optimizer does not have, or one that is no number.

    >>> transformation = optimizer("adam", 1e-3, b1=0.95, clip_norm=1.0)
    """
    name, entry = _entry(optimizer, flavour)
    around = {"clip_value": clip_value, "clip_norm": clip_norm, "weight_decay": weight_decay}
    around = {option: value for option, value in around.items() if value is not None}
    _check(name, entry, learning_rate, around | ({} if l2 is None else {"l2": l2}), options)
    if callable(optimizer):
        _try(entry.factory, options)
    else:
        rules.options(WHERE, name, options, entry.numbers)
    numbers = {k: v for k, v in {**entry.numbers, **options}.items() if v is not None}
    decay = entry.weight_decay if weight_decay is None else weight_decay

    def inner(rate: Scalar, kind: Any) -> optax.GradientTransformationExtraArgs:
        made = entry.factory(rate, **{k: _number(k, v, kind) for k, v in numbers.items()})
        return optax.with_extra_args_support(made)

    def init(params: PyTree) -> Any:
        kind = jnp.result_type(*jax.tree.leaves(params))
        state = inner(jnp.zeros((), kind), kind).init(params)
        return OptimizerState(count=jnp.zeros((), jnp.int32), inner=state, optimizer=name)

    def update(updates: PyTree, state: Any, params: PyTree = None, **loss: Any) -> Any:
        gradient, kind = updates, jnp.result_type(*jax.tree.leaves(updates))
        now = learning_rate(state.count) if callable(learning_rate) else learning_rate
        given = {"rate": now, "l2": l2, "decay": decay, "norm": clip_norm, "value": clip_value}
        given = {k: _number(k, v, kind) for k, v in given.items() if v is not None}
        if "value" in given:
            gradient = norms.clip_by_value(gradient, given["value"])
        if "norm" in given:
            gradient = norms.clip_by_norm(gradient, given["norm"])
        if "l2" in given:
            gradient = add_l2(params, gradient, given["l2"])
            loss = _penalised(loss, params, given["l2"])
        if "decay" in given and entry.coupled:
            gradient = add_decay(params, gradient, given["decay"], biases=entry.biases)
        if "grad" in loss:
            loss["grad"] = gradient
        updates, new = inner(given["rate"], kind).update(gradient, state.inner, params, **loss)
        if "decay" in given and not entry.coupled:
            fall = -given["rate"] * given["decay"]
            updates = add_decay(params, updates, fall, biases=entry.biases)
        updates = jax.tree.map(lambda u, g: u.astype(g.dtype), updates, gradient)
        return updates, OptimizerState(count=state.count + 1, inner=new, optimizer=name)

    return optax.GradientTransformationExtraArgs(init, update)


def _entry(optimizer: Any, flavour: str) -> tuple[str, Entry]:
    """Returns the row of an optimizer and the name that its states bear."""
    checks.in_table(WHERE, "flavour", flavour, FLAVOURS)
    if isinstance(optimizer, optax.GradientTransformation):
        raise TypeError(
            f"{WHERE}: optimizer must be a name or a function (learning_rate, **numbers) that "
            "returns a transformation, such as optax.adabelief, got the transformation itself"
        )
    if callable(optimizer):
        own: Any = optimizer
        function = getattr(optimizer, "func", optimizer)  # of a partial
        return getattr(function, "__name__", type(function).__name__), Entry(own, {})
    table = FLAVOURS[flavour]
    if isinstance(optimizer, str) and optimizer in OPTIMIZERS and optimizer not in table:
        raise ValueError(
            f"{WHERE}: flavour {flavour!r} has no optimizer {optimizer!r}; "
            f"choose from {', '.join(table)}"
        )
    checks.in_table(WHERE, "optimizer", optimizer, table)
    return optimizer if flavour == "optax" else f"{flavour} {optimizer}", table[optimizer]


def _try(factory: Factory, options: dict[str, Any]) -> None:
    """Raises TypeError unless a user's function of a rate and these numbers gives what it must."""
    try:
        made = factory(0.0, **options)
    except TypeError as error:
        raise TypeError(f"{WHERE}: optimizer does not take these numbers: {error}") from None
    if not isinstance(made, optax.GradientTransformation):
        raise TypeError(
            f"{WHERE}: optimizer must return an optax.GradientTransformation, "
            f"got {type(made).__name__}"
        )


def _check(name: str, entry: Entry, learning_rate: Any, around: dict, options: dict) -> None:
    """Raises unless all numbers are in their ranges and fit each other."""
    schedules.check(WHERE, learning_rate)
    if getattr(learning_rate, "steps", ()) is None:
        raise ValueError(f"{WHERE}: learning_rate must have its steps, got {learning_rate}")
    for option, value in (around | options).items():
        inside = rules.fraction if option in DECAYS else checks.non_negative
        rules.number(WHERE, option, value, RANGES.get(option, inside))
    if entry.searches and set(around) - {"l2"}:
        raise ValueError(
            f"{WHERE}: {min(set(around) - {'l2'})} must be left out for {name}, which searches "
            "along the gradient of the loss; l2 makes the weights decay"
        )


def _number(name: str, x: Any, kind: Any) -> Any:
    """Returns a number in the dtype of the gradient; Python's adapt by themselves, and exactly."""
    if name == "eps":  # else 0/0 where a gradient is 0, or underflows when squared
        least = float(jnp.finfo(kind).tiny) ** 0.5
        x = jnp.maximum(x, least) if hasattr(x, "dtype") else max(x, least)
    return jnp.asarray(x, kind) if hasattr(x, "dtype") else x


def _penalised(loss: dict[str, Any], params: PyTree, l2: Scalar) -> dict[str, Any]:
    """Returns the loss that the update was given, with the penalty."""
    more = dict(loss)
    if "value" in loss:
        more["value"] = loss["value"] + penalty(params, l2)
    if "value_fn" in loss:
        more["value_fn"] = lambda p: loss["value_fn"](p) + penalty(p, l2)
    return more
