"""How fast is variational Bayes beside scikit-learn, and what do missing values cost EM?

Variational Bayes: the same posterior to start from, the same number of steps, no ridge; the
peer's posterior is compared before any clock runs.  Missing values: no peer here has them, so a
step is timed beside a step on the complete rows.
"""

import argparse
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.mixture import BayesianGaussianMixture

from experiments.benchmarks.harness import heading, race
from jaxnn import gmm

STEPS = 5
D, K = 8, 16


def clusters(n: int, dtype: str) -> np.ndarray:
    """Returns n rows from K random clusters."""
    rng = np.random.default_rng(0)
    centres = 3 * rng.normal(size=(K, D))
    return (centres[rng.integers(K, size=n)] + rng.normal(size=(n, D))).astype(dtype)


def bayes(n: int, dtype: str) -> None:
    """Races `STEPS` variational steps; the peer makes its start anew, timed on its own line."""
    x = clusters(n, dtype)
    device_x = jnp.asarray(x)
    prior = gmm.bayes_prior(x, K, ridge=0.0)

    def theirs(steps: int = STEPS) -> BayesianGaussianMixture:
        peer = BayesianGaussianMixture(
            n_components=K, reg_covar=0, tol=0, max_iter=steps, random_state=0,
            init_params="random_from_data",
        )  # fmt: skip
        return peer.fit(x)

    begun = theirs(0)
    array = lambda a: jnp.asarray(a, dtype)
    start = gmm.BayesGMM(
        gmm.StickBreaking(*map(array, begun.weight_concentration_)),
        array(begun.means_), array(begun.mean_precision_), array(begun.degrees_of_freedom_),
        gmm.Full.from_covariances(array(begun.covariances_)),
    )  # fmt: skip

    def ours() -> gmm.BayesFit:
        return gmm.fit_bayes(start, device_x, prior=prior, tol=0.0, max_steps=STEPS)

    gap = np.abs(np.asarray(ours().posterior.means) - theirs().means_).max()
    jax.clear_caches()
    name = f"{STEPS} variational steps, {n:,} × {D}, {K} full, {dtype}; means differ by {gap:.1e}"
    rivals = {"scikit-learn": theirs, "its start alone": lambda: theirs(0), "jaxnn": ours}
    race(name, rivals)


def gaps(n: int, dtype: str) -> None:
    """Races `STEPS` steps of EM on complete rows and on two kinds of gaps."""
    rng = np.random.default_rng(1)
    x = clusters(n, dtype)
    start = gmm.init(jax.random.key(0), x, K)
    few = rng.uniform(size=(5, D)) < 0.3
    holes = {
        "20 % missing anywhere": rng.uniform(size=x.shape) < 0.2,
        "5 patterns of gaps": few[rng.integers(5, size=n)],
    }
    rivals = {"complete": lambda: gmm.fit(start, jnp.asarray(x), tol=0.0, max_steps=STEPS)}
    # Traced rows cannot be grouped: each has matrices of its own.
    alone = jax.jit(lambda y: gmm.fit(start, y, tol=0.0, max_steps=STEPS, missing=True))
    for name, hole in holes.items():
        y = jnp.asarray(np.where(hole, np.nan, x))
        rivals[name] = lambda y=y: gmm.fit(start, y, tol=0.0, max_steps=STEPS, missing=True)
        rivals[f"{name}, not grouped"] = lambda y=y: alone(y)
    race(f"{STEPS} steps of EM, {n:,} × {D}, {K} full, {dtype}", rivals, rounds=3)


def main() -> None:
    """Runs all races."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    share = 10 if parser.parse_args().quick else 1
    jax.config.update("jax_enable_x64", True)
    warnings.simplefilter("ignore")
    print(heading())
    for dtype in ("float32", "float64"):
        bayes(100_000 // share, dtype)
    gaps(100_000 // share, "float32")


if __name__ == "__main__":
    main()
