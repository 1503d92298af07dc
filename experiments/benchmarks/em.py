"""How fast are a step of EM and a log-density beside the peers?  `mixtures_many` has many fits.

Same start, same number of steps, no ridge; log-likelihoods are compared before any clock runs.
With SCIPY_ARRAY_API=1 in the environment scikit-learn also runs on torch arrays.
"""

import argparse
import contextlib
import functools
import importlib
import importlib.util
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sklearn
from jax.scipy.stats import multivariate_normal
from sklearn.datasets import load_iris
from sklearn.mixture import GaussianMixture

from experiments.benchmarks.harness import heading, memory_added, race
from jaxnn import gmm, sweep

STEPS = 5


def clusters(n: int, d: int, k: int, dtype: str, seed: int = 0) -> np.ndarray:
    """Returns n rows of k clusters of unit variance."""
    rng = np.random.default_rng(seed)
    centres = 3 * rng.normal(size=(k, d))
    return (centres[rng.integers(k, size=n)] + rng.normal(size=(n, d))).astype(dtype)


def peer(start: gmm.GMM, family: str, array: Callable = np.asarray, **options: Any):
    """Returns scikit-learn's estimator that begins at `start`."""
    dense = np.linalg.inv(np.asarray(start.cov.covariances(start.means), np.float64))
    diagonal = np.diagonal(dense, axis1=1, axis2=2)
    native = {"full": dense, "tied": dense[0], "diag": diagonal, "spherical": diagonal[:, 0]}
    weights = np.exp(np.asarray(start.log_weights, np.float64))
    dtype = start.means.dtype
    given = weights / weights.sum(), np.asarray(start.means), native[family].astype(dtype)
    return GaussianMixture(
        len(weights), covariance_type=family,
        **dict(zip(("weights_init", "means_init", "precisions_init"), map(array, given),
                   strict=True)),
        **options,
    )  # fmt: skip


def torch_peer(start: gmm.GMM, family: str, x: np.ndarray) -> Callable[[], Any] | None:
    """Returns the same work by scikit-learn on torch arrays, if this machine can do it."""
    if not (os.environ.get("SCIPY_ARRAY_API") and importlib.util.find_spec("torch")):
        return None
    torch = importlib.import_module("torch")

    array = lambda a: torch.from_numpy(np.ascontiguousarray(a).astype(x.dtype))
    tensor = array(x)

    def call() -> GaussianMixture:
        with sklearn.config_context(array_api_dispatch=True):
            options = {"reg_covar": 0, "tol": 0, "max_iter": STEPS}
            # The start is given; its default way to draw one is refused with torch all the same.
            return peer(start, family, array, init_params="random", **options).fit(tensor)

    return call


def one_size(n: int, d: int, k: int, family: str, dtype: str) -> None:
    """Races `STEPS` steps on random clusters."""
    x = clusters(n, d, k, dtype)
    start = gmm.init(jax.random.key(0), x, k, family=family)
    device_x = jnp.asarray(x)

    def theirs() -> GaussianMixture:
        return peer(start, family, reg_covar=0, tol=0, max_iter=STEPS).fit(x)

    def ours() -> gmm.Fit:
        return gmm.fit(start, device_x, ridge=0.0, tol=0.0, max_steps=STEPS)

    gap = abs(float(ours().log_lik) - theirs().score(x))
    jax.clear_caches()
    rivals: dict[str, Callable[[], Any]] = {"scikit-learn": theirs}
    on_torch = torch_peer(start, family, x)
    if on_torch is not None:
        rivals["scikit-learn, torch arrays"] = on_torch
    name = f"{STEPS} steps, {n:,} × {d}, {k} {family}, {dtype}; log-likelihoods differ by {gap:.1e}"
    race(name, {**rivals, "jaxnn": ours})


def tfp_peer(x: jax.Array) -> Callable[..., jax.Array] | None:
    """Returns the log-density of TensorFlow Probability on JAX, if it is installed."""
    if not importlib.util.find_spec("tensorflow_probability"):
        return None
    # Its release 0.25 looks for a name that JAX has moved.
    moved = importlib.import_module("jax._src.core").pytype_aval_mappings
    vars(importlib.import_module("jax.interpreters.xla"))["pytype_aval_mappings"] = moved
    tfd = importlib.import_module("tensorflow_probability.substrates.jax").distributions

    def log_prob(log_weights: jax.Array, means: jax.Array, cov: jax.Array) -> jax.Array:
        parts = tfd.MultivariateNormalTriL(means, jnp.linalg.cholesky(cov))
        return tfd.MixtureSameFamily(tfd.Categorical(logits=log_weights), parts).log_prob(x)

    return log_prob


def densities(n: int, dtype: str) -> None:
    """Races log-densities and their gradients against TFP and the textbook line of JAX."""
    x = jnp.asarray(clusters(n, 16, 16, dtype))
    mixture = gmm.init(jax.random.key(0), x, 16)
    given = (mixture.log_weights, mixture.means, mixture.cov.covariances(mixture.means))

    def textbook(log_weights: jax.Array, means: jax.Array, cov: jax.Array) -> jax.Array:
        each = jax.vmap(lambda m, c: multivariate_normal.logpdf(x, m, c))(means, cov)
        return jax.nn.logsumexp(log_weights[:, None] + each, axis=0)

    def with_gradient(f: Callable[..., jax.Array], *args: Any) -> Callable[[], Any]:
        call = jax.jit(jax.value_and_grad(lambda *a: jnp.mean(f(*a)), argnums=range(len(args))))
        return lambda: call(*args)

    peers = {"TFP": tfp_peer(x), "textbook JAX": textbook}
    peers = {name: peer for name, peer in peers.items() if peer is not None}
    mine = gmm.log_prob(mixture, x)
    gap = max(float(jnp.max(jnp.abs(peer(*given) - mine))) for peer in peers.values())
    jax.clear_caches()
    name = f"{n:,} × 16, 16 full, {dtype}"
    values: dict[str, Callable[[], Any]] = {
        who: functools.partial(jax.jit(peer), *given) for who, peer in peers.items()
    }
    values["jaxnn"] = lambda: gmm.log_prob(mixture, x)
    race(f"log_prob, {name}; largest difference {gap:.1e}", values)
    slopes = {who: with_gradient(peer, *given) for who, peer in peers.items()}
    slopes["jaxnn"] = with_gradient(lambda m: gmm.log_prob(m, x), mixture)
    race(f"log_prob and its gradient, {name}", slopes)


def memory_here(n: int) -> None:
    """Prints the peak memory that two steps of EM add to the data, MB."""
    draw = jax.jit(lambda key: jax.random.normal(key, (n, 8), jnp.float32))
    x = jax.block_until_ready(draw(jax.random.key(0)))
    start = gmm.init(jax.random.key(0), x[:2000], 32, family="diag")
    print(f"{memory_added(lambda: gmm.fit(start, x, tol=0.0, max_steps=2)):.0f}")


def memory(n: int) -> None:
    """Prints the same from a process of its own, compilation included."""
    command = [sys.executable, "-m", "experiments.benchmarks.em", "--memory-of", str(n)]
    with contextlib.suppress(OSError):
        added = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        print(f"peak memory added by EM on {n:,} × 8 float32, 32 diag: {added} MB\n")


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
    parser.add_argument("--memory-of", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        memory_here(options.memory_of)
        return
    share = 10 if options.quick else 1
    jax.config.update("jax_enable_x64", True)
    warnings.simplefilter("ignore")
    print(heading())
    one_size(100_000 // share, 16, 16, "full", "float32")
    one_size(100_000 // share, 16, 16, "full", "float64")
    one_size(1_000_000 // share, 8, 32, "diag", "float32")
    one_size(200_000 // share, 64, 16, "full", "float32")
    for dtype in ("float64", "float32"):
        densities(100_000 // share, dtype)
    many_starts()
    memory(5_000_000 // share)


if __name__ == "__main__":
    main()
