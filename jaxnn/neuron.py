"""The neuron that adds and compares, networks of it, and learning by correlation.

McCulloch and Pitts (1943): a neuron fires if the weighted sum of its inputs reaches a threshold.
Hebb (1949): a connection grows where both of its ends are active; Oja (1982) keeps it in bounds.

Shapes: n samples, d inputs, o neurons of a layer.  A network is a tuple of layers.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Int

from jaxnn import checks
from jaxnn.types import Data, Scalar

__all__ = ["GATES", "RULES", "Gate", "Neuron", "apply", "gate", "hebb"]


class Neuron(NamedTuple):
    """A layer of neurons: neuron j fires if Σ_i weight[j, i] x_i >= threshold[j]."""

    weight: Float[Array, "o d"]
    threshold: Float[Array, " o"]


Network = tuple[Neuron, ...]
Plain = tuple[Sequence[Sequence[float]], Sequence[float]]  # one layer in plain numbers


class Gate(NamedTuple):
    """A Boolean function of d inputs in {0, 1}, built from neurons.

    Attributes:
        layers: d to the layers, each its weights and its thresholds in plain numbers.
        truth: the number of ones among the inputs, and d, to whether the gate fires.
        most: the largest d, None for any.
    """

    layers: Callable[[int], tuple[Plain, ...]]
    truth: Callable[[Any, int], Any]
    most: int | None = None


# Thresholds lie halfway between whole numbers, so that rounding and noise must be large to matter.
def _at_least(k: int, d: int) -> Plain:
    """The neuron that fires if k or more of its d inputs do."""
    return [[1.0] * d], [k - 0.5]


def _negated(layer: Plain) -> Plain:
    """Neurons that fire where those of `layer` do not; no sum may equal a threshold."""
    weights, thresholds = layer
    return [[-w for w in row] for row in weights], [-t for t in thresholds]


def _beside(*layers: Plain) -> Plain:
    """One layer of the neurons of all: they look at the same inputs."""
    return [row for weights, _ in layers for row in weights], [t for _, ts in layers for t in ts]


def _parity(d: int) -> tuple[Plain, ...]:
    """Counts the inputs in one layer; then +1, -1, +1, ... leaves one where the count is odd.

    With two inputs this is XOR = OR but not AND (Minsky and Papert, 1969: one layer cannot).
    """
    counters = _beside(*(_at_least(k, d) for k in range(1, d + 1)))
    return counters, ([[(-1.0) ** k for k in range(d)]], [0.5])


GATES: dict[str, Gate] = {
    "and": Gate(lambda d: (_at_least(d, d),), lambda ones, d: ones == d),
    "or": Gate(lambda d: (_at_least(1, d),), lambda ones, d: ones > 0),
    "nand": Gate(lambda d: (_negated(_at_least(d, d)),), lambda ones, d: ones < d),
    "nor": Gate(lambda d: (_negated(_at_least(1, d)),), lambda ones, d: ones == 0),
    "not": Gate(lambda d: (_negated(_at_least(1, d)),), lambda ones, d: ones == 0, most=1),
    "majority": Gate(
        lambda d: (_at_least(math.floor(d / 2) + 1, d),), lambda ones, d: 2 * ones > d
    ),
    "xor": Gate(_parity, lambda ones, d: ones % 2 == 1),
}


def gate(name: str, n_inputs: int, *, dtype: DTypeLike = jnp.float32) -> Network:
    """Returns the neurons that compute the gate `name` of `n_inputs` inputs.

    All gates are one neuron, but "xor" (whether the number of ones is odd), which is two layers.

    Args:
        name: In `GATES`.
        n_inputs: At least one; exactly one for "not".
        dtype: Of weights and thresholds.

    Raises:
        TypeError: If `n_inputs` is no whole number, or `dtype` is not floating-point.
        ValueError: If the name is unknown, or the gate does not take so many inputs.

    >>> rows = jnp.array([[0, 0], [0, 1], [1, 0], [1, 1]], jnp.float32)
    >>> apply(gate("xor", 2), rows)[:, 0].tolist()
    [0, 1, 1, 0]
    >>> [len(gate(name, 1)) for name in ("not", "xor")]
    [1, 2]
    """
    where = "neuron.gate"
    checks.in_table(where, "name", name, GATES)
    wanted = GATES[name]
    n_inputs = checks.count(where, "n_inputs", n_inputs, most=wanted.most)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"{where}: dtype must be a floating-point type, got {jnp.dtype(dtype)}")
    return tuple(
        Neuron(weight=jnp.asarray(weight, dtype), threshold=jnp.asarray(threshold, dtype))
        for weight, threshold in wanted.layers(n_inputs)
    )


def _check(where: str, network: Any, width: int) -> None:
    if not isinstance(network, tuple) or isinstance(network, Neuron) or not network:
        raise TypeError(
            f"{where}: network must be a tuple of layers, got {type(network).__name__}; "
            "one layer is (neuron,)"
        )
    for i, layer in enumerate(network):
        if not isinstance(layer, Neuron):
            raise TypeError(
                f"{where}: network[{i}] must be a neuron.Neuron, got {type(layer).__name__}"
            )
        weight = checks.floating(where, f"network[{i}].weight", layer.weight)
        checks.shape(where, f"network[{i}].weight", weight, (None, width))
        width = weight.shape[0]
        threshold = checks.floating(where, f"network[{i}].threshold", layer.threshold)
        checks.shape(where, f"network[{i}].threshold", threshold, (width,))
        checks.same_dtype(where, f"network[{i}].threshold", threshold, "its weight", weight.dtype)


def apply(network: Network, x: Data) -> Int[Array, "n o"]:
    """Returns which neurons of the last layer fire, 1, or not, 0, for each row of `x`.

    Inputs may be any numbers; McCulloch and Pitts' are 0 and 1.

    Raises:
        TypeError: If `network` is no tuple of `Neuron`s, or dtypes differ.
        ValueError: If layers do not fit together or to `x`, or `x` has a NaN.

    >>> both = Neuron(weight=jnp.array([[1.0, 1.0]]), threshold=jnp.array([1.5]))
    >>> apply((both,), jnp.array([[1.0, 1.0], [1.0, 0.0]])).tolist()
    [[1], [0]]
    """
    where = "neuron.apply"
    signal = checks.data(where, "x", x)
    _check(where, network, signal.shape[1])
    checks.same_dtype(where, "x", signal, "the weights", network[0].weight.dtype)
    for layer in network:
        sums = signal @ layer.weight.T
        signal = (sums >= layer.threshold[None]).astype(sums.dtype)
    return signal.astype(jnp.int32)


# The change of a weight (d,), but for the rate, by an input x (d,) and an output y.
RULES: dict[str, Callable[[Array, Array, Array], Array]] = {
    "hebb": lambda w, x, y: y * x,  # Hebb (1949)
    "oja": lambda w, x, y: y * (x - y * w),  # Oja (1982), equation 3
}


@partial(jax.jit, static_argnames="rule")
def _fold(
    weight: Float[Array, " d"],
    x: Float[Array, "n d"],
    y: Float[Array, " n"] | None,
    rate: Float[Array, ""],
    decay: Float[Array, ""],
    passes: Int[Array, ""],
    rule: str,
) -> Float[Array, " d"]:
    n = x.shape[0]

    def one_pass(number: Int[Array, ""], weight: Array) -> Array:
        def visit(w: Array, row: tuple[Array, Array, Array | None]) -> tuple[Array, None]:
            i, x_i, y_i = row
            output = w @ x_i if y_i is None else y_i
            step = rate / (1 + decay * (number * n + i).astype(rate.dtype))
            return w + step * RULES[rule](w, x_i, output), None

        return jax.lax.scan(visit, weight, (jnp.arange(n), x, y))[0]

    return jax.lax.fori_loop(0, passes, one_pass, weight)


def hebb(
    weight: Float[ArrayLike, " d"],
    x: Data,
    y: Float[ArrayLike, " n"] | None = None,
    *,
    rate: Scalar,
    rule: str = "hebb",
    decay: Scalar = 0.0,
    passes: int | Int[Array, ""] = 1,
) -> Float[Array, " d"]:
    """Returns one neuron's weights after it has seen each row of `x`, in order, `passes` times.

    Hebb's rule adds rate · y x: with outputs given, the weights become rate · Σ y x; with its own
    outputs they grow without bound.  Oja's rule, rate · y (x − y w), holds them at unit length, and
    on centred rows with its own outputs they turn to the first principal component (Oja, 1982).
    All numbers are traced; vmap over weights for a layer.

    Args:
        weight: Weights to start from; not zero where the neuron makes its own outputs.
        x: Rows of inputs.
        y: The output in each row; None for the neuron's own, y = w · x.
        rate: Step length η.
        rule: A name in `RULES`.
        decay: Step t takes η / (1 + decay · t): with decay > 0 the weights settle.
        passes: How often all rows are seen.

    Raises:
        TypeError: If dtypes differ or are not floating-point.
        ValueError: If shapes do not fit, the rule is unknown, a number is negative, or `x`, `y` or
            `weight` is not finite.

    >>> x = jnp.array([[1.0, 0.0], [1.0, 1.0]])
    >>> hebb(jnp.zeros(2), x, jnp.array([1.0, -1.0]), rate=0.5).tolist()
    [0.0, -0.5]
    >>> long = hebb(jnp.array([1.0, 0.5]), x, rate=0.01, rule="oja", passes=500)
    >>> round(float(jnp.linalg.norm(long)), 2)
    1.0
    """
    where = "neuron.hebb"
    checks.in_table(where, "rule", rule, RULES)
    x = checks.data(where, "x", x)
    weight = checks.floating(where, "weight", weight)
    checks.shape(where, "weight", weight, (x.shape[1],))
    checks.finite(where, "weight", weight)
    checks.same_dtype(where, "weight", weight, "x", x.dtype)
    if y is not None:
        y = checks.floating(where, "y", y)
        checks.shape(where, "y", y, (x.shape[0],))
        checks.finite(where, "y", y)
        checks.same_dtype(where, "y", y, "x", x.dtype)
    for name, number in (("rate", rate), ("decay", decay), ("passes", passes)):
        checks.non_negative(where, name, number)
    return _fold(
        weight,
        x,
        y,
        jnp.asarray(rate, x.dtype),
        jnp.asarray(decay, x.dtype),
        jnp.asarray(passes, jnp.int32),
        rule,
    )
