"""How fast are many mixtures: model choice over families and sizes, and 64 separate fits?

Model choice: K = 1..10, 10 starts each by k-means, all continued to the same tolerance, the same
ridge as a share of the variance (data in standard deviations for both); who wins is compared
before any clock runs.  Separate fits: the same starting parameters for every rival.
"""

import argparse
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from experiments.benchmarks.harness import heading, race
from jaxnn import gmm

TOL, RIDGE, STARTS = 1e-3, 1e-6, 10
FAMILIES = ("full", "tied", "diag", "spherical")


def standard(x: Any) -> np.ndarray:
    """Returns columns of mean 0 and variance 1, so that both ridges mean the same."""
    return (x - x.mean(0)) / x.std(0)


def choice(name: str, x: np.ndarray) -> None:
    """Races the choice among 40 candidates of 10 starts each."""
    rows = jnp.asarray(x)

    def theirs() -> dict[tuple[str, int], float]:
        return {
            (family, k): GaussianMixture(
                k, covariance_type=family, n_init=STARTS, tol=TOL, reg_covar=RIDGE, random_state=0,
            ).fit(x).bic(x)
            for family in FAMILIES
            for k in range(1, 11)
        }  # fmt: skip

    def ours(n_continued: int) -> Callable[[], gmm.Selection]:
        return lambda: gmm.select(
            jax.random.key(0), rows, n_starts=STARTS, n_continued=n_continued, tol=TOL, ridge=RIDGE,
            max_steps=100,
        )  # fmt: skip

    bics = theirs()
    winner = min(bics, key=lambda candidate: bics[candidate])
    table = ours(STARTS)().table
    row = int(jnp.argmin(table.bic))
    best = f"{table.family[row]} {table.n_components[row]} ({table.bic[row]:.1f})"
    jax.clear_caches()
    race(
        f"{name}, {x.shape[0]:,} × {x.shape[1]}: BIC's choice {winner[0]} {winner[1]} "
        f"({bics[winner]:.1f}) in scikit-learn, {best} here",
        {
            "scikit-learn": theirs,
            "jaxnn, all to the end": ours(STARTS),
            "jaxnn, 3 after 10 steps": ours(3),
        },
        rounds=3,
    )


def separate(dtype: str, b: int = 64, n: int = 2_000, d: int = 4, k: int = 5) -> None:
    """Races separate fits from the same starts to the same tolerance."""
    rng = np.random.default_rng(0)
    centres = 3 * rng.normal(size=(b, k, d))
    x = centres[np.arange(b)[:, None], rng.integers(k, size=(b, n))] + rng.normal(size=(b, n, d))
    x = x.astype(dtype)
    rows = jnp.asarray(x)
    keys = jax.random.split(jax.random.key(0), b)
    starts = jax.jit(jax.vmap(lambda key, data: gmm.init(key, data, k)))(keys, rows)
    given = [np.asarray(a, dtype) for a in (jnp.exp(starts.log_weights), starts.means)]
    tril = np.asarray(starts.cov.scale_tril, np.float64)  # pyright: ignore
    precisions = np.linalg.inv(tril @ tril.transpose(0, 1, 3, 2)).astype(dtype)

    def peer(i: int) -> GaussianMixture:
        return GaussianMixture(
            k, tol=TOL, reg_covar=RIDGE, max_iter=200, weights_init=given[0][i] / given[0][i].sum(),
            means_init=given[1][i], precisions_init=precisions[i],
        ).fit(x[i])  # fmt: skip

    def theirs() -> list[GaussianMixture]:
        return [peer(i) for i in range(b)]

    def ours(layout: str) -> Callable[[], Any]:
        return lambda: gmm.fit_many(
            starts, rows, tol=TOL, ridge=RIDGE, max_steps=200, layout=layout
        )

    gap = max(
        abs(float(log_lik) - fit.score(data))
        for log_lik, fit, data in zip(ours("map")().log_lik, theirs(), x, strict=True)
    )
    jax.clear_caches()
    race(
        f"{b} fits of {n:,} × {d}, {k} full, {dtype}; log-likelihoods differ by {gap:.1e}",
        {"scikit-learn": theirs, "jaxnn, map": ours("map"), "jaxnn, vmap": ours("vmap")},
        rounds=3,
    )


def stragglers(slow: int = 1_000, quick: int = 10, b: int = 32) -> None:
    """Races one fit of many steps among many of few against one by one."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(b, 2_000, 4)))
    keys = jax.random.split(jax.random.key(0), b)
    starts = jax.jit(jax.vmap(lambda key, data: gmm.init(key, data, 5)))(keys, x)
    # The first never stops by itself; the others do after about `quick` steps.
    tol = np.r_[0.0, np.full(b - 1, 3e-3)]

    def alone() -> list[gmm.Fit]:
        return [
            gmm.fit(jax.tree.map(lambda a, i=i: a[i], starts), x[i], tol=tol[i], max_steps=slow)
            for i in range(b)
        ]

    def together(layout: str) -> Callable[[], gmm.Fit]:
        return lambda: gmm.fit_many(starts, x, tol=tol, max_steps=slow, layout=layout)

    steps = together("map")().steps
    jax.clear_caches()
    race(
        f"{b} fits of 2,000 × 4: one of {steps[0]} steps, the others of {steps[1:].min()} to "
        f"{steps[1:].max()}",
        {"one by one": alone, "map": together("map"), "vmap, segments": together("vmap")},
        rounds=3,
    )


def main() -> None:
    """Runs all races."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="iris and the separate fits only")
    quick = parser.parse_args().quick
    jax.config.update("jax_enable_x64", True)
    warnings.simplefilter("ignore")
    print(heading())
    choice("iris", standard(load_iris(return_X_y=True)[0]))
    if not quick:
        choice("wine", standard(load_wine(return_X_y=True)[0]))
        choice("digits", standard(PCA(8).fit_transform(load_digits(return_X_y=True)[0])))
        stragglers()
    separate("float64")
    separate("float32")


if __name__ == "__main__":
    main()
