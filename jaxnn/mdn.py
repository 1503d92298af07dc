"""Mixture density networks: a network whose output is a Gaussian mixture (Bishop, 1994).

p(y | x) = Σ_k w_k(x) N(y | m_k(x), Σ_k(x)).  The network's outputs are added to the unconstrained
coordinates of a mixture, their `bias`, so whatever they are, the sum is a mixture of its family.
Shapes: n rows, i inputs x, d targets y, k components.  Densities are nats per unit of y to the
power d.

Standard deviations (of full and tied covariances: the diagonals of Cholesky factors) are kept
above `floor` and below e⁴⁰, in units of y, so that float32 stays finite where a component
collapses onto one row: standardise the targets, or give a floor that suits their units.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxnn import checks, gmm, mlp
from jaxnn.types import Key, Scalar, ValueAndGrad

__all__ = ["MDN", "init", "log_prob", "mixture", "sample", "value_and_grad"]

Inputs = Float[ArrayLike, "n i"]
Targets = Float[ArrayLike, "n d"]
HIGHEST = 40.0  # of the logarithms of standard deviations: their squares stay within float32
# The family of a mixture by the axes of its scales, and whether there is more than scales.
FAMILIES = {
    (2, True): "full",
    (1, True): "tied",
    (2, False): "diag",
    (1, False): "spherical",
}


class MDN(NamedTuple):
    """A network and the mixture that its outputs are added to.

    Attributes:
        layers: as `mlp` has them, with one output for each free number of the mixture; the last
            one has no bias of its own.
        bias: of the last layer: a mixture as free numbers, learned like everything else.
    """

    layers: mlp.Params
    bias: gmm.Unconstrained


def _family(where: str, bias: gmm.Unconstrained) -> str:
    """Returns the name of the family, which is in the shapes of its numbers."""
    kind = (getattr(bias.log_scale, "ndim", 0), bias.rest is not None)
    if kind not in FAMILIES:
        raise ValueError(f"{where}: the mixture must be {', '.join(FAMILIES.values())}")
    return FAMILIES[kind]


def _free(bias: gmm.Unconstrained) -> gmm.Unconstrained:
    """Returns the numbers of a mixture that mean something: of triangles, what is below."""
    if bias.rest is None:
        return bias
    d = bias.rest.shape[-1]
    below = jnp.tril_indices(d, -1)
    return bias._replace(rest=bias.rest[..., below[0], below[1]])


def _moved(bias: gmm.Unconstrained, by: Float[Array, " o"], floor: Scalar) -> gmm.GMM:
    """Returns the mixture that is `by` away from `bias`."""
    free, rebuild = ravel_pytree(_free(bias))
    moved = rebuild(free + by)
    low = 2 * jnp.log(jnp.asarray(floor, by.dtype))
    log_scale = jnp.logaddexp(2 * jnp.minimum(moved.log_scale, HIGHEST), low) / 2
    rest = moved.rest
    if bias.rest is not None:
        below = jnp.tril_indices(bias.rest.shape[-1], -1)
        rest = jnp.zeros_like(bias.rest).at[..., below[0], below[1]].set(rest)
    moved = moved._replace(log_scale=log_scale, rest=rest)
    return gmm.constrain(moved, family=_family("mdn", bias))


def init(
    key: Key,
    mixture: gmm.GMM,
    inputs: int,
    hidden: Sequence[int] = (32,),
    *,
    activation: str = "tanh",
    bias: bool = True,
) -> MDN:
    """Returns a network that begins near one and the same mixture for every x.

    Args:
        key: draws the weights.
        mixture: the targets' own, such as `gmm.fit` finds without looking at x: full, tied, diag
            or spherical.  Its family and its number of components stay.
        inputs: how many columns x has.
        hidden: widths of the hidden layers; none makes a linear model.
        activation: of the hidden layers, a name in `mlp.ACTIVATIONS`.
        bias: whether hidden layers have one.

    Raises:
        TypeError, ValueError: no mixture or one of another family, a bad key, a bad width.

    >>> targets = gmm.from_covariances(jnp.ones(1), jnp.zeros((1, 1)), jnp.ones((1, 1, 1)))
    >>> params = init(jax.random.key(0), targets, 3, (8,))
    >>> [layer.weight.shape for layer in params.layers]
    [(8, 3), (3, 8)]
    """
    where = "mdn.init"
    checks.key(where, key)
    start = gmm.unconstrain(mixture)
    _family(where, start)
    widths = [checks.count(where, f"hidden[{i}]", width) for i, width in enumerate(hidden)]
    outputs = sum(leaf.size for leaf in jax.tree.leaves(_free(start)))
    sizes = (checks.count(where, "inputs", inputs), *widths, outputs)
    layers = mlp.init(key, sizes, activation=activation, bias=bias, dtype=start.means.dtype)
    # A tenth of the usual size: the mixture of the targets still shows through.
    last = mlp.Dense(weight=layers[-1].weight * 0.1, bias=None)
    return MDN(layers=(*layers[:-1], last), bias=start)


def _check(where: str, params: MDN, x: Inputs, floor: Scalar) -> Array:
    """Returns the rows of x; raises unless network and mixture fit together."""
    checks.instance(where, "params", params, MDN)
    checks.instance(where, "params.bias", params.bias, gmm.Unconstrained)
    checks.positive(where, "floor", floor)
    checks.shape(where, "floor", floor, ())
    family = _family(where, params.bias)
    gmm.constrain(params.bias, family=family)  # its shapes are those of the family
    numbers = sum(leaf.size for leaf in jax.tree.leaves(_free(params.bias)))
    if not isinstance(params.layers, tuple) or not params.layers:
        raise TypeError(f"{where}: params.layers must be a tuple of layers, got {params.layers!r}")
    checks.shape(where, "the weight of the last layer", params.layers[-1].weight, (numbers, None))
    rows = checks.data(where, "x", x, params.layers[0].weight.shape[-1])
    checks.same_dtype(where, "x", rows, "params", params.bias.means.dtype)
    return rows


def _mixtures(
    where: str,
    params: MDN,
    x: Inputs,
    activation: str,
    floor: Scalar,
    keep_prob: Scalar = 1.0,
    key: Key | None = None,
) -> gmm.GMM:
    checks.in_table(where, "activation", activation, mlp.ACTIVATIONS)
    rows = _check(where, params, x, floor)
    outputs = mlp.apply(params.layers, rows, activation=activation, keep_prob=keep_prob, key=key)
    return jax.vmap(lambda by: _moved(params.bias, by, floor))(outputs)


def mixture(params: MDN, x: Inputs, *, activation: str = "tanh", floor: Scalar = 1e-3) -> gmm.GMM:
    """Returns p(y | x) for each row of x: a batch of mixtures, with a leading axis on every leaf.

    `jax.vmap` takes it to all that `gmm` has: `vmap(gmm.mean)`, `vmap(gmm.modes)`, and so on.

    Args:
        params: as `init` returns them or a trainer leaves them.
        x: rows of shape (n, i), of the dtype of the parameters.
        activation: the one that `init` was given.
        floor: the least standard deviation, in units of y (traced).

    Raises:
        TypeError, ValueError: parameters that do not fit together, bad rows, an unknown name, a
            floor that is not positive.
    """
    return _mixtures("mdn.mixture", params, x, activation, floor)


def _density(where: str, mixtures: gmm.GMM, y: Targets) -> Float[Array, " n"]:
    n, _, d = mixtures.means.shape
    rows = checks.data(where, "y", y, d)
    checks.shape(where, "y", rows, (n, d))
    checks.same_dtype(where, "y", rows, "params", mixtures.means.dtype)
    return jax.vmap(lambda one, row: gmm.log_prob(one, row[None])[0])(mixtures, rows)


def log_prob(
    params: MDN, x: Inputs, y: Targets, *, activation: str = "tanh", floor: Scalar = 1e-3
) -> Float[Array, " n"]:
    """Returns log p(y | x) for each row of x and the row of y beside it (nats).

    Arguments and errors are those of `mixture`; y has shape (n, d).
    """
    where = "mdn.log_prob"
    return _density(where, _mixtures(where, params, x, activation, floor), y)


def value_and_grad(
    *, activation: str = "tanh", floor: Scalar = 1e-3, keep_prob: Scalar = 1.0
) -> ValueAndGrad:
    """Returns −log p(y | x) averaged over rows, and its gradient: what a trainer descends.

    Args:
        activation: the one that `init` was given.
        floor: the least standard deviation, in units of y (traced).
        keep_prob: of hidden units in training, as in `mlp` (traced).

    Returns:
        `(params, batch, key) -> (value, gradient)`; `batch` has the fields `x` (n, i), `y` (n, d)
        and `weight`, (n,) or None for ones.  `key` None means no dropout.

    Raises:
        ValueError: an unknown activation, a floor that is not positive; from the returned function
            what `log_prob` raises, and if the weights do not fit.
    """
    where = "mdn.value_and_grad"
    checks.in_table(where, "activation", activation, mlp.ACTIVATIONS)
    checks.positive(where, "floor", floor)
    checks.probability(where, "keep_prob", keep_prob)

    def value(params: MDN, batch: Any, key: Key | None) -> Float[Array, ""]:
        mixtures = _mixtures(where, params, batch.x, activation, floor, keep_prob, key)
        density = _density(where, mixtures, batch.y)
        if batch.weight is None:
            return -jnp.mean(density)
        weight = checks.weights(where, "weight", batch.weight, density.shape[0])
        weight = weight.astype(density.dtype)
        total = jnp.sum(weight)
        return -jnp.sum(weight * density) / jnp.where(total > 0, total, 1)

    return jax.value_and_grad(value)


def sample(
    key: Key, params: MDN, x: Inputs, n: int, *, activation: str = "tanh", floor: Scalar = 1e-3
) -> Float[Array, "n s d"]:
    """Returns `n` independent draws from p(y | x) for each of the m rows of x.

    Arguments and errors are those of `mixture`.
    """
    where = "mdn.sample"
    checks.key(where, key)
    n = checks.count(where, "n", n)
    mixtures = _mixtures(where, params, x, activation, floor)
    keys = jax.random.split(key, mixtures.means.shape[0])
    return jax.vmap(lambda key, one: gmm.sample(key, one, n))(keys, mixtures)
