"""The layers of a network, and dropout between them.

Shapes: n samples, i inputs, o outputs, k pieces.  A layer is a NamedTuple of arrays whose type is
its tag.  It has a `weight` of shape (..., o, i) and a `bias` of shape (..., o) or None, and says
how it maps its inputs (`linear`) and how it takes a gradient back through that map (`pullback`).
A new kind of layer is one such class, added to `Layer`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxnn import checks
from jaxnn.types import Key, Scalar

Inputs = Float[Array, "n i"]
Outputs = Float[Array, "n o"]


class Dense(NamedTuple):
    """An affine map, h -> W h + b for every row h; the activation follows outside.

    Attributes:
        weight: W, with as many rows as outputs, as in the lecture.
        bias: b, or None for none.
    """

    weight: Float[Array, "o i"]
    bias: Float[Array, " o"] | None

    axes = 2  # of the weight
    nonlinear = False  # needs an activation behind it

    def linear(self, h: Inputs) -> tuple[Outputs, None]:
        """Returns the pre-activations of rows `h`, and what `pullback` needs besides `h`."""
        a = h @ self.weight.T
        return (a if self.bias is None else a + self.bias[None, :]), None

    def pullback(self, h: Inputs, memory: Any, delta: Outputs) -> tuple["Dense", Inputs]:
        """Returns the gradients with respect to the layer and to its inputs `h`.

        `delta` is the gradient with respect to the pre-activations.  With rows as samples the
        lecture's sum of outer products δ hᵀ is δᵀ h, and its Wᵀ δ is δ W.
        """
        del memory
        bias = None if self.bias is None else jnp.sum(delta, axis=0)
        return Dense(weight=delta.T @ h, bias=bias), delta @ self.weight


class Maxout(NamedTuple):
    """The largest of k affine maps, h -> max_j (W_j h + b_j) (Goodfellow et al., 2013).

    The maximum is the nonlinearity, so the activation behind a hidden maxout layer is "identity".
    Where pieces tie, the gradient goes to the first of them.

    Attributes:
        weight: W_j, piece by piece.
        bias: b_j, piece by piece, or None for none.
    """

    weight: Float[Array, "k o i"]
    bias: Float[Array, "k o"] | None

    axes = 3
    nonlinear = True

    def linear(self, h: Inputs) -> tuple[Outputs, Bool[Array, "k n o"]]:
        """Returns the largest piece for rows `h`, and which piece that was."""
        a = jnp.einsum("ni,koi->kno", h, self.weight)
        if self.bias is not None:
            a += self.bias[:, None, :]
        pieces = jnp.arange(a.shape[0])[:, None, None]
        won = pieces == jnp.argmax(a, axis=0)[None, :, :]
        # Not `max`, whose gradient is shared by ties: jax.grad must agree with `pullback`.
        return jnp.sum(jnp.where(won, a, 0), axis=0), won

    def pullback(self, h: Inputs, memory: Any, delta: Outputs) -> tuple["Maxout", Inputs]:
        """Returns the gradients with respect to the layer and to its inputs `h`.

        `memory` says which piece won, as `linear` returned it.
        """
        deltas = jnp.where(memory, delta[None, :, :], 0)
        weight = jnp.einsum("kno,ni->koi", deltas, h)
        bias = None if self.bias is None else jnp.sum(deltas, axis=1)
        return Maxout(weight=weight, bias=bias), jnp.einsum("kno,koi->ni", deltas, self.weight)


Layer: TypeAlias = Dense | Maxout
Params: TypeAlias = tuple[Layer, ...]


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


def check_dropout(where: str, key: Key | None, keep_prob: Scalar, convention: str) -> None:
    """Raises unless the options of dropout make sense."""
    checks.in_table(where, "convention", convention, CONVENTIONS)
    checks.probability(where, "keep_prob", keep_prob)
    checks.shape(where, "keep_prob", jnp.asarray(keep_prob), ())
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
    return jax.random.bernoulli(key, jnp.asarray(keep_prob, jnp.float32), shape)


def thin(
    h: Float[Array, "..."], kept: Bool[Array, "..."] | None, scale: Float[Array, ""] | None
) -> Float[Array, "..."]:
    """Returns `h` times `scale` where `kept`, else zero; linear in `h` and its own transpose."""
    if scale is None:
        return h
    return h * scale if kept is None else jnp.where(kept, h * scale, 0)


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
