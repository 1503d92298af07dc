"""Losses of each row, each with its derivative written by hand.

A loss is one entry of `LOSSES`.  Shapes: n samples, o outputs.  The entropies take logits, so that
they stay finite where a probability would be 0 or 1; the last layer is then linear.  At a kink the
derivative is 0, one choice of subgradient.  What a loss takes as targets is in `targets`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxnn import checks
from jaxnn.mlp import targets as doors
from jaxnn.mlp.targets import Outputs
from jaxnn.types import Scalar

Rows = Float[Array, " n"]


class Loss(NamedTuple):
    """One loss l(y, h) of outputs h and targets y.

    Attributes:
        value: `(outputs, targets) -> (n,)`, the loss of each row.
        gradient: `(outputs, targets) -> (n, o)`, the derivative of each row's loss with respect
            to that row's outputs.
        targets: `(where, y, outputs) -> targets`, the door: checks y against the outputs (dtype
            and shape always, values when they are concrete) and returns what `value` and
            `gradient` take.
        numbers: The names of numbers that `value` and `gradient` take by keyword, with defaults,
            each with the check of it, `(where, name, number)`; `loss` sets them.
        classes: `(targets, outputs) -> (n, c)`, the share of each class in each row; None for a
            loss without classes.
        class_weight: (c,), by which rows are weighed besides their own weight; None for ones.
    """

    value: Callable[..., Rows]
    gradient: Callable[..., Outputs]
    targets: Callable[[str, ArrayLike, Outputs], Array]
    numbers: Mapping[str, Callable[[str, str, Any], None]] = {}
    classes: Callable[[Array, Outputs], Float[Array, "n c"]] | None = None
    class_weight: Float[Array, " c"] | None = None


def _fraction(where: str, name: str, x: Any) -> None:
    checks.non_negative(where, name, x)
    if checks.concrete(x) and not checks.holds(lambda: jnp.less(x, 1)):
        raise ValueError(f"{where}: {name} must be in [0, 1), got {x}")


def _squared(outputs: Outputs, targets: Outputs) -> Rows:
    return jnp.sum(jnp.square(outputs - targets), axis=1)


def _squared_gradient(outputs: Outputs, targets: Outputs) -> Outputs:
    return 2 * (outputs - targets)


def _absolute(outputs: Outputs, targets: Outputs) -> Rows:
    error = outputs - targets
    return jnp.sum(error * jnp.sign(error), axis=1)  # not `abs`, whose derivative at 0 is 1 in JAX


def _absolute_gradient(outputs: Outputs, targets: Outputs) -> Outputs:
    return jnp.sign(outputs - targets)


def _huber(outputs: Outputs, targets: Outputs, delta: Scalar = 1.0) -> Rows:
    error = outputs - targets
    bounded = jnp.clip(error, jnp.negative(delta), delta)
    return jnp.sum(bounded * (error - bounded / 2), axis=1)


def _huber_gradient(outputs: Outputs, targets: Outputs, delta: Scalar = 1.0) -> Outputs:
    return jnp.clip(outputs - targets, jnp.negative(delta), delta)


def _smooth(soft: Float[Array, "n c"], smoothing: Scalar, c: int) -> Float[Array, "n c"]:
    """Returns probabilities mixed with a share of the uniform ones (Szegedy et al., 2016)."""
    if isinstance(smoothing, int | float) and smoothing == 0:
        return soft
    return soft + smoothing * (1 / c - soft)


def relative(logits: Outputs) -> Outputs:
    """Returns the logits of each row less the largest; a row of -inf alone becomes zeros."""
    most = jax.lax.stop_gradient(jnp.max(logits, axis=1, keepdims=True))
    return jnp.where(most == -jnp.inf, 0, logits - most)


def _softmax_cross_entropy(outputs: Outputs, targets: Array, smoothing: Scalar = 0.0) -> Rows:
    soft = _smooth(doors.soft(targets, outputs), smoothing, outputs.shape[1])
    logits = relative(outputs)
    log_total = jnp.log(jnp.sum(jnp.exp(logits), axis=1))
    own = jnp.sum(jnp.where(soft == 0, 0, soft * logits), axis=1)
    loss = log_total * jnp.sum(soft, axis=1) - own
    return jnp.where(jnp.all(outputs == -jnp.inf, axis=1), jnp.inf, loss)


def _softmax_cross_entropy_gradient(
    outputs: Outputs, targets: Array, smoothing: Scalar = 0.0
) -> Outputs:
    soft = _smooth(doors.soft(targets, outputs), smoothing, outputs.shape[1])
    slope = jax.nn.softmax(relative(outputs), axis=1) * jnp.sum(soft, axis=1, keepdims=True) - soft
    return jnp.where(jnp.all(outputs == -jnp.inf, axis=1, keepdims=True), 0, slope)


def _sigmoid_cross_entropy(outputs: Outputs, targets: Outputs, smoothing: Scalar = 0.0) -> Rows:
    targets = _smooth(targets, smoothing, 2)
    # softplus(h) - y h would be shorter, and lose everything to cancellation at y = 1, h large.
    wrong = targets * jax.nn.softplus(-outputs) + (1 - targets) * jax.nn.softplus(outputs)
    return jnp.sum(wrong, axis=1)


def _sigmoid_cross_entropy_gradient(
    outputs: Outputs, targets: Outputs, smoothing: Scalar = 0.0
) -> Outputs:
    return jax.nn.sigmoid(outputs) - _smooth(targets, smoothing, 2)


def _two_classes(targets: Array, outputs: Outputs) -> Float[Array, "n 2"]:
    """Returns the shares of 0 and 1 in the rows of a single output."""
    if outputs.shape[1] != 1:
        raise ValueError(
            "mlp.loss: class_weight of sigmoid_cross_entropy needs a single output, whose classes "
            f"are 0 and 1, got {outputs.shape[1]}; weigh the rows instead"
        )
    return jnp.concatenate([1 - targets, targets], axis=1)


def _hinge_classes(targets: Array, outputs: Outputs) -> Float[Array, "n c"]:
    return doors.soft(targets, outputs, max(2, outputs.shape[1]))


def _duel(outputs: Outputs, targets: Array) -> tuple[Rows, Outputs]:
    """Returns how far the best other class leads, and the derivative of that."""
    hot = _hinge_classes(targets, outputs)
    if outputs.shape[1] == 1:  # one output is the lead of class 1 over class 0
        side = hot[:, :1] - hot[:, 1:]
        return jnp.sum(side * outputs, axis=1), side
    others = jnp.where(hot > 0, -jnp.inf, outputs)
    rival = jax.nn.one_hot(jnp.argmax(others, axis=1), outputs.shape[1], dtype=outputs.dtype)
    slope = rival - hot
    return jnp.sum(slope * outputs, axis=1), slope


def _hinge(outputs: Outputs, targets: Array, margin: Scalar = 1.0) -> Rows:
    gap = _duel(outputs, targets)[0] + margin
    return jnp.where(gap <= 0, 0, gap)  # NaN stays


def _hinge_gradient(outputs: Outputs, targets: Array, margin: Scalar = 1.0) -> Outputs:
    lead, slope = _duel(outputs, targets)
    return jnp.where(lead[:, None] + margin <= 0, 0, slope)


def _poisson(outputs: Outputs, targets: Outputs) -> Rows:
    nats = jnp.exp(outputs) - targets * outputs + gammaln(targets + 1)
    return jnp.sum(nats, axis=1)


def _poisson_gradient(outputs: Outputs, targets: Outputs) -> Outputs:
    return jnp.exp(outputs) - targets


def _gaussian_parts(
    outputs: Outputs, targets: Float[Array, "n q"], floor: Scalar
) -> tuple[Array, Array, Array]:
    """Returns errors in standard deviations, log-variances and their excess over the floor's."""
    mean, log_variance = jnp.split(outputs, 2, axis=1)
    lowest = 2 * jnp.log(floor)
    excess = log_variance - lowest
    log_variance = lowest + jax.nn.softplus(excess)
    return (mean - targets) * jnp.exp(-log_variance / 2), log_variance, excess


def _gaussian(outputs: Outputs, targets: Float[Array, "n q"], floor: Scalar = 1e-3) -> Rows:
    z, log_variance, _ = _gaussian_parts(outputs, targets, floor)
    return jnp.sum(jnp.log(2 * jnp.pi) + log_variance + jnp.square(z), axis=1) / 2


def _gaussian_gradient(
    outputs: Outputs, targets: Float[Array, "n q"], floor: Scalar = 1e-3
) -> Outputs:
    z, log_variance, excess = _gaussian_parts(outputs, targets, floor)
    of_log_variance = (1 - jnp.square(z)) / 2 * jax.nn.sigmoid(excess)
    return jnp.concatenate([z * jnp.exp(-log_variance / 2), of_log_variance], axis=1)


LOSSES: dict[str, Loss] = {
    "squared": Loss(_squared, _squared_gradient, doors.real),
    "absolute": Loss(_absolute, _absolute_gradient, doors.real),
    "huber": Loss(_huber, _huber_gradient, doors.real, {"delta": checks.positive}),
    "softmax_cross_entropy": Loss(
        _softmax_cross_entropy,
        _softmax_cross_entropy_gradient,
        doors.classes,
        {"smoothing": _fraction},
        doors.soft,
    ),
    "sigmoid_cross_entropy": Loss(
        _sigmoid_cross_entropy,
        _sigmoid_cross_entropy_gradient,
        doors.unit,
        {"smoothing": _fraction},
        _two_classes,
    ),
    "hinge": Loss(
        _hinge, _hinge_gradient, doors.labels, {"margin": checks.positive}, _hinge_classes
    ),
    "poisson": Loss(_poisson, _poisson_gradient, doors.counts),
    "gaussian": Loss(_gaussian, _gaussian_gradient, doors.half, {"floor": checks.positive}),
}
"""Name -> `Loss`.

| name | loss of a row | targets |
|---|---|---|
| squared | ‖y - h‖², summed over outputs, no half (the lecture's) | real, (n, o) |
| absolute | Σ abs(y - h) | real, (n, o) |
| huber | Σ e²/2 up to abs(e) = `delta` (1), then delta (abs(e) - delta/2) | real, (n, o) |
| softmax_cross_entropy | -Σ_c y_c log softmax(h)_c, nats | labels (n,), or (n, o) summing to 1 |
| sigmoid_cross_entropy | -Σ_c y_c log s(h_c) + (1 - y_c) log s(-h_c), nats | in [0, 1], (n, o) |
| hinge | max(0, `margin` + max_{c≠y} h_c - h_y), margin 1 | labels (n,) |
| poisson | Σ exp(h) - y h + log Γ(y + 1), nats; h is the logarithm of the rate | counts, (n, o) |
| gaussian | -Σ log N(y; m, v), nats; h = (m, s), v = exp(s) + `floor`² | real, (n, o/2) |

Both entropies take `smoothing` (0): targets are mixed with that share of the uniform distribution,
over the o classes or, of a sigmoid, over 0 and 1 (Szegedy et al., 2016, section 7).  Of a softmax,
a logit of -inf rules its class out: where it occurs the loss is infinite.  Huber's loss is that of
1964, the hinge that of Crammer and Singer (2001); with a single output h it is
max(0, margin - (2y - 1) h) for labels 0 and 1.  The Gaussian is that of Nix and Weigend (1994):
its outputs are q means, then q logarithms of variances, and its floor, 1e-3 of the targets' units,
bounds the price of an output that is too sure: standardise them.
"""


def _bind(f: Callable[..., Array], numbers: dict[str, Scalar]) -> Callable[[Array, Array], Array]:
    """Returns `f` with its numbers, each in the dtype of the outputs."""

    def bound(outputs: Outputs, targets: Array) -> Array:
        given = {name: jnp.asarray(number, outputs.dtype) for name, number in numbers.items()}
        return f(outputs, targets, **given)

    return bound


def loss(
    name: str, *, class_weight: Float[ArrayLike, " c"] | None = None, **numbers: Scalar
) -> Loss:
    """Returns the loss of that name with numbers of your own, wherever a name is taken.

    Args:
        name: An entry of `LOSSES`.
        class_weight: (c,), by which the weight of each row is multiplied, so that the mean stays
            one of rows: that of its class, or the mean over its soft label.  `balanced` makes
            them.  Of the losses with classes only; a sigmoid with one output has 0 and 1.
        **numbers: `delta`, `smoothing`, `margin` or `floor`, of the losses that have them.  All
            may be traced, as hyperparameters in a sweep are.

    Raises:
        ValueError: An unknown name, a number outside its range, weights that are negative, or
            class weights for a loss without classes.
        TypeError: A number that this loss does not have, or one that is none.

    >>> robust = loss("huber", delta=0.5)
    >>> robust.value(jnp.array([[2.0]]), jnp.array([[0.0]])).tolist()
    [0.875]
    """
    where = "mlp.loss"
    checks.in_table(where, "loss", name, LOSSES)
    entry = LOSSES[name]
    for option, number in numbers.items():
        if option not in entry.numbers:
            known = ", ".join(entry.numbers) or "no numbers"
            raise TypeError(f"{where}: {name} takes {known}, got {option}")
        entry.numbers[option](where, option, number)
        checks.shape(where, option, number, ())
    if class_weight is not None:
        if entry.classes is None:
            raise ValueError(f"{where}: {name} has no classes that class_weight could weigh")
        weight = checks.floating(where, "class_weight", class_weight)
        class_weight = checks.weights(where, "class_weight", weight, weight.size)
    if numbers:
        entry = entry._replace(
            value=_bind(entry.value, numbers), gradient=_bind(entry.gradient, numbers)
        )
    return entry._replace(class_weight=class_weight)


def loss_of(where: str, given: str | Loss) -> Loss:
    """Returns the loss of that name, or `given` itself if it is one."""
    if isinstance(given, Loss):
        return given
    checks.in_table(where, "loss", given, LOSSES)
    return LOSSES[given]
