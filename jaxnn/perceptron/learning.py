"""Rosenblatt's learning rule, as a compiled loop over passes, and its variants.

Shapes: n samples, d inputs, o outputs.  The rule corrects mistakes only.  From zero, the rate
scales all weights and changes nothing else.  On rows no longer than R that a plane through the
origin separates with margin γ, it makes at most (R/γ)² mistakes in any order (Novikoff, 1962).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxnn import checks
from jaxnn.perceptron.model import DECISIONS, Perceptron, Targets, door, raw_scores
from jaxnn.types import Data, Key, Scalar


class Fit(NamedTuple):
    """How learning ended.

    Attributes:
        params: What the variant returns.
        converged: Whether the last pass made no mistake; the plain rule then separates the rows.
        passes: Passes over the rows, the last one without mistakes included.
        mistakes: Corrections of each output in all passes; with "winner" a mistake corrects two.
            While learning, a score of zero decides nothing and is a mistake.
        errors: Rows that `predict` with these `params` gets wrong, in any output.
    """

    params: Perceptron
    converged: Bool[Array, ""]
    passes: Int[Array, ""]
    mistakes: Int[Array, " o"]
    errors: Int[Array, ""]


Errors = Callable[[Perceptron], Int[Array, ""]]


class Variant(NamedTuple):
    """What is kept on the way, and returned in the end; `errors` counts the rows got wrong.

    Attributes:
        start: (parameters, errors) to memory.
        visit: (memory, parameters after a row, whether it was right, errors) to memory.
        result: (memory, last parameters) to parameters.
    """

    start: Callable[[Perceptron, Errors], Any]
    visit: Callable[[Any, Perceptron, Bool[Array, ""], Errors], Any]
    result: Callable[[Any, Perceptron], Perceptron]


class Average(NamedTuple):
    """The mean of the parameters after each row seen."""

    mean: Perceptron
    seen: Int[Array, ""]


class Pocket(NamedTuple):
    """The best parameters so far, and how many rows they get wrong."""

    params: Perceptron
    errors: Int[Array, ""]


def _average(memory: Average, params: Perceptron, right: Array, errors: Errors) -> Average:
    del right, errors
    seen = memory.seen + 1
    towards = lambda mean, p: mean + (p - mean) / seen.astype(p.dtype)
    return Average(mean=jax.tree.map(towards, memory.mean, params), seen=seen)


def _pocket(memory: Pocket, params: Perceptron, right: Array, errors: Errors) -> Pocket:
    # Counting errors takes a look at all rows: only new parameters are worth it.
    count = jax.lax.cond(right, lambda _: memory.errors, errors, params)
    keep = lambda new, old: jnp.where(count < memory.errors, new, old)
    return Pocket(
        params=jax.tree.map(keep, params, memory.params), errors=keep(count, memory.errors)
    )


VARIANTS: dict[str, Variant] = {
    "plain": Variant(
        start=lambda params, errors: (),
        visit=lambda memory, params, right, errors: memory,
        result=lambda memory, params: params,
    ),
    # Freund and Schapire (1999): the mean of all voters, in one vector.
    "averaged": Variant(
        start=lambda params, errors: Average(
            mean=jax.tree.map(jnp.zeros_like, params), seen=jnp.zeros((), jnp.int32)
        ),
        visit=_average,
        result=lambda memory, params: memory.mean,
    ),
    # Gallant (1990).  He guesses from runs of right rows which weights are best; here all errors
    # are counted after each correction, n times the work of the correction.
    "pocket": Variant(
        start=lambda params, errors: Pocket(params=params, errors=errors(params)),
        visit=_pocket,
        result=lambda memory, params: memory.params,
    ),
}


class State(NamedTuple):
    """What one row hands to the next."""

    params: Perceptron
    memory: Any
    wrong: Int[Array, ""]  # rows, in the last pass
    passes: Int[Array, ""]
    mistakes: Int[Array, " o"]


@partial(jax.jit, static_argnames=("decision", "variant"))
def _fit(
    params: Perceptron,
    x: Float[Array, "n d"],
    targets: Int[Array, "n o"],
    rate: Float[Array, ""],
    max_passes: Int[Array, ""],
    key: Key | None,
    decision: str,
    variant: str,
) -> Fit:
    chosen, kept = DECISIONS[decision], VARIANTS[variant]

    def errors(params: Perceptron) -> Int[Array, ""]:
        on = chosen.on(raw_scores(params, x))
        return jnp.sum(jnp.any(on != (targets > 0), axis=1), dtype=jnp.int32)

    def visit(state: State, i: Int[Array, ""]) -> tuple[State, None]:
        old, row = state.params, x[i]
        push = chosen.correction(raw_scores(old, row[None])[0], targets[i])
        step = rate * push.astype(x.dtype)
        params = Perceptron(
            weight=old.weight + step[:, None] * row[None],
            bias=None if old.bias is None else old.bias + step,
        )
        right = jnp.all(push == 0)
        return state._replace(
            params=params,
            memory=kept.visit(state.memory, params, right, errors),
            wrong=state.wrong + ~right,
            mistakes=state.mistakes + (push != 0),
        ), None

    def unfinished(state: State) -> Bool[Array, ""]:
        return (state.wrong > 0) & (state.passes < max_passes)

    def one_pass(state: State) -> State:
        order = jnp.arange(x.shape[0])
        if key is not None:
            order = jax.random.permutation(jax.random.fold_in(key, state.passes), order)
        fresh = state._replace(wrong=jnp.zeros((), jnp.int32), passes=state.passes + 1)
        return jax.lax.scan(visit, fresh, order)[0]

    start = State(
        params=params,
        memory=kept.start(params, errors),
        wrong=jnp.ones((), jnp.int32),
        passes=jnp.zeros((), jnp.int32),
        mistakes=jnp.zeros(targets.shape[1], jnp.int32),
    )
    end = jax.lax.while_loop(unfinished, one_pass, start)
    result = kept.result(end.memory, end.params)
    return Fit(
        params=result,
        converged=end.wrong == 0,
        passes=end.passes,
        mistakes=end.mistakes,
        errors=errors(result),
    )


def fit(
    params: Perceptron,
    x: Data,
    y: Targets,
    *,
    decision: str = "threshold",
    variant: str = "plain",
    rate: Scalar = 1.0,
    max_passes: int | Int[Array, ""] = 100,
    key: Key | None = None,
) -> Fit:
    """Learns from mistakes, row by row, until a pass makes none or `max_passes` are over.

    Args:
        params: Where to start, as from `init`; their number of outputs is kept.
        x: Rows, in the dtype of the parameters.
        y: With decision "threshold" labels 0 and 1, or -1 and +1: shape (n, o), or (n,) for one
            output.  With "winner" classes, whole numbers from 0 to o - 1, shape (n,).
        decision: A name in `DECISIONS`.  "threshold": each output is a perceptron by itself;
            "winner": the largest score is the class.
        variant: A name in `VARIANTS`.  "plain" returns the last weights, "averaged" their mean
            over all rows seen, "pocket" the best of all that were visited.
        rate: What a correction is multiplied with, traced.
        max_passes: The most passes over the rows, traced; 0 only counts the errors of `params`.
        key: Shuffles the rows anew in each pass; None takes them as they come.

    Returns:
        A `Fit`.  Labels that no plane separates end in `converged` False, never in a loop.

    Raises:
        TypeError: If dtypes differ or are not floating-point, or classes are no whole numbers.
        ValueError: If shapes do not fit, there are more labels than outputs, labels are others
            than said, a name is unknown, or a number is negative (the rate: or zero).

    >>> from jaxnn.perceptron import init, predict
    >>> x = jnp.array([[0, 0], [0, 1], [1, 0], [1, 1]], jnp.float32)
    >>> learned = fit(init(2), x, jnp.array([0, 0, 0, 1]))
    >>> bool(learned.converged), predict(learned.params, x)[:, 0].tolist()
    (True, [0, 0, 0, 1])
    >>> bool(fit(init(2), x, jnp.array([0, 1, 1, 0])).converged)  # XOR
    False
    >>> key = jax.random.key(0)
    >>> int(fit(init(2), x, jnp.array([0, 1, 1, 0]), variant="pocket", key=key).errors)
    1
    """
    where = "perceptron.fit"
    checks.in_table(where, "decision", decision, DECISIONS)
    checks.in_table(where, "variant", variant, VARIANTS)
    params, x = door(where, params, x)
    checks.finite(where, "params.weight", params.weight)
    targets = DECISIONS[decision].targets(where, y, x.shape[0], params.weight.shape[0])
    checks.positive(where, "rate", rate)
    checks.non_negative(where, "max_passes", max_passes)
    if key is not None:
        checks.key(where, key)
    numbers = jnp.asarray(rate, x.dtype), jnp.asarray(max_passes, jnp.int32)
    return _fit(params, x, targets.astype(jnp.int32), *numbers, key, decision, variant)
