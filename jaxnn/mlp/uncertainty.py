"""How sure networks are: many outputs for the same rows, and what their disagreement says.

Shapes: m members (networks of an ensemble, or draws of dropout), n samples, d features, o outputs.
`ensemble_outputs` and `dropout_outputs` give the outputs of all members; `class_uncertainty` and
`value_uncertainty` take them apart into what is noise and what is not known.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.special import entr
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxnn import checks
from jaxnn.mlp.layers import Params
from jaxnn.mlp.model import apply
from jaxnn.mlp.thinning import check_dropout
from jaxnn.types import Data, Key, Scalar

Members = Float[ArrayLike, "m n o"]


def ensemble_outputs(
    params: Params,
    x: Data,
    *,
    activation: str = "relu",
    output_activation: str = "identity",
    keep_prob: Scalar = 1.0,
    convention: str = "inverted",
) -> Float[Array, "m n o"]:
    """Returns the outputs of every network of an ensemble (Lakshminarayanan et al., 2017).

    Args:
        params: Layers with a leading axis of members on every leaf, as `vmap` returns them.
        x: Rows, the same for all.
        activation: Of hidden layers.
        output_activation: Of the last layer.
        keep_prob: Matters to the "classic" convention only.
        convention: Of dropout.

    Raises:
        ValueError: Leaves that differ in their leading axis; and what `mlp.apply` raises.
        TypeError: What `mlp.apply` raises.
    """
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(params)}
    if len(sizes) != 1 or sizes == {()} or sizes == {(0,)}:
        raise ValueError(
            "mlp.ensemble_outputs: params must have the same leading axis of members on every "
            f"leaf, got leading axes {sorted(sizes)}"
        )

    def outputs(member: Params) -> Float[Array, "n o"]:
        return apply(
            member,
            x,
            activation=activation,
            output_activation=output_activation,
            keep_prob=keep_prob,
            convention=convention,
        )

    return jax.vmap(outputs)(params)


def dropout_outputs(
    key: Key,
    params: Params,
    x: Data,
    members: int,
    *,
    keep_prob: Scalar,
    activation: str = "relu",
    output_activation: str = "identity",
    convention: str = "inverted",
) -> Float[Array, "m n o"]:
    """Returns the outputs of one network under `members` draws of dropout.

    Monte-Carlo dropout (Gal and Ghahramani, 2016): draws from an approximate posterior.

    Args:
        key: Draws the units that are kept; member j uses the j-th of `split(key, members)`.
        params: Layers, trained with the same dropout.
        x: Rows, of which all see the same member but not the same units.
        members: m, how many draws (static).
        keep_prob: The probability in (0, 1] that a hidden unit is kept (traced).
        activation: Of hidden layers.
        output_activation: Of the last layer.
        convention: Of dropout.

    Raises:
        TypeError, ValueError: A bad number of members; and what `mlp.apply` raises.
    """
    where = "mlp.dropout_outputs"
    checks.key(where, key)
    check_dropout(where, key, keep_prob, convention)
    members = checks.count(where, "members", members)

    def outputs(member: Key) -> Float[Array, "n o"]:
        return apply(
            params,
            x,
            activation=activation,
            output_activation=output_activation,
            keep_prob=keep_prob,
            key=member,
            convention=convention,
        )

    return jax.vmap(outputs)(jax.random.split(key, members))


class ClassUncertainty(NamedTuple):
    """What members say of each row, taken together.

    Attributes:
        probabilities: the mean over members, the prediction.
        entropy: of that mean, the uncertainty as a whole (nats, at most log o).
        expected_entropy: the mean entropy of a member: noise that more data would not remove.
        mutual_information: their difference, not negative: how much the members disagree.
    """

    probabilities: Float[Array, "n o"]
    entropy: Float[Array, " n"]
    expected_entropy: Float[Array, " n"]
    mutual_information: Float[Array, " n"]


def _outputs(where: str, name: str, outputs: Members) -> Float[Array, "m n o"]:
    array = checks.floating(where, name, outputs)
    checks.shape(where, name, array, (None, None, None))
    if 0 in array.shape:
        raise ValueError(f"{where}: {name} must not be empty, got shape {array.shape}")
    checks.finite(where, name, array)
    return array


def class_uncertainty(logits: Members, *, temperature: Scalar = 1.0) -> ClassUncertainty:
    """Returns the predictive distribution of members over classes, and how unsure it is.

    Depeweg et al. (2018, eq. 4); the mutual information is that of Houlsby et al. (2011).

    Args:
        logits: Outputs of members, (m, n, o); of a single output, the classes are 0 and 1.
        temperature: To divide the logits by, positive (traced).

    Raises:
        TypeError, ValueError: Another shape, numbers that are not finite, a bad temperature.
    """
    where = "mlp.class_uncertainty"
    h = _outputs(where, "logits", logits)
    checks.positive(where, "temperature", temperature)
    checks.shape(where, "temperature", temperature, ())
    if h.shape[2] == 1:
        h = jnp.concatenate([jnp.zeros_like(h), h], axis=2)
    each = jax.nn.softmax(h / jnp.asarray(temperature, h.dtype), axis=2)
    mean = jnp.mean(each, axis=0)
    entropy = jnp.sum(entr(mean), axis=1)
    expected = jnp.mean(jnp.sum(entr(each), axis=2), axis=0)
    # Concave, so never negative but by rounding.
    return ClassUncertainty(mean, entropy, expected, jnp.maximum(entropy - expected, 0))


class ValueUncertainty(NamedTuple):
    """What members say of each value, taken together; `noise` + `spread` is the whole variance.

    Attributes:
        mean: over members, the prediction.
        noise: the mean of the variances that members predict; zero where they predict none.
        spread: the variance of their means: how much the members disagree.
    """

    mean: Float[Array, "n o"]
    noise: Float[Array, "n o"]
    spread: Float[Array, "n o"]


def value_uncertainty(means: Members, variances: Members | None = None) -> ValueUncertainty:
    """Returns mean and variance of the mixture of all members, in two parts.

    Lakshminarayanan et al. (2017, section 2.4): the law of total variance.

    Args:
        means: Outputs of members, (m, n, o).
        variances: Of the noise, as members predict it, in the same shape; None for none.

    Raises:
        TypeError, ValueError: Other shapes, numbers that are not finite, a negative variance.
    """
    where = "mlp.value_uncertainty"
    m = _outputs(where, "means", means)
    noise = jnp.zeros_like(m[0])
    if variances is not None:
        v = _outputs(where, "variances", variances)
        checks.shape(where, "variances", v, m.shape)
        checks.non_negative(where, "variances", v)
        noise = jnp.mean(v, axis=0)
    return ValueUncertainty(jnp.mean(m, axis=0), noise, jnp.var(m, axis=0))
