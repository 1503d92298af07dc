"""What experiments on small networks share: few digits, errors, paired differences, trajectories.

Shapes: n rows, s seeds.  Errors and accuracies are fractions; differences are percentage points.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes

from experiments import datasets
from jaxnn import metrics, mlp, train
from jaxnn.plot import style

CLASSES = 10
# jaxlib 0.10.2 sums short rows wrongly on CPUs where a program holds more of them than 32768
# (github.com/jax-ml/jax/issues/39103); so many members may judge the 719 test rows at once.
MEMBERS = 2**15 // 719


class Digits(NamedTuple):
    """A pool from which members draw few rows, rows to choose by, and rows to report on."""

    pool: train.Batch
    validation: train.Batch
    test: train.Batch


class Draw(NamedTuple):
    """What one seed works with: its rows (some labels wrong), and keys of its own."""

    rows: train.Batch
    key_init: Any
    key_train: Any


def load(seed: int) -> Digits:
    """Returns the digits in three parts: 40 %, 20 % and 40 % of 1797."""
    parts = datasets.digits(seed, validation=0.2, test=0.4)[:3]
    return Digits(*(train.Batch(x=jnp.asarray(p.x), y=jnp.asarray(p.y)) for p in parts))


def corrupt(key: Any, y: Any, noise: Any) -> Any:
    """Returns labels of which a share `noise` (traced) was replaced by another class."""
    key_which, key_shift = jax.random.split(key)
    wrong = jax.random.bernoulli(key_which, noise, y.shape)
    shift = jax.random.randint(key_shift, y.shape, 1, CLASSES)
    return jnp.where(wrong, (y + shift) % CLASSES, y)


def draw(key: Any, pool: train.Batch, n: int, noise: Any = 0.0) -> Draw:
    """Returns `n` random rows of the pool, the share `noise` of their labels wrong, and keys."""
    key_rows, key_noise, key_init, key_train = jax.random.split(key, 4)
    (rows,) = train.split(key_rows, pool, (n,))
    return Draw(rows._replace(y=corrupt(key_noise, rows.y, noise)), key_init, key_train)


def start(key: Any, hidden: int) -> Any:
    """Returns a network with one hidden layer to start from."""
    return mlp.init(key, (64, hidden, CLASSES))


def accuracy(params: Any, rows: train.Batch, **options: Any) -> Any:
    """Returns the share of `rows` that a network reads as they are labelled."""
    return metrics.accuracy(mlp.predict(params, rows.x, **options), rows.y)


def error(params: Any, rows: train.Batch) -> Any:
    """Returns the share of `rows` that a network reads wrongly: a score for `train.fit`."""
    return 1 - accuracy(params, rows)


def follow(
    key: Any,
    params: Any,
    descend: Callable[[Any, Any], tuple[Any, Any]],
    measure: Callable[[Any], Any],
    *,
    optimizer: str,
    learning_rate: Any,
    stretches: int,
    steps: int = 1,
) -> Any:
    """Returns what `measure(params)` saw at the start and after each stretch of `steps` steps.

    `train.fit` keeps one score an epoch; here any pytree is kept.  `descend(params, key)` gives
    value and gradient.
    """
    transformation = train.optimizer(optimizer, learning_rate)

    def step(carry: Any, i: Any) -> Any:
        params, state = carry
        _, gradient = descend(params, jax.random.fold_in(key, i))
        updates, state = transformation.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), None

    def stretch(carry: Any, i: Any) -> Any:
        carry, _ = jax.lax.scan(step, carry, i * steps + jnp.arange(steps))
        return carry, measure(carry[0])

    _, seen = jax.lax.scan(stretch, (params, transformation.init(params)), jnp.arange(stretches))
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), measure(params), seen)


@jax.jit
def _intervals(rows: Any) -> Any:
    return jnp.stack(jax.vmap(metrics.mean_interval)(rows), axis=-1)


def intervals(values: Any, scale: float = 1.0) -> np.ndarray:
    """Returns mean, low and high over seeds for every entry of `values` (..., s): (..., 3)."""
    array = scale * np.asarray(values, np.float32)
    ends = _intervals(array.reshape(-1, array.shape[-1]))
    return np.asarray(ends).reshape(*array.shape[:-1], 3)


def points(ends: Any) -> str:
    """Returns a difference in percentage points in words, with its interval."""
    mean, low, high = ends
    return f"{mean:+.1f} points (95 % interval {low:+.1f} to {high:+.1f})"


def percent(ends: Any) -> str:
    """Returns a percentage with its interval."""
    mean, low, high = ends
    return f"{mean:.1f} % [{low:.1f}, {high:.1f}]"


def verdict(ends: Any) -> str:
    """Returns what the interval of a gain says: a verb for a sentence."""
    _, low, high = ends
    if low > 0:
        return "helps"
    return "hurts" if high < 0 else "makes no difference that the seeds can show"


def gain_curve(ax: Axes, x: Any, ends: Any, *, label: str, color: str, marker: str = "o") -> None:
    """Draws mean differences (k, 3) with their intervals over `x`, and the line of no gain."""
    ends = np.asarray(ends)
    if not ax.lines:
        ax.axhline(0, color="#888888", linewidth=1.2, zorder=1)
    ax.fill_between(x, ends[:, 1], ends[:, 2], color=color, alpha=0.2, linewidth=0)
    ax.plot(x, ends[:, 0], marker=marker, color=color, label=label, markersize=6)


def mean_curve(
    ax: Axes, x: Any, values: Any, *, label: str, color: str, linestyle: str = "-"
) -> None:
    """Draws the mean of `values` (s, k) over seeds with its 95 % interval."""
    ends = intervals(np.moveaxis(np.asarray(values), 0, -1))
    ax.fill_between(x, ends[:, 1], ends[:, 2], color=color, alpha=0.25, linewidth=0)
    ax.plot(x, ends[:, 0], color=color, label=label, linestyle=linestyle)


NOISE_COLORS = (style.BLUE, style.VERMILION)
