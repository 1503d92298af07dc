"""What does SQUAREM save over plain EM, in passes over the data and in seconds?

Same start, same tolerance on one step of EM, float64; both are told how far they got.
"""

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_iris

from experiments import datasets
from experiments.benchmarks.harness import heading, race
from jaxnn import gmm

TOL = 1e-9
MAX_STEPS = 20_000


def overlapping() -> np.ndarray:
    """Returns 1,000 rows of two Gaussians in the plane, one standard deviation apart."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(1000, 2)) + np.repeat([[0.0, 0.0], [1.0, 0.5]], 500, axis=0)


def main() -> None:
    """Runs all races."""
    jax.config.update("jax_enable_x64", True)
    print(heading())
    faithful = datasets.faithful().astype(np.float64)
    problems = {
        "Old Faithful, k = 2": (faithful, 2),
        "Old Faithful, k = 3": (faithful, 3),
        "iris, k = 3": (load_iris(return_X_y=True)[0], 3),
        "overlapping, k = 2": (overlapping(), 2),
    }
    for name, (rows, k) in problems.items():
        x = jnp.asarray(rows)
        start = gmm.init(jax.random.key(0), x, k)
        fits = {
            label: lambda x=x, start=start, on=on: gmm.fit(
                start, x, ridge=0.0, tol=TOL, max_steps=MAX_STEPS, accelerate=on
            )
            for label, on in (("EM", False), ("SQUAREM", True))
        }
        ends = {label: run() for label, run in fits.items()}
        told = "; ".join(
            f"{label} {int(end.steps)} passes to {float(end.log_lik) * len(rows):.4f}"
            for label, end in ends.items()
        )
        race(f"{name}: {told}", fits)


if __name__ == "__main__":
    main()
