"""Dropout: between layers, or on the rows that go in (Srivastava et al., 2014)."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxnn import checks, draws
from jaxnn.types import Key, Scalar


class Convention(NamedTuple):
    """How the scale of a layer with dropout is kept, as factors in the keep probability p."""

    training: Callable[[Array], Array]
    evaluation: Callable[[Array], Array]


CONVENTIONS: dict[str, Convention] = {
    "inverted": Convention(training=jnp.reciprocal, evaluation=jnp.ones_like),
    "classic": Convention(training=jnp.ones_like, evaluation=lambda p: p),
}
"""Name -> `Convention`.

| name | kept units in training | all units at evaluation |
|---|---|---|
| inverted | divided by p | as they are |
| classic | as they are | times p, which is the lecture's "weights times p" one layer on |
"""


def check_dropout(
    where: str, key: Key | None, keep_prob: Scalar, convention: str, name: str = "keep_prob"
) -> None:
    """Raises unless the options of dropout make sense."""
    checks.in_table(where, "convention", convention, CONVENTIONS)
    checks.probability(where, name, keep_prob)
    checks.shape(where, name, jnp.asarray(keep_prob), ())
    if key is not None:
        checks.key(where, key)


def dropout_scale(
    key: Key | None, keep_prob: Scalar, convention: str, dtype: jnp.dtype
) -> Float[Array, ""] | None:
    """Returns the factor on the units that are left, or None where there is no dropout at all."""
    # A Python 1 is known before compilation, so networks without dropout draw no random numbers.
    if isinstance(keep_prob, int | float) and keep_prob == 1:
        return None
    rule = CONVENTIONS[convention]
    return (rule.evaluation if key is None else rule.training)(jnp.asarray(keep_prob, dtype))


def dropout_mask(
    key: Key | None, keep_prob: Scalar, shape: tuple[int, ...]
) -> Bool[Array, "..."] | None:
    """Returns which units are kept, or None where all are."""
    if key is None:
        return None
    # Always drawn in float32: the same key gives the same mask in every precision.
    return draws.bernoulli(key, jnp.asarray(keep_prob, jnp.float32), shape)


def thin(
    h: Float[Array, "..."], kept: Bool[Array, "..."] | None, scale: Float[Array, ""] | None
) -> Float[Array, "..."]:
    """Returns `h` times `scale` where `kept`, else zero; linear in `h` and its own transpose."""
    if scale is None:
        return h
    return h * scale if kept is None else jnp.where(kept, h * scale, 0)


def thin_marked(
    h: Float[Array, "..."], kept: Bool[Array, "..."], scale: Float[Array, ""]
) -> tuple[Float[Array, "..."], Bool[Array, "..."]]:
    """Returns what `thin` does, and `kept` again, as can be read off it.

    Dropped entries are -0 and no other is.  Who asks for `kept` later reads it there: XLA would
    rather draw the random numbers again than store them.
    """
    thinned = jnp.where(kept, jnp.where(h == 0, 0.0, h * scale), -0.0).astype(h.dtype)
    return thinned, (thinned != 0) | ~jnp.signbit(thinned)


def dropout(
    key: Key | None,
    h: Float[Array, "..."],
    keep_prob: Scalar,
    convention: str = "inverted",
) -> Float[Array, "..."]:
    """Returns `h` with each entry kept with probability `keep_prob`, else zero.

    Srivastava et al. (2014); the lecture's p is `keep_prob`, not the rate at which units go.

    Args:
        key: A PRNG key in training; None means evaluation, in which nothing is dropped.
        h: Outputs of a layer, any shape.
        keep_prob: In (0, 1].  Traced: another value needs no compilation.  The Python number 1
            means no dropout, and draws nothing.
        convention: "inverted" (kept entries are divided by `keep_prob` in training) or "classic"
            (all entries are multiplied by `keep_prob` at evaluation).

    Returns:
        An array like `h`.

    Raises:
        TypeError: If `h` is not floating-point or `key` is no key.
        ValueError: If `keep_prob` is outside (0, 1] or the convention is unknown.

    >>> import jax
    >>> h = jnp.ones((1, 4))
    >>> dropout(None, h, 0.5, "classic").tolist()
    [[0.5, 0.5, 0.5, 0.5]]
    >>> sorted(set(dropout(jax.random.key(0), jnp.ones((9, 9)), 0.5).ravel().tolist()))
    [0.0, 2.0]
    """
    where = "mlp.dropout"
    check_dropout(where, key, keep_prob, convention)
    array = checks.floating(where, "h", h)
    checks.finite(where, "h", array)
    scale = dropout_scale(key, keep_prob, convention, array.dtype)
    kept = None if scale is None else dropout_mask(key, keep_prob, array.shape)
    return thin(array, kept, scale)
