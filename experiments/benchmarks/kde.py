"""How fast are exact, near-exact and binned kernel densities beside the peers?

Errors first, against a float64 sum on a sample of the queries; then the first call, compilation
included, and medians of interleaved calls.  Peers take part where they are installed (`kde_peers`).
"""

import argparse
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp
from scipy.stats import gaussian_kde
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity

from experiments.benchmarks import kde_peers
from experiments.benchmarks.harness import heading, memory_added, race
from experiments.benchmarks.kde_peers import Rivals
from jaxnn import kde

DTYPES = ("float64", "float32")


def truth(x: np.ndarray, y: np.ndarray, h: float) -> np.ndarray:
    """Returns log densities in float64, by the formula."""
    n, d = x.shape
    r2 = np.sum((y[:, None] - x[None]) ** 2, axis=2) / h**2
    return logsumexp(-r2 / 2, axis=1) - np.log(n) - d * np.log(h * np.sqrt(2 * np.pi))


def ours(x: np.ndarray, y: np.ndarray, h: float, **options: Any) -> Rivals:
    """Returns our log densities in both precisions."""

    def one(dtype: str) -> Callable[[], jax.Array]:
        model, queries = kde.fit(jnp.asarray(x, dtype), bandwidth=h), jnp.asarray(y, dtype)
        return lambda: kde.log_prob(model, queries, **options)

    tag = "".join(f", {value}" for value in options.values())
    return {f"jaxnn{tag}, {dtype}": one(dtype) for dtype in DTYPES}


def exact(n: int, d: int) -> None:
    """Races log-densities of n queries under n points, Gaussian kernel, Scott's bandwidth."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, n, d))
    h: Any = float(n ** (-1 / (d + 4)))
    peer = gaussian_kde(x.T, bw_method=h)  # of nearly unit covariance, so about the same h
    loose: dict[str, Any] = {"bandwidth": h, "rtol": 1e-4}
    mine = ours(x, y, h, method="exact")
    fast = ours(x, y, h, method="fast", tolerance=1e-5) if d <= 2 else {}
    expected = truth(x, y[:100], h)
    print({name: f"{np.abs(call()[:100] - expected).max():.0e} nats" for name, call in
           (mine | fast).items()})  # fmt: skip
    jax.clear_caches()
    rivals: Rivals = {"scipy": lambda: peer.evaluate(y.T)}
    theirs = kde_peers.exact(x, y, h)
    if n > 20_000:
        rivals |= {name: call for name, call in theirs.items() if name == "kern"}
    else:
        rivals |= theirs | {
            "scipy, logs": lambda: peer.logpdf(y.T),
            "scikit-learn, rtol 1e-4": lambda: KernelDensity(**loose).fit(x).score_samples(y),
            "jax.scipy, float32": functools.partial(
                jax.jit(lambda x, y: jax.scipy.stats.gaussian_kde(x, bw_method=h).logpdf(y)),
                *(jnp.asarray(a.T, "float32") for a in (x, y)),
            ),
        }
    race(f"{n:,} × {n:,}, d = {d}", rivals | mine | fast, rounds=3)


def grid(n: int, d: int, nodes: int) -> None:
    """Races the density of n points on a grid of `nodes` an axis; errors are shares of its peak."""
    x = np.random.default_rng(0).normal(size=(n, d))
    h = float(n ** (-1 / (d + 4)))
    axis = np.linspace(x.min() - 4 * h, x.max() + 4 * h, nodes)

    def one(dtype: str, degree: int) -> Callable[[], jax.Array]:
        model = kde.fit(jnp.asarray(x, dtype), bandwidth=h)
        ends: dict[str, Any] = {"low": float(axis[0]), "high": float(axis[-1])}
        return lambda: kde.on_grid(model, nodes, degree=degree, **ends)[1]

    rivals = kde_peers.on_grid(x, axis, h)
    for dtype in DTYPES:
        for degree in (1, 3):
            rivals[f"jaxnn, degree {degree}, {dtype}"] = one(dtype, degree)
    some = np.random.default_rng(1).integers(nodes // 4, 3 * nodes // 4, size=(20, d))
    expected = np.exp(truth(x, axis[some], h))
    for name, call in rivals.items():
        error = np.abs(np.asarray(call())[tuple(some.T)] - expected).max() / expected.max()
        print(f"{name}: off by {error:.0e} of the peak")
    jax.clear_caches()
    race(f"{n:,} points, {' × '.join([str(nodes)] * d)} grid", rivals)


def leave_one_out(n: int, d: int) -> None:
    """Races 64 bandwidths, and value and gradient by one for each feature."""
    x = np.random.default_rng(0).normal(size=(n, d))
    widths = np.geomspace(0.3, 2.0, 64)

    def search() -> Any:
        return GridSearchCV(KernelDensity(), {"bandwidth": widths}, cv=5).fit(x)

    def plain(h: jax.Array, x: jax.Array) -> jax.Array:
        z = x / h[None, :]
        norms = jnp.sum(z * z, axis=1)
        r2 = norms[:, None] + norms[None, :] - 2 * z @ z.T
        masked = jnp.where(jnp.eye(n, dtype=bool), -jnp.inf, -r2 / 2)
        constant = np.log(n - 1) + d / 2 * np.log(2 * np.pi)
        return jnp.mean(jax.nn.logsumexp(masked, axis=1)) - constant - jnp.sum(jnp.log(h))

    values: Rivals = {"scikit-learn, 5 folds": search, **kde_peers.leave_one_out(x, widths)}
    slopes: Rivals = {}
    for dtype in DTYPES:
        data, hs = jnp.asarray(x, dtype), jnp.asarray(widths, dtype)
        values[f"jaxnn, {dtype}"] = functools.partial(kde.leave_one_out, data, hs)
        h = jnp.full(d, 0.7, dtype)
        mine = jax.jit(jax.value_and_grad(lambda h, x: kde.leave_one_out(x, h[None, :])[0]))
        slopes[f"plain autodiff, {dtype}"] = functools.partial(
            jax.jit(jax.value_and_grad(plain)), h, data
        )
        slopes[f"jaxnn, {dtype}"] = functools.partial(mine, h, data)
        pairs = zip(*(jax.tree.leaves(f()) for f in list(slopes.values())[-2:]), strict=True)
        print(f"{dtype}: differ by", [f"{float(jnp.abs(a - b).max()):.0e}" for a, b in pairs])
    jax.clear_caches()
    race(f"leave-one-out, 64 bandwidths, {n:,} × {d}", values, rounds=1)
    race(f"leave-one-out, value and gradient by {d} bandwidths, {n:,} × {d}", slopes)


def batch(sets: int) -> None:
    """Races many small densities: 200 queries under 200 points each."""
    x, y = np.random.default_rng(0).normal(size=(2, sets, 200, 1))
    h = 200 ** (-1 / 5)
    one = jax.jit(jax.vmap(lambda x, y: kde.log_prob(kde.fit(x, bandwidth=h), y)))
    rivals: Rivals = {
        "scipy": lambda: [
            gaussian_kde(a.T, bw_method=h).evaluate(b.T) for a, b in zip(x, y, strict=True)
        ],
        **kde_peers.batch(x[:, :, 0], y[:, :, 0], h),
    }
    for dtype in DTYPES:
        rivals[f"jaxnn, vmap, {dtype}"] = functools.partial(
            one, jnp.asarray(x, dtype), jnp.asarray(y, dtype)
        )
        gap = np.abs(rivals[f"jaxnn, vmap, {dtype}"]()[0] - truth(x[0], y[0], h)).max()
        print(f"{dtype}: off by {gap:.0e} nats")
    jax.clear_caches()
    race(f"{sets:,} densities of 200 points", rivals)


def memory(n: int) -> None:
    """Prints the peak memory that n queries of n points in two dimensions add."""
    x, y = (jnp.asarray(a, "float32") for a in np.random.default_rng(0).normal(size=(2, n, 2)))
    model = kde.fit(x, bandwidth=float(n ** (-1 / 6)))
    for method in ("exact", "fast"):
        added = memory_added(lambda m=method: kde.log_prob(model, y, method=m, tolerance=1e-5))
        print(f"{n:,} × {n:,}, d = 2, float32, {method}: {added:.0f} MB added")


def main() -> None:
    """Runs all races."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    races = {
        "memory": lambda n: memory(100_000 // n),
        "exact": lambda n: (exact(20_000 // n, 2), exact(20_000 // n, 16)),
        "large": lambda n: exact(100_000 // n, 2),
        "grid": lambda n: (grid(1_000_000 // n, 1, 1024), grid(100_000 // n, 2, 256)),
        "leave-one-out": lambda n: leave_one_out(5_000 // n, 8),
        "batch": lambda n: batch(1_000 // n),
    }
    parser.add_argument("--only", choices=races, help="one race")
    given = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    print(heading())
    for name, run in races.items():
        if given.only in (None, name):
            run(10 if given.quick else 1)


if __name__ == "__main__":
    main()
