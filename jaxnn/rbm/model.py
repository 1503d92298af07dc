"""The machine itself: energies, conditional distributions, and block Gibbs sampling.

Shapes: n samples, v visible and h hidden units; hidden units are 0 or 1.  With weights W (v, h),
visible biases b and hidden biases c, a state has the energy (Smolensky, 1986; Hinton, 2012)

    Bernoulli visible units   E(v, h) = -b·v        - c·h - v·W h
    Gaussian visible units    E(v, h) = |v - b|²/2  - c·h - v·W h      (variance one)

and the probability exp(-E) / Z.  There are no connections inside a layer, so either layer is
independent given the other.  For Gaussian units standardise the data (`train.Standardiser`).
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float

from jaxnn import checks
from jaxnn.types import Key, Scalar

Visible = Float[Array, "n v"]
Hidden = Float[Array, "n h"]
Rows = Float[Array, " n"]
States = Float[ArrayLike, "n v"]  # rows of visible units, as they are given
HiddenStates = Float[ArrayLike, "n h"]


class Bernoulli(NamedTuple):
    """Parameters of a machine whose visible units are 0 or 1.

    Attributes:
        weight: W, a row for each visible unit.
        visible_bias: b.
        hidden_bias: c.
    """

    weight: Float[Array, "v h"]
    visible_bias: Float[Array, " v"]
    hidden_bias: Float[Array, " h"]

    discrete = True  # the visible states can be enumerated

    def self_energy(self, v: Visible) -> Rows:
        """Returns the part of the energy that no hidden unit takes part in."""
        return -(v @ self.visible_bias)

    def log_sum(self, field: Visible) -> Rows:
        """Returns log Σ_v exp(b·v + v·Wh), with `field` = b + W h."""
        return jnp.sum(jax.nn.softplus(field), axis=1)

    @staticmethod
    def mean(field: Visible) -> Visible:
        """Returns the mean of the visible units in a field."""
        return jax.nn.sigmoid(field)

    @staticmethod
    def draw(key: Key, field: Visible) -> Visible:
        """Returns visible units drawn in a field."""
        return bernoulli(key, field)

    @staticmethod
    def valid(v: Array) -> Array:
        """Returns which entries can be states."""
        return (v == 0) | (v == 1)


class Gaussian(NamedTuple):
    """Parameters of a machine whose visible units are real, with variance one given the hidden.

    Attributes:
        weight: W, a row for each visible unit.
        visible_bias: b, the means of the visible units where all hidden ones are 0.
        hidden_bias: c.
    """

    weight: Float[Array, "v h"]
    visible_bias: Float[Array, " v"]
    hidden_bias: Float[Array, " h"]

    discrete = False

    def self_energy(self, v: Visible) -> Rows:
        """Returns the part of the energy that no hidden unit takes part in."""
        return 0.5 * jnp.sum(jnp.square(v - self.visible_bias[None]), axis=1)

    def log_sum(self, field: Visible) -> Rows:
        """Returns log ∫ exp(-|v - b|²/2 + v·Wh) dv, with `field` = b + W h."""
        pull = field - self.visible_bias[None]
        square = jnp.sum(pull * (0.5 * pull + self.visible_bias[None]), axis=1)
        return square + 0.5 * field.shape[1] * jnp.log(2 * jnp.pi).astype(field.dtype)

    @staticmethod
    def mean(field: Visible) -> Visible:
        """Returns the mean of the visible units in a field."""
        return field

    @staticmethod
    def draw(key: Key, field: Visible) -> Visible:
        """Returns visible units drawn in a field."""
        return field + jax.random.normal(key, field.shape, field.dtype)

    @staticmethod
    def valid(v: Array) -> Array:
        """Returns which entries can be states."""
        return jnp.isfinite(v)


RBM: TypeAlias = Bernoulli | Gaussian
VISIBLE: dict[str, Callable[..., RBM]] = {"bernoulli": Bernoulli, "gaussian": Gaussian}
"""Name -> type of the parameters, which is the tag of the visible units."""


def bernoulli(key: Key, field: Float[Array, "n u"]) -> Float[Array, "n u"]:
    """Returns units that are 1 with probability sigmoid(field), as floating-point numbers."""
    return jax.random.bernoulli(key, jax.nn.sigmoid(field)).astype(field.dtype)


def hidden_field(params: RBM, v: Visible) -> Hidden:
    """Returns c + Wᵀ v, the log-odds of the hidden units."""
    return v @ params.weight + params.hidden_bias[None]


def visible_field(params: RBM, h: Hidden) -> Visible:
    """Returns b + W h, the field in which the visible units are drawn."""
    return h @ params.weight.T + params.visible_bias[None]


def free_energies(params: RBM, v: Visible) -> Rows:
    """Returns the free energy of each row, unchecked; see `free_energy`."""
    pull = jnp.sum(jax.nn.softplus(hidden_field(params, v)), axis=1)
    return params.self_energy(v) - pull


def sweep(key: Key, params: RBM, v: Visible) -> Visible:
    """Returns the visible units after one sweep of block Gibbs: all hidden, then all visible."""
    key_hidden, key_visible = jax.random.split(key)
    h = bernoulli(key_hidden, hidden_field(params, v))
    return params.draw(key_visible, visible_field(params, h))


@jax.jit
def sweeps(key: Key, params: RBM, v: Visible, steps: int | Array) -> Visible:
    """Returns the visible units after `steps` sweeps, traced; step i draws from fold_in(key, i)."""
    body = lambda i, v: sweep(jax.random.fold_in(key, i), params, v)
    return jax.lax.fori_loop(0, steps, body, v)


def check_machine(where: str, params: RBM) -> None:
    """Raises unless `params` are arrays of one dtype that fit together."""
    if not isinstance(params, RBM):
        raise TypeError(
            f"{where}: params must be rbm.Bernoulli or rbm.Gaussian, got {type(params).__name__}"
        )
    weight = checks.floating(where, "weight", params.weight)
    checks.shape(where, "weight", weight, (None, None))
    biases = {"visible_bias": params.visible_bias, "hidden_bias": params.hidden_bias}
    for (name, bias), width in zip(biases.items(), weight.shape, strict=True):
        checks.shape(where, name, checks.floating(where, name, bias), (width,))
        checks.same_dtype(where, name, bias, "weight", weight.dtype)


def check_visible(where: str, params: RBM, v: States) -> Visible:
    """Returns `v` as states of the visible units of `params`, both checked."""
    check_machine(where, params)
    rows = checks.data(where, "v", v, params.weight.shape[0])
    checks.same_dtype(where, "v", rows, "params", params.weight.dtype)
    if checks.concrete(rows) and not checks.holds(lambda: params.valid(rows)):
        with jax.ensure_compile_time_eval():
            place = jnp.argwhere(~params.valid(rows))[0].tolist()
            value = float(rows[tuple(place)])
        raise ValueError(
            f"{where}: v must be 0 or 1 in a Bernoulli machine, got {value:g} at row, column "
            f"{place[0]}, {place[1]}; threshold or draw it, or take Gaussian visible units"
        )
    return rows


def _check_hidden(where: str, params: RBM, h: HiddenStates) -> Hidden:
    check_machine(where, params)
    rows = checks.data(where, "h", h, params.weight.shape[1])
    checks.same_dtype(where, "h", rows, "params", params.weight.dtype)
    if checks.concrete(rows) and not checks.holds(lambda: (rows >= 0) & (rows <= 1)):
        raise ValueError(
            f"{where}: h must lie in [0, 1], got values from {float(jnp.min(rows)):g} "
            f"to {float(jnp.max(rows)):g}"
        )
    return rows


def init(
    key: Key,
    visible: int,
    hidden: int,
    *,
    units: str = "bernoulli",
    scale: Scalar = 0.01,
    dtype: DTypeLike = jnp.float32,
) -> RBM:
    """Returns parameters to start from: small normal weights, biases zero (Hinton, 2012, § 8).

    Args:
        key: A PRNG key.
        visible: Number of visible units.
        hidden: Number of hidden units.
        units: What the visible units are, a name in `VISIBLE`.
        scale: Standard deviation of the weights.
        dtype: Of all parameters.

    Raises:
        TypeError: If `key` is no key, a number no whole number, or `dtype` not floating-point.
        ValueError: If a number is below 1, `scale` negative, or the name unknown.

    >>> params = init(jax.random.key(0), 6, 4, units="gaussian")
    >>> type(params).__name__, params.weight.shape
    ('Gaussian', (6, 4))
    """
    where = "rbm.init"
    checks.key(where, key)
    visible, hidden = (checks.count(where, n, u) for n, u in (("visible", visible),
                                                               ("hidden", hidden)))  # fmt: skip
    checks.in_table(where, "units", units, VISIBLE)
    checks.non_negative(where, "scale", scale)
    kind = jnp.dtype(dtype)
    if not jnp.issubdtype(kind, jnp.floating):
        raise TypeError(f"{where}: dtype must be a floating-point type, got {kind}")
    return VISIBLE[units](
        weight=jax.random.normal(key, (visible, hidden), kind) * jnp.asarray(scale, kind),
        visible_bias=jnp.zeros(visible, kind),
        hidden_bias=jnp.zeros(hidden, kind),
    )


def energy(params: RBM, v: States, h: HiddenStates) -> Rows:
    """Returns the energy E(v, h) of each row of states; see the module for its formula.

    Raises TypeError or ValueError for widths, dtypes, or states that the units cannot take.
    """
    where = "rbm.energy"
    v, h = check_visible(where, params, v), _check_hidden(where, params, h)
    checks.shape(where, "h", h, (v.shape[0], None))
    return params.self_energy(v) - jnp.sum(hidden_field(params, v) * h, axis=1)


def free_energy(params: RBM, v: States) -> Rows:
    """Returns F(v) = -log Σ_h exp(-E(v, h)) of each row, so that p(v) = exp(-F(v)) / Z.

    F(v) is the energy of v alone, less Σ_j log(1 + exp(c_j + v·W_j)) (Hinton, 2012, eq. 25).
    Raises as `energy` does.
    """
    return free_energies(params, check_visible("rbm.free_energy", params, v))


def hidden_given_visible(params: RBM, v: States) -> Hidden:
    """Returns p(h_j = 1 | v) for each row (Hinton, 2012, eq. 7).  Raises as `energy` does."""
    v = check_visible("rbm.hidden_given_visible", params, v)
    return jax.nn.sigmoid(hidden_field(params, v))


def visible_given_hidden(params: RBM, h: HiddenStates) -> Visible:
    """Returns the mean of the visible units given the hidden ones (Hinton, 2012, eqs. 8 and 19).

    `h` are states, or probabilities for the mean-field reconstruction.  Raises as `energy` does.
    """
    h = _check_hidden("rbm.visible_given_hidden", params, h)
    return params.mean(visible_field(params, h))


def gibbs(key: Key, params: RBM, v: States, steps: int) -> Visible:
    """Returns the visible units after `steps` sweeps of block Gibbs, one chain a row of `v`.

    A sweep draws all hidden units given the visible ones, then all visible given the hidden.
    Raises TypeError or ValueError for a bad key or bad states, or fewer than one step.
    """
    where = "rbm.gibbs"
    checks.key(where, key)
    steps = checks.count(where, "steps", steps)
    return sweeps(key, params, check_visible(where, params, v), steps)
