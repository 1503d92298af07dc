"""The layers of a network.

Shapes: n samples, i inputs, o outputs, k pieces.  A layer is a NamedTuple of arrays whose type is
its tag.  It has a `weight` of shape (..., o, i) and a `bias` of shape (..., o) or None, and a few
methods: how it maps its inputs (`linear`), and how a gradient goes back through that map, to the
layer (`gradient`) and to its inputs (`pull`).  A new kind of layer is one such class, added to
`Layer`.  Many equal layers in a row are one `Stack`.
"""

from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

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
    skip = False  # what follows the activation is all that comes out

    def linear(self, h: Inputs) -> tuple[Outputs, None]:
        """Returns the pre-activations of rows `h`, and what the way back needs besides `h`."""
        return self.along(h, None), None

    def along(self, h: Inputs, memory: Any) -> Outputs:
        """Returns the affine map that `linear` applied, whatever it chose for other weights."""
        del memory
        a = h @ self.weight.T
        return a if self.bias is None else a + self.bias[None, :]

    def gradient(self, h: Inputs, memory: Any, delta: Outputs) -> Any:
        """Returns the gradient with respect to the layer, summed over rows.

        `delta` is the gradient with respect to the pre-activations.  With rows as samples the
        lecture's sum of outer products δ hᵀ is δᵀ h.
        """
        del memory
        bias = None if self.bias is None else jnp.sum(delta, axis=0)
        return self._replace(weight=delta.T @ h, bias=bias)

    def pull(self, memory: Any, delta: Outputs) -> Inputs:
        """Returns the gradient with respect to the rows: the lecture's Wᵀ δ, here δ W."""
        del memory
        return delta @ self.weight


class Residual(NamedTuple):
    """A hidden layer beside which its inputs pass, h -> h + σ(W h + b) (He et al., 2016).

    As wide as its inputs.  Dropout thins what is added, not what passes.

    Attributes:
        weight: W, square.
        bias: b, or None for none.
    """

    weight: Float[Array, "o o"]
    bias: Float[Array, " o"] | None

    axes = 2
    nonlinear = False
    skip = True

    linear = Dense.linear
    along = Dense.along
    gradient = Dense.gradient
    pull = Dense.pull


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
    skip = False

    def _pieces(self, h: Inputs) -> Float[Array, "k n o"]:
        a = jnp.einsum("ni,koi->kno", h, self.weight)
        return a if self.bias is None else a + self.bias[:, None, :]

    def linear(self, h: Inputs) -> tuple[Outputs, Bool[Array, "k n o"]]:
        """Returns the largest piece for rows `h`, and which piece that was."""
        a = self._pieces(h)
        pieces = jnp.arange(a.shape[0])[:, None, None]
        won = pieces == jnp.argmax(a, axis=0)[None, :, :]
        # Not `max`, whose gradient is shared by ties: jax.grad must agree with `gradient`.
        return jnp.sum(jnp.where(won, a, 0), axis=0), won

    def along(self, h: Inputs, memory: Any) -> Outputs:
        """Returns, for rows `h`, the pieces that had won when `linear` returned `memory`."""
        return jnp.sum(jnp.where(memory, self._pieces(h), 0), axis=0)

    def gradient(self, h: Inputs, memory: Any, delta: Outputs) -> "Maxout":
        """Returns the gradient with respect to the layer; `memory` says which piece won."""
        deltas = jnp.where(memory, delta[None, :, :], 0)
        bias = None if self.bias is None else jnp.sum(deltas, axis=1)
        return Maxout(weight=jnp.einsum("kno,ni->koi", deltas, h), bias=bias)

    def pull(self, memory: Any, delta: Outputs) -> Inputs:
        """Returns the gradient with respect to the rows, through the pieces that won."""
        deltas = jnp.where(memory, delta[None, :, :], 0)
        return jnp.einsum("kno,koi->ni", deltas, self.weight)


Layer: TypeAlias = Dense | Maxout | Residual


class Stack(NamedTuple):
    """Many hidden layers of one kind, size and dtype in a row, compiled as one loop.

    The same network as its layers one by one, with the same dropout; compilation takes as long
    for a thousand of them as for one.  `mlp.stack` and `mlp.unstack` go back and forth.

    Attributes:
        layers: One `Dense`, `Residual` or `Maxout`, each of its arrays with a leading axis of
            layers, first to last.
    """

    layers: Layer

    @property
    def weight(self) -> Float[Array, "l ..."]:
        """The weights of all layers, along a leading axis."""
        return self.layers.weight

    @property
    def bias(self) -> Float[Array, "l ..."] | None:
        """The biases of all layers, along a leading axis, or None for none."""
        return self.layers.bias


Params: TypeAlias = tuple[Layer | Stack, ...]
