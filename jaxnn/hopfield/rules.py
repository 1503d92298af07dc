"""Storage rules: patterns of -1 and +1 into symmetric weights without a diagonal.

A rule is one entry of `RULES`.  Shapes: n patterns (rows), d units.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxnn import checks
from jaxnn.types import Data

Weights = Float[Array, "d d"]


def _without_diagonal(weights: Weights) -> Weights:
    return weights * (1 - jnp.eye(weights.shape[0], dtype=weights.dtype))


def hebb(patterns: Float[Array, "n d"]) -> Weights:
    """Returns Wᵢⱼ = Σ_μ ξᵢ ξⱼ / d (Hopfield, 1982, eq. 2, there without the division)."""
    return _without_diagonal(patterns.T @ patterns) / patterns.shape[1]


def pseudo_inverse(patterns: Float[Array, "n d"]) -> Weights:
    """Returns the projection X⁺X onto the span of the patterns, without its diagonal.

    Personnaz, Guyon and Dreyfus (1986), pattern by pattern: what earlier patterns do not span is
    added.  Without the diagonal Kanter and Sompolinsky (1987).  Dependent patterns are no obstacle.
    """
    d = patterns.shape[1]
    rounding = d * jnp.square(10 * d * jnp.finfo(patterns.dtype).eps)

    def learn(projection: Weights, pattern: Float[Array, " d"]) -> tuple[Weights, None]:
        rest = pattern - projection @ pattern
        rest = rest - projection @ rest  # once more: rounding leaves it not quite orthogonal
        square = rest @ rest
        new = square > rounding
        rest = jnp.where(new, rest, 0.0) / jnp.sqrt(jnp.where(new, square, 1.0))
        return projection + rest[:, None] * rest[None, :], None

    start = jnp.zeros((d, d), patterns.dtype)
    return _without_diagonal(jax.lax.scan(learn, start, patterns)[0])


def storkey(patterns: Float[Array, "n d"]) -> Weights:
    """Returns the weights of Storkey (1997), who starts from zero and adds pattern by pattern.

    Wᵢⱼ ← Wᵢⱼ + (ξᵢ ξⱼ - ξᵢ hⱼᵢ - hᵢⱼ ξⱼ) / d with the local field hᵢⱼ = Σ_{k ≠ i, j} Wᵢₖ ξₖ.
    """
    d = patterns.shape[1]

    def learn(weights: Weights, pattern: Float[Array, " d"]) -> tuple[Weights, None]:
        field = (weights @ pattern)[:, None] - weights * pattern[None, :]
        towards = field * pattern[None, :]
        change = pattern[:, None] * pattern[None, :] - towards - towards.T
        return weights + _without_diagonal(change) / d, None

    return jax.lax.scan(learn, jnp.zeros((d, d), patterns.dtype), patterns)[0]


# A row of zeros leaves every rule's weights as they are: that is how `store` leaves rows out.
RULES: dict[str, Callable[[Float[Array, "n d"]], Weights]] = {
    "hebb": hebb,
    "pseudo-inverse": pseudo_inverse,
    "storkey": storkey,
}


def signs(where: str, name: str, x: Array) -> None:
    """Raises ValueError, naming the first offending number, unless all are -1 or +1."""
    if not checks.concrete(x) or checks.holds(lambda: jnp.abs(x) == 1):
        return
    with jax.ensure_compile_time_eval():
        place = tuple(int(i) for i in jnp.argwhere(jnp.abs(x) != 1)[0])
        value = float(x[place])
    raise ValueError(
        f"{where}: {name} must be -1 or +1, got {value} at {', '.join(map(str, place))}; "
        "2 * x - 1 makes signs of 0 and 1"
    )


_store = jax.jit(lambda patterns, rule: RULES[rule](patterns), static_argnames="rule")


def store(
    patterns: Data, *, rule: str = "hebb", active: int | Int[Array, ""] | None = None
) -> Weights:
    """Returns symmetric weights with a zero diagonal that keep `patterns`.

    Args:
        patterns: rows of -1 and +1, (n, d).
        rule: a name in `RULES`.  Random patterns are kept up to a load n / d of about 0.138 by
            `hebb` (Amit, Gutfreund and Sompolinsky, 1985), below 1 by `pseudo-inverse`.
        active: how many of the first rows to store, all by default; traced, so that a sweep over
            loads is one program.

    Raises:
        TypeError, ValueError: no patterns, other numbers than -1 and +1, an unknown rule.

    >>> weights = store(jnp.array([[1.0, -1.0, 1.0], [1.0, 1.0, 1.0]]))
    >>> [round(float(w), 3) for w in weights[0]]
    [0.0, 0.0, 0.667]
    """
    where = "hopfield.store"
    patterns = checks.data(where, "patterns", patterns)
    checks.precise(where, "patterns", patterns)
    checks.in_table(where, "rule", rule, RULES)
    signs(where, "patterns", patterns)
    if active is not None:
        checks.positive(where, "active", active)
        patterns = patterns * (jnp.arange(patterns.shape[0]) < active)[:, None]
    return _store(patterns, rule=rule)
