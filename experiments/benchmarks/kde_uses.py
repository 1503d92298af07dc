"""How fast are kernel regression and mean shift beside all pairs in NumPy and scikit-learn?"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.cluster import MeanShift

from experiments.benchmarks.harness import heading, race
from jaxnn import kde

BLOCK = 500  # queries at a time, for NumPy to stay in memory


def numpy_mean(x: np.ndarray, y: np.ndarray, q: np.ndarray, h: float) -> np.ndarray:
    """Nadaraya and Watson's means by all pairs, distances by a matrix product."""
    parts = []
    norms = np.sum(x * x, axis=1)
    for start in range(0, len(q), BLOCK):
        some = q[start : start + BLOCK]
        square = np.sum(some * some, axis=1)[:, None] + norms[None] - 2 * some @ x.T
        kernels = np.exp(square * (-0.5 / h**2))
        parts.append(kernels @ y / kernels.sum(axis=1))
    return np.concatenate(parts)


def numpy_line(x: np.ndarray, y: np.ndarray, q: np.ndarray, h: float) -> np.ndarray:
    """Local lines by one weighted least-squares problem a query."""
    out = np.empty(len(q))
    for i, query in enumerate(q):
        away = x - query
        kernels = np.exp(-0.5 * np.sum(away * away, axis=1) / h**2)
        design = np.column_stack([np.ones(len(x)), away])
        weighted = design * kernels[:, None]
        out[i] = np.linalg.solve(weighted.T @ design, weighted.T @ y)[0]
    return out


def regression(n: int, d: int) -> None:
    """Races means and lines of n rows at n queries (NumPy's lines at a tenth of them)."""
    rng = np.random.default_rng(0)
    x, q = rng.uniform(-1, 1, size=(2, n, d))
    y = np.sin(3 * x[:, 0]) + rng.normal(size=n)
    h = float(n ** (-1 / (d + 4))) / 2
    few = max(n // 10, 1)

    def ours(f, queries: np.ndarray, dtype: str):
        points, outputs, at = (jnp.asarray(a, dtype) for a in (x, y, queries))
        model = kde.fit(points, bandwidth=h)
        return lambda: f(model, outputs, at).mean

    gap = np.abs(ours(kde.nadaraya_watson, q, "float64")() - numpy_mean(x, y, q, h)).max()
    jax.clear_caches()
    rivals = {"numpy": lambda: numpy_mean(x, y, q, h)}
    for dtype in ("float64", "float32"):
        rivals[f"jaxnn, {dtype}"] = ours(kde.nadaraya_watson, q, dtype)
    race(f"mean, {n:,} × {n:,}, d = {d}; largest difference {gap:.0e}", rivals, rounds=3)

    q = q[:few]
    gap = np.abs(ours(kde.local_linear, q, "float64")() - numpy_line(x, y, q, h)).max()
    jax.clear_caches()
    rivals = {"numpy": lambda: numpy_line(x, y, q, h)}
    for dtype in ("float64", "float32"):
        rivals[f"jaxnn, {dtype}"] = ours(kde.local_linear, q, dtype)
    race(f"line, {n:,} × {few:,}, d = {d}; largest difference {gap:.0e}", rivals, rounds=3)


def shift(n: int, seeds: int) -> None:
    """Races flat mean shift of n points in the plane from the same seeds, to the same modes."""
    rng = np.random.default_rng(0)
    centres = rng.uniform(-10, 10, size=(8, 2))
    x = centres[rng.integers(0, 8, n)] + rng.normal(size=(n, 2))
    starts, h = x[:seeds], 1.5
    peer = MeanShift(bandwidth=h, seeds=starts, cluster_all=False)
    points = jnp.asarray(x)
    flat = kde.fit(points, bandwidth=h, kernel="epanechnikov")
    smooth = kde.fit(points, bandwidth=h / 2)
    begin = jnp.asarray(starts)
    ours = kde.modes(flat, begin, merge=0.5, tol=1e-3)  # scikit-learn's tolerance
    found = np.asarray(ours.at[: int(ours.n_modes)])
    theirs = peer.fit(x).cluster_centers_
    away = np.linalg.norm(found[:, None] - theirs[None], axis=2)
    title = (
        f"{n:,} points, {seeds:,} seeds: {len(theirs)} modes of scikit-learn, which keeps one "
        f"within a bandwidth, each within {away.min(axis=0).max():.0e} of one of the "
        f"{len(found)} of jaxnn, which merges half as far"
    )
    jax.clear_caches()
    rivals = {
        "scikit-learn, flat": lambda: peer.fit(x).cluster_centers_,
        "jaxnn, flat": lambda: kde.modes(flat, begin, merge=0.5, tol=1e-3).at,
        "jaxnn, Gaussian": lambda: kde.modes(smooth, begin, tol=1e-3).at,
    }
    race(title, rivals, rounds=3)


def main() -> None:
    """Runs all races."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    n = 2_000 if parser.parse_args().quick else 20_000
    jax.config.update("jax_enable_x64", True)
    print(heading())
    regression(n, 2)
    shift(n, 300)


if __name__ == "__main__":
    main()
