"""A fit in pieces whose course is known in closed form, shared by the tests of sweeps.

Nothing is computed on import: `jaxnn` must come first (see `jaxnn.backend`).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnn.types import Segments


class State(NamedTuple):
    """After t pieces w is scale^t (1 - rate)^t, and noise the sum of t draws."""

    w: Any
    noise: Any
    t: Any
    key: Any
    hp: Any


def init(hp, key, scale):
    zero = jnp.zeros_like(hp["rate"])
    return State(w=zero + 1, noise=zero, t=jnp.zeros((), jnp.int32), key=key, hp=hp)


def advance(state, scale):
    t = state.t + 1
    w = jnp.where(t == state.hp["nan_at"], jnp.nan, state.w * (1 - state.hp["rate"]) * scale)
    noise = state.noise + jax.random.normal(jax.random.fold_in(state.key, t), (), w.dtype)
    new = state._replace(w=w, noise=noise, t=t)
    over = halted(state)
    return state._replace(
        **{name: jnp.where(over, getattr(state, name), getattr(new, name))
           for name in ("w", "noise", "t")}
    )  # fmt: skip


def score(state):
    return state.w


def halted(state):
    return state.t >= state.hp["stop"]


def result(state):
    return {"w": state.w, "noise": state.noise, "t": state.t}


TOY = Segments(init=init, advance=advance, score=score, halted=halted, result=result)


def members(n: int, stop: Any = 100, nan_at: Any = 0) -> dict[str, Any]:
    """n members with rates from 0.05 to 0.5, so that the last are best; `nan_at` 0 is never."""
    whole = lambda a: jnp.asarray(np.broadcast_to(a, n), jnp.int32)
    return {"rate": jnp.linspace(0.05, 0.5, n), "stop": whole(stop), "nan_at": whole(nan_at)}


def alone(hp: dict[str, Any], keys: Any, scale: float, pieces: Any) -> dict[str, Any]:
    """Oracle: NumPy and one draw at a time."""
    pieces = np.asarray(pieces)
    noise = [
        sum(float(jax.random.normal(jax.random.fold_in(key, t))) for t in range(1, k + 1))
        for key, k in zip(keys, pieces, strict=True)
    ]
    w = (scale * (1 - np.asarray(hp["rate"]))) ** pieces
    return {"w": w, "noise": np.array(noise), "t": pieces}


def every_kind(seed: int = 0) -> dict[str, Any]:
    """Every kind of leaf that a state has, and parts without any."""
    draw = np.random.default_rng(seed)
    return {
        "params": (jnp.asarray(draw.normal(size=(3, 2))), None),
        "single": jnp.asarray(draw.normal(size=4), jnp.float32),
        "half": jnp.asarray(draw.normal(size=4), jnp.bfloat16),
        "step": jnp.asarray(seed, jnp.int32),
        "flag": jnp.asarray(True),
        "empty": (),
        "no rows": jnp.zeros((3, 0), jnp.float32),
        "key": jax.random.key(seed),
        "other": jax.random.key(seed, impl="rbg"),
        "old": jax.random.PRNGKey(seed),
    }
