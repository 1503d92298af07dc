"""How fast is an exact kernel density beside SciPy and scikit-learn?"""

import argparse
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import gaussian_kde
from sklearn.neighbors import KernelDensity

from experiments.benchmarks.harness import heading, race
from jaxnn import kde


def exact(n: int, d: int) -> None:
    """Races log-densities of n queries under n points, Gaussian kernel, Scott's bandwidth."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, n, d))
    h = float(n ** (-1 / (d + 4)))
    scipy = gaussian_kde(x.T, bw_method=h)  # of nearly unit covariance, so about the same h
    loose: dict[str, Any] = {"bandwidth": h, "rtol": 1e-4}
    tree = KernelDensity(bandwidth=h, leaf_size=n).fit(x)

    def ours(dtype: str) -> Callable[[], jax.Array]:
        points, queries = jnp.asarray(x, dtype), jnp.asarray(y, dtype)
        model = kde.fit(points, bandwidth=h)
        return lambda: kde.log_prob(model, queries)

    gap = np.abs(ours("float64")()[:200] - tree.score_samples(y[:200])).max()
    jax.clear_caches()
    rivals = {
        "scipy": lambda: scipy.logpdf(y.T),
        "scipy, no logs": lambda: scipy.evaluate(y.T),
        "scikit-learn, rtol 1e-4": lambda: KernelDensity(**loose).fit(x).score_samples(y),
        "jaxnn, float64": ours("float64"),
        "jaxnn, float32": ours("float32"),
    }
    race(f"{n:,} × {n:,}, d = {d}; largest difference {gap:.0e} nats", rivals, rounds=3)


def main() -> None:
    """Runs all races."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    n = 2_000 if parser.parse_args().quick else 20_000
    jax.config.update("jax_enable_x64", True)
    print(heading())
    exact(n, 2)
    exact(n, 16)


if __name__ == "__main__":
    main()
