"""How fast is a step of EM beside scikit-learn, and how fast are many small fits?

Same start, same number of steps, no ridge; the peer's result is compared before any clock runs.
"""

import argparse
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_iris
from sklearn.mixture import GaussianMixture

from experiments.benchmarks.harness import heading, race
from jaxnn import gmm, sweep

STEPS = 5


def one_size(n: int, d: int, k: int, family: str, dtype: str) -> None:
    """Races `STEPS` steps on random clusters."""
    rng = np.random.default_rng(0)
    centres = 3 * rng.normal(size=(k, d))
    x = (centres[rng.integers(k, size=n)] + rng.normal(size=(n, d))).astype(dtype)
    start = gmm.init(jax.random.key(0), x, k, family=family)
    dense = np.linalg.inv(np.asarray(start.cov.covariances(start.means), np.float64))
    diagonal = np.diagonal(dense, axis1=1, axis2=2)
    native = {"full": dense, "tied": dense[0], "diag": diagonal, "spherical": diagonal[:, 0]}
    device_x = jnp.asarray(x)

    def theirs() -> GaussianMixture:
        peer = GaussianMixture(
            k, covariance_type=family, reg_covar=0, tol=0, max_iter=STEPS,
            weights_init=np.exp(start.log_weights), means_init=np.asarray(start.means),
            precisions_init=native[family].astype(dtype),
        )  # fmt: skip
        return peer.fit(x)

    def ours() -> gmm.Fit:
        return gmm.fit(start, device_x, ridge=0.0, tol=0.0, max_steps=STEPS)

    gap = abs(float(ours().log_lik) - theirs().score(x))
    jax.clear_caches()
    name = f"{STEPS} steps, {n:,} × {d}, {k} {family}, {dtype}; log-likelihoods differ by {gap:.1e}"
    race(name, {"scikit-learn": theirs, "jaxnn": ours})


def member(hp: dict[str, jax.Array], key: jax.Array, x: jax.Array) -> gmm.Fit:
    """One start of EM on iris."""
    return gmm.fit(gmm.init(key, x, 3), x, tol=1e-3, ridge=1e-6)


def many_starts() -> None:
    """Races 100 separate fits of iris to the same tolerance."""
    x = np.asarray(load_iris(return_X_y=True)[0], np.float32)
    seeds = {"seed": jnp.arange(100)}
    rivals = {
        "scikit-learn": lambda: [
            GaussianMixture(3, random_state=i, init_params="k-means++").fit(x) for i in range(100)
        ],
        "jaxnn, vmap": lambda: sweep.run(member, seeds, jax.random.key(0), x),
        "jaxnn, map": lambda: sweep.run(member, seeds, jax.random.key(0), x, layout="map"),
    }
    race("100 starts of 3 full components on iris, float32", rivals)


def main() -> None:
    """Runs all races."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    share = 10 if parser.parse_args().quick else 1
    jax.config.update("jax_enable_x64", True)
    warnings.simplefilter("ignore")
    print(heading())
    one_size(100_000 // share, 16, 16, "full", "float32")
    one_size(100_000 // share, 16, 16, "full", "float64")
    one_size(1_000_000 // share, 8, 32, "diag", "float32")
    one_size(200_000 // share, 64, 16, "full", "float32")
    many_starts()


if __name__ == "__main__":
    main()
