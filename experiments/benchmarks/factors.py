"""How fast is EM of factor analysers in many dimensions, beside full covariances?

The peer has no factor analysers: its full covariances are what one would fit instead.  Both run
the same number of steps; held-out log-likelihoods tell which model the rows belong to.
"""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.mixture import GaussianMixture

from experiments.benchmarks.harness import heading, race
from jaxnn import gmm

STEPS = 10
K, RANK = 3, 5


def rows_of(n: int, d: int) -> np.ndarray:
    """Returns rows of three groups, each with five factors of its own."""
    rng = np.random.default_rng(0)
    group = rng.integers(K, size=n)
    loadings = rng.normal(size=(K, d, RANK))
    hidden = np.einsum("ndq,nq->nd", loadings[group], rng.normal(size=(n, RANK)))
    means = 2 * rng.normal(size=(K, d))
    return (means[group] + hidden + rng.normal(size=(n, d))).astype(np.float32)


def one_size(n: int, d: int, with_peer: bool) -> None:
    """Races `STEPS` steps; as many rows again are held out."""
    x = rows_of(2 * n, d)
    x, held_out = jnp.asarray(x[:n]), x[n:]
    start = gmm.init(jax.random.key(0), x, K, family=gmm.factors(RANK))

    def theirs() -> GaussianMixture:
        return GaussianMixture(
            K, reg_covar=1e-2, tol=0, max_iter=STEPS, means_init=np.asarray(start.means)
        ).fit(x)

    def ours() -> gmm.Fit:
        return gmm.fit(start, x, ridge=1e-4, tol=0.0, max_steps=STEPS)

    memory: Any = jax.jit(ours).lower().compile().memory_analysis()
    print(
        f"held out, nats a row: factors {jnp.mean(gmm.log_prob(ours().mixture, held_out)):,.1f}"
        + (f", full {theirs().score(held_out):,.1f}" if with_peer else "")
        + f"; temporaries of the fit {memory.temp_size_in_bytes / 2**20:.1f} MiB"
    )
    jax.clear_caches()
    rivals = {"jaxnn, factors": ours}
    if with_peer:
        rivals = {"scikit-learn, full": theirs, **rivals}
    title = f"{STEPS} steps, {n:,} × {d:,}, {K} components, rank {RANK}, float32"
    race(title, rivals, rounds=3)


def main() -> None:
    """Runs all races."""
    warnings.simplefilter("ignore")
    print(heading())
    one_size(1000, 200, with_peer=True)
    one_size(300, 500, with_peer=False)
    one_size(300, 2000, with_peer=False)


if __name__ == "__main__":
    main()
