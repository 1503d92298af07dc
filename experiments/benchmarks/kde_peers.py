"""Other people's kernel densities, each where it is installed: `pip install -e .[peers]`."""

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

Rivals = dict[str, Callable[[], Any]]


def peer(name: str) -> Any:
    """Returns a peer's module, None where it is not installed."""
    return importlib.import_module(name) if importlib.util.find_spec(name) else None


def exact(x: np.ndarray, y: np.ndarray, h: float) -> Rivals:
    """Returns densities of all pairs: kern's (float64) and the line one writes in torch."""
    rivals: Rivals = {}
    if kern := peer("kern"):
        model = kern.MultivariateKernelDensity(bandwidth=h).fit(x)
        rivals["kern"] = lambda: model.evaluate(y)
    if torch := peer("torch"):

        def by_hand(dtype: Any) -> Any:
            points, queries = (torch.as_tensor(a / h, dtype=dtype) for a in (x, y))
            parts = [
                torch.logsumexp(-0.5 * torch.cdist(part, points) ** 2, dim=1)
                for part in queries.split(1000)
            ]
            return torch.cat(parts)

        rivals["torch by hand, float32"] = lambda: by_hand(torch.float32)
        rivals["torch by hand, float64"] = lambda: by_hand(torch.float64)
    return rivals


def on_grid(x: np.ndarray, axis: np.ndarray, h: float) -> Rivals:
    """Returns densities on the grid of `axis` along every feature: KDEpy's, and KDExpress's."""
    rivals: Rivals = {}
    d = x.shape[1]
    if kdepy := peer("KDEpy"):
        flat = np.stack(np.meshgrid(*[axis] * d, indexing="ij"), axis=-1).reshape(-1, d)
        shape = (len(axis),) * d
        rivals["KDEpy"] = lambda: kdepy.FFTKDE(bw=h).fit(x).evaluate(flat).reshape(shape)
    if express := peer("KDExpress"):
        rows, nodes = jnp.asarray(x, "float32"), jnp.asarray(axis, "float32")
        if d == 1:
            rivals["KDExpress, float32"] = lambda: express.fft_kde1d(nodes, rows[:, 0], bw=h)
        else:
            share = jnp.full(len(x), 1 / len(x), "float32")  # its default is refused by JAX
            rivals["KDExpress, float32"] = lambda: express.fft_kde2d(
                nodes, nodes, rows, share, bw=(h, h)
            )
    return rivals


def leave_one_out(x: np.ndarray, widths: np.ndarray) -> Rivals:
    """Returns kernelsmooth's leave-one-out sums, one bandwidth after another."""
    if not (smooth := peer("kernelsmooth")):
        return {}
    sums = smooth.kernel_density._get_kde_loo
    return {"kernelsmooth": lambda: [sums(x, np.full(x.shape[1], h)) for h in widths]}


def batch(x: np.ndarray, y: np.ndarray, h: float) -> Rivals:
    """Returns KDEpy's densities of many small sets of one feature, in a loop."""
    if not (kdepy := peer("KDEpy")):
        return {}
    one = lambda a, b: kdepy.NaiveKDE(bw=h).fit(a).evaluate(b)
    return {"KDEpy, a loop": lambda: [one(a, b) for a, b in zip(x, y, strict=True)]}
