"""How fast are a thousand densities in one call, and an exact score-debiased density?"""

import argparse
import functools
import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import gaussian_kde

from experiments.benchmarks.harness import heading, race
from jaxnn import kde

torch = importlib.import_module("torch")  # a peer: the project's types are checked without it


def batch(sets: int, n: int = 200) -> None:
    """Races `sets` densities of n points at n queries each, Scott's bandwidth, one feature."""
    x, y = np.random.default_rng(0).normal(size=(2, sets, n))
    many = jax.jit(jax.vmap(lambda x, y: kde.log_prob(kde.fit(x[:, None]), y[:, None])))
    arrays = {dtype: (jnp.asarray(x, dtype), jnp.asarray(y, dtype)) for dtype in ("f8", "f4")}
    loop = lambda: [gaussian_kde(a).logpdf(b) for a, b in zip(x, y, strict=True)]
    gap = np.abs(np.asarray(many(*arrays["f8"])) - np.stack(loop())).max()
    jax.clear_caches()
    rivals = {
        "scipy, a loop": loop,
        "jaxnn, float64": lambda: many(*arrays["f8"]),
        "jaxnn, float32": lambda: many(*arrays["f4"]),
    }
    race(f"{sets:,} densities of {n} points; largest difference {gap:.0e} nats", rivals, rounds=3)


def debiased_torch(x: Any, y: Any, h: float, rows: int = 1000) -> Any:
    """The moved points and the density by matrix products, in tiles of rows."""
    moved = []
    for tile in x.split(rows):
        share = torch.softmax(-torch.cdist(tile, x).square() / (2 * h * h), dim=1)
        moved.append(tile + (share @ x - tile) / 2)
    points, (n, d) = torch.cat(moved), x.shape
    sums = [
        torch.logsumexp(-torch.cdist(tile, points).square() / (2 * h * h), dim=1)
        for tile in y.split(rows)
    ]
    return torch.cat(sums) - np.log(n) - d / 2 * np.log(2 * np.pi * h * h)


def debiased_jaxnn(model: kde.KDE, queries: jax.Array) -> jax.Array:
    """Returns the score-debiased log density of the queries."""
    return kde.log_prob(kde.debias(model), queries)


def debiased(n: int, d: int) -> None:
    """Races the score-debiased log density of n queries under n points."""
    x, y = np.random.default_rng(0).normal(size=(2, n, d))
    h = float(n ** (-1 / (d + 8)))
    rivals: dict[str, Callable[[], Any]] = {}
    found = {}
    for dtype in ("float32", "float64"):
        tensors = [torch.tensor(a, dtype=getattr(torch, dtype)) for a in (x, y)]
        model, queries = kde.fit(jnp.asarray(x, dtype), bandwidth=h), jnp.asarray(y, dtype)
        rivals[f"torch, {dtype}"] = functools.partial(debiased_torch, *tensors, h)
        rivals[f"jaxnn, {dtype}"] = functools.partial(debiased_jaxnn, model, queries)
        found[dtype] = [np.asarray(rivals[f"{who}, {dtype}"]()) for who in ("torch", "jaxnn")]
    gaps = [np.abs(a - b).max() for a, b in found.values()]
    jax.clear_caches()
    title = f"score-debiased, {n:,} × {n:,}, d = {d}; differences {gaps[0]:.0e}, {gaps[1]:.0e} nats"
    race(title, rivals, rounds=3)


def main() -> None:
    """Runs all races."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    quick = parser.parse_args().quick
    jax.config.update("jax_enable_x64", True)
    print(heading())
    batch(100 if quick else 1000)
    debiased(2_000 if quick else 20_000, 2)
    debiased(2_000 if quick else 20_000, 16)


if __name__ == "__main__":
    main()
