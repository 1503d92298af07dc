"""Probabilities of classes from a network, and the temperature that makes them honest.

Shapes: n samples, d features, c classes.  Logits are the outputs of a linear last layer.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from jaxnn import checks
from jaxnn.mlp.layers import Params
from jaxnn.mlp.losses import relative
from jaxnn.mlp.tape import Options, run
from jaxnn.types import Data, Scalar, Weights

SPAN = 12.0  # the temperature is sought within e^±12 of the spread of the logits
HALVINGS = 40  # of that interval; a Newton step does the rest


def _two_sided(logits: Float[Array, "n _"]) -> Float[Array, "n _"]:
    """Returns logits of at least two classes: one output is the lead of class 1 over class 0."""
    if logits.shape[1] > 1:
        return logits
    return jnp.concatenate([jnp.zeros_like(logits), logits], axis=1)


def predict_proba(
    params: Params,
    x: Data,
    *,
    temperature: Scalar = 1.0,
    activation: str = "relu",
    keep_prob: Scalar = 1.0,
    convention: str = "inverted",
) -> Float[Array, "n c"]:
    """Returns the probability of each class for rows `x`, in evaluation; rows sum to 1.

    softmax(h / T) of the outputs h; of a single output, as for "sigmoid_cross_entropy", the
    probabilities of the classes 0 and 1.

    Args:
        params: Layers, the last of which gives logits.
        x: Rows.
        temperature: T, positive (traced); `fit_temperature` finds it.
        activation: Of hidden layers.
        keep_prob: Matters to the "classic" convention only.
        convention: Of dropout.

    Raises:
        TypeError, ValueError: What `mlp.apply` raises, and for a temperature that is not positive.
    """
    where = "mlp.predict_proba"
    checks.positive(where, "temperature", temperature)
    checks.shape(where, "temperature", temperature, ())
    options = Options(activation, "identity", keep_prob, convention)
    logits = _two_sided(run(where, params, x, None, options)[0])
    logits = relative(logits) / jnp.asarray(temperature, logits.dtype)
    return jax.nn.softmax(logits, axis=1)


class Temperature(NamedTuple):
    """What calibrates logits.

    Attributes:
        temperature: T, to divide logits by.
        log_loss: the mean -log p of the rows at T (nats).
        bounded: whether there is a best T; False where no temperature is small or large enough
            (every row is right, say, and ever surer is ever better): T is then at the end of
            what was searched.
    """

    temperature: Float[Array, ""]
    log_loss: Float[Array, ""]
    bounded: Bool[Array, ""]


def fit_temperature(
    logits: Float[ArrayLike, "n c"],
    y: Int[ArrayLike, " n"],
    *,
    sample_weight: Weights | None = None,
) -> Temperature:
    """Returns the temperature under which held-out rows are most likely.

    Guo et al. (2017, section 4.2).  The mean loss is convex in 1 / T, so its slope is halved down
    to its only zero.

    Args:
        logits: of rows that the network has not learned from, (n, c); or (n, 1) of two classes.
        y: the classes that came true.
        sample_weight: of the rows.

    Raises:
        TypeError, ValueError: logits that are not finite, labels that are no classes, lengths that
            differ, bad weights.

    >>> logits = 5 * jnp.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    >>> found = fit_temperature(logits, jnp.array([0, 0, 0, 1]))
    >>> [round(float(p), 3) for p in jax.nn.softmax(logits[0] / found.temperature)]
    [0.75, 0.25]
    """
    where = "mlp.fit_temperature"
    h = checks.data(where, "logits", logits)
    checks.precise(where, "logits", h)
    n, c = h.shape
    y = checks.labels(where, "y", y, n, max(c, 2))
    weight = jnp.ones(n, h.dtype)
    if sample_weight is not None:
        weight = checks.weights(where, "sample_weight", sample_weight, n).astype(h.dtype)
    return _fit_temperature(_two_sided(h), y, weight)


@jax.jit
def _fit_temperature(
    logits: Float[Array, "n c"], y: Int[Array, " n"], weight: Float[Array, " n"]
) -> Temperature:
    share = weight / jnp.sum(weight)
    own = jnp.take_along_axis(logits, y[:, None], axis=1, mode="fill", fill_value=jnp.nan)
    lead = logits - own  # over the class that came true
    spread = jax.lax.stop_gradient(jnp.sqrt(jnp.mean(jnp.square(lead))))
    unit = jnp.where(spread > 0, spread, 1)
    lead = lead / unit

    def slope(inverse: Float[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The first and second derivative of the mean loss in 1 / T."""
        p = jax.nn.softmax(inverse * lead, axis=1)
        mean = jnp.sum(p * lead, axis=1)
        variance = jnp.sum(p * jnp.square(lead - mean[:, None]), axis=1)
        return jnp.sum(share * mean), jnp.sum(share * variance)

    def halve(_: Int[Array, ""], ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        rises = slope(jnp.exp(middle))[0] > 0
        return jnp.where(rises, low, middle), jnp.where(rises, middle, high)

    ends = (jnp.full((), -SPAN, logits.dtype), jnp.full((), SPAN, logits.dtype))
    bounded = (slope(jnp.exp(ends[0]))[0] < 0) & (slope(jnp.exp(ends[1]))[0] > 0)
    low, high = jax.lax.stop_gradient(jax.lax.fori_loop(0, HALVINGS, halve, ends))
    inverse = jnp.exp((low + high) / 2)
    # One step of Newton, which is also how the zero moves with the logits.
    first, second = slope(inverse)
    second = jax.lax.stop_gradient(second)
    step = jnp.where(bounded, first / jnp.where(second > 0, second, 1), 0)
    inverse = jnp.where(inverse > step, inverse - step, inverse)
    loss = jnp.sum(share * jax.nn.logsumexp(inverse * lead, axis=1))
    return Temperature(unit / inverse, loss, bounded)
