"""Is the gradient by hand as fast as `jax.grad` of the same loss, and does it need more memory?

Both are one compiled program of parameters, batch and key.  Before any clock runs their gradients
are compared; memory is what XLA plans for temporaries.
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.harness import heading, race
from jaxnn import mlp, train


class Case(NamedTuple):
    """One network and its batch."""

    sizes: tuple[int, ...]
    rows: int
    init: dict[str, Any] = {}  # noqa: RUF012 - never written to
    options: dict[str, Any] = {}  # noqa: RUF012
    repeats: int = 20


CASES = {
    "784-256-128-10, dropout": Case((784, 256, 128, 10), 128, options={"keep_prob": 0.8}),
    "784-256-128-10": Case((784, 256, 128, 10), 128),
    "64-64-32-10 (digits)": Case((64, 64, 32, 10), 64, repeats=500),
    "64-256-256-10, tanh": Case(
        (64, 256, 256, 10), 64, {"activation": "tanh"}, {"activation": "tanh"}, 100
    ),
    "64-256-256-10, gelu": Case(
        (64, 256, 256, 10), 64, {"activation": "gelu"}, {"activation": "gelu"}, 100
    ),
    "64-128-128-10, maxout of 3": Case(
        (64, 128, 128, 10),
        64,
        {"activation": "identity", "pieces": 3},
        {"activation": "identity"},
        100,
    ),
    "64-(64 × 50)-10": Case((64, *(64,) * 50, 10), 64, repeats=20),
    "64-(64 × 1000)-10, stacked, residual": Case(
        (64, *(64,) * 1000, 10), 64, {"residual": True, "stacked": True}, repeats=1
    ),
    "64-(64 × 1000)-10, stacked, tanh": Case(
        (64, *(64,) * 1000, 10),
        64,
        {"activation": "tanh", "stacked": True},
        {"activation": "tanh"},
        repeats=1,
    ),
}


def programs(case: Case) -> dict[str, Callable[..., Any]]:
    """The gradient by both ways."""
    by_hand = mlp.value_and_grad(**case.options)
    by_jax = jax.value_and_grad(partial(mlp.mean_loss, **case.options))
    return {"jax.grad": by_jax, "by hand": by_hand}


def one(name: str, case: Case, dtype: Any, rounds: int) -> None:
    """Compares gradients and memory, and races."""
    rng = np.random.default_rng(0)
    params = mlp.init(jax.random.key(0), case.sizes, dtype=dtype, **case.init)
    x = jnp.asarray(rng.normal(size=(case.rows, case.sizes[0])), dtype)
    batch = train.Batch(x, jnp.asarray(rng.integers(10, size=case.rows)), None)
    key = jax.random.key(1)
    rivals, found, memory = {}, {}, []
    for method, function in programs(case).items():

        def repeated(params: Any, batch: Any, key: Any, function: Any = function) -> Any:
            """A chain of descents, so that calls and results cost nothing."""

            def step(params: Any, i: Any) -> tuple[Any, Any]:
                value, gradient = function(params, batch, jax.random.fold_in(key, i))
                return jax.tree.map(lambda p, g: p - 1e-6 * g, params, gradient), value

            return jax.lax.scan(step, params, jnp.arange(case.repeats))

        compiled = jax.jit(function).lower(params, batch, key).compile()
        analysis: Any = compiled.memory_analysis()
        memory.append(f"{method} {analysis.temp_size_in_bytes / 2**10:,.0f}")
        found[method] = compiled(params, batch, key)[1]
        many = jax.jit(repeated)
        rivals[method] = lambda many=many: many(params, batch, key)
    flat = [
        np.concatenate([np.ravel(np.asarray(g, float)) for g in jax.tree.leaves(f)])
        for f in found.values()
    ]
    gap = np.linalg.norm(flat[1] - flat[0]) / np.linalg.norm(flat[0])
    race(
        f"{name}, batch {case.rows}, {jnp.dtype(dtype).name}, {case.repeats} gradients; they "
        f"differ by {gap:.0e}; temporaries, KiB: {', '.join(memory)}",
        rivals,
        rounds=rounds,
    )


def main() -> None:
    """Runs all races."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="of each race")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float64"])
    parser.add_argument("--only", default="", help="part of the name of a case")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    print(heading())
    for dtype in options.dtypes:
        for name, case in CASES.items():
            if options.only in name:
                one(name, case, dtype, options.rounds)


if __name__ == "__main__":
    main()
