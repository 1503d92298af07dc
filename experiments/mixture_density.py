"""When is a mean with an error bar not enough: does a network that returns a mixture do better?

Bishop's inverse problem, whose answer is one of several, and the progress of diabetes, whose answer
is one with noise.  The same network returns a mixture or a single Gaussian; kernel densities and
mixtures of all columns, conditioned on the inputs, are beside them.  Rows left out decide.
"""

import math
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass
from sklearn.datasets import load_diabetes

from experiments.mixture_density_report import METHODS, plot, report
from experiments.runner import STRICT, Outcome, Progress
from jaxnn import gmm, kde, mdn, mlp, sweep, train

__all__ = ["SMOKE", "TITLE", "Config", "plot", "run"]

TITLE = ("A network whose output is a mixture", "输出为混合高斯分布的神经网络")
NOISE = 0.1  # half the width of the uniform noise of the inverse problem


@dataclass(frozen=True, config=STRICT)
class Config:
    """What may be changed with --set."""

    sets: tuple[Literal["inverse problem", "diabetes"], ...] = ("inverse problem", "diabetes")
    """Data sets; the first must be among them, for the pictures."""
    splits: int = Field(default=20, ge=2)
    """Random splits: 60% to learn from, 20% to choose by, 20% to report on."""
    rows: int = Field(default=1000, ge=50)
    """Rows of the inverse problem."""
    components: int = Field(default=5, ge=1)
    """Components of the network's mixture."""
    hidden: tuple[int, ...] = (32, 32)
    """Hidden widths of both networks."""
    epochs: int = Field(default=400, ge=1)
    """The most epochs of training, of batches of 64 rows."""
    patience: int = Field(default=60, ge=1)
    """Epochs without a better validation score before training stops."""
    most: int = Field(default=10, ge=1)
    """The most components of the mixture of all columns; every number up to it is tried."""
    widths: int = Field(default=8, ge=1)
    """Kernel widths tried for the inputs, and as many for the target."""
    grid: int = Field(default=160, ge=5)
    """Places on either axis at which densities are drawn."""

    def __post_init__(self):
        if "inverse problem" not in self.sets:
            raise ValueError("sets must have the inverse problem among them")


SMOKE = {"sets": ("inverse problem",), "splits": 2, "rows": 60, "components": 2, "hidden": (4,),
         "epochs": 2, "most": 2, "widths": 2, "grid": 6}  # fmt: skip


def inverse_problem(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns x and the t that made it: x = t + 0.3 sin(2πt) + noise (Bishop, 1994)."""
    rng = np.random.default_rng(seed)
    t = rng.uniform(size=(n, 1))
    return t + 0.3 * np.sin(2 * np.pi * t) + rng.uniform(-NOISE, NOISE, size=(n, 1)), t


def truth(x: np.ndarray) -> np.ndarray:
    """Returns log p(t | x) of every t that can have made x: all such t are equally likely."""
    t = (np.arange(20_000) + 0.5) / 20_000
    middle = t + 0.3 * np.sin(2 * np.pi * t)
    return np.array([-np.log(np.mean(np.abs(v - middle) < NOISE)) for v in x[:, 0]])


class Fitted(NamedTuple):
    """What each method made of the rows to learn from."""

    network: mdn.MDN
    single: mlp.Params
    mixture: gmm.GMM
    kernels: kde.KDE
    alone: gmm.GMM


def conditionals(fitted: Fitted, x: Any, y: Any) -> Any:
    """Returns log p(y | x) by all methods, in the order of METHODS."""
    d = x.shape[1]
    joint = jnp.concatenate([x, y], axis=1)
    outputs = mlp.apply(fitted.single, x, activation="tanh")
    given = gmm.condition(fitted.mixture, tuple(range(d)), x)
    return jnp.stack([
        mdn.log_prob(fitted.network, x, y),
        -mlp.LOSSES["gaussian"].value(outputs, y),
        jax.vmap(lambda m, row: gmm.log_prob(m, row[None])[0])(given, y),
        kde.conditional_log_prob(fitted.kernels, tuple(range(d)), joint),
        gmm.log_prob(fitted.alone, y),
    ])  # fmt: skip


def fit(key: Any, learn: Any, watch: Any, config: Config) -> Fitted:
    """Fits every method to rows `learn`; what it has to choose, it chooses by rows `watch`."""
    (x, y), (xv, yv) = learn, watch
    d = x.shape[1]
    keys = jax.random.split(key, 5)
    one = gmm.init(keys[0], y, config.components, family="spherical")
    alone = gmm.fit(one, y, ridge=1e-3).mixture

    def trained(key: Any, params: Any, descend: Any) -> Any:
        return train.fit(
            key, params, train.Batch(x, y), descend, epochs=config.epochs, batch_size=64,
            learning_rate=3e-3, validation=train.Batch(xv, yv), patience=config.patience,
        ).params  # fmt: skip

    network = trained(keys[1], mdn.init(keys[1], alone, d, config.hidden), MIXTURE)
    start = mlp.init(keys[1], (d, *config.hidden, 2), activation="tanh")
    single = trained(keys[1], start, SINGLE)

    joint, held = jnp.concatenate([x, y], axis=1), jnp.concatenate([xv, yv], axis=1)

    def of_number(k: Any) -> Any:
        begun = gmm.init(keys[2], joint, config.most, active=k)
        mixture = gmm.fit(begun, joint, ridge=1e-2).mixture
        inputs = gmm.marginal(mixture, tuple(range(d)))
        return mixture, jnp.mean(gmm.log_prob(mixture, held) - gmm.log_prob(inputs, xv))

    mixtures, scores = jax.lax.map(of_number, jnp.arange(1, config.most + 1))
    mixture = jax.tree.map(lambda leaf: leaf[jnp.argmax(scores)], mixtures)

    scott = kde.scott(joint, None)

    def of_widths(factors: Any) -> Any:
        width = scott * jnp.concatenate([jnp.full(d, factors[0]), factors[1:]])
        model = kde.fit(joint, bandwidth=width)
        return width, jnp.mean(kde.conditional_log_prob(model, tuple(range(d)), held))

    axes = (jnp.geomspace(0.1, 3.0, config.widths), jnp.geomspace(0.05, 2.0, config.widths))
    factors = jnp.stack(jnp.meshgrid(*axes), axis=-1).reshape(-1, 2).astype(x.dtype)
    widths, scores = jax.lax.map(of_widths, factors)
    kernels = kde.fit(joint, bandwidth=widths[jnp.argmax(scores)])
    return Fitted(network, single, mixture, kernels, alone)


MIXTURE = mdn.value_and_grad()
SINGLE = mlp.value_and_grad("gaussian", activation="tanh")


def parts(n: int) -> tuple[int, int]:
    """Returns how many of n rows are for choosing, and for the report."""
    return n // 5, n // 5


def split(key: Any, x: Any, y: Any) -> Any:
    """Returns rows to learn from, to choose by and to report on, in units of the first."""
    watch, test = parts(x.shape[0])
    order = jax.random.permutation(key, x.shape[0])
    cuts = jnp.split(order, [watch, watch + test])
    scales = [train.Standardiser.of(a[cuts[2]]) for a in (x, y)]
    pairs = [tuple(s.apply(a[rows]) for s, a in zip(scales, (x, y), strict=True)) for rows in cuts]
    return pairs[2], pairs[0], pairs[1], scales, cuts[1]


def one_split(hp: Any, key: Any, x: Any, y: Any, *, config: Config) -> Any:
    """Log density of the rows to report on by each method; which rows; and what was fitted."""
    del hp
    key_split, key_fit = jax.random.split(key)
    learn, watch, test, scales, rows = split(key_split, x, y)
    fitted = fit(key_fit, learn, watch, config)
    nats = conditionals(fitted, *test)
    return jnp.mean(nats, axis=1) - jnp.log(scales[1].scale[0]), rows, (fitted, scales)


@partial(jax.jit, static_argnames="grid")
def scene(fitted: Fitted, scales: Any, grid: int) -> Any:
    """Densities of the inverse problem on a grid, by the methods as fitted to one split."""
    at = jnp.linspace(-0.05, 1.05, grid, dtype=jnp.float32)
    pairs = jnp.stack(jnp.meshgrid(at, at), axis=-1).reshape(-1, 2)
    inputs, targets = (s.apply(pairs[:, i : i + 1]) for i, s in enumerate(scales))
    nats = conditionals(fitted, inputs, targets) - jnp.log(scales[1].scale[0])
    return at, jnp.exp(nats).reshape(len(METHODS), grid, grid)


def run(config: Config, seed: int, progress: Progress) -> Outcome:
    """Fits all methods to the same splits of both data sets."""
    patients: Any = load_diabetes()
    sets = {
        "inverse problem": inverse_problem(seed, config.rows),
        "diabetes": (np.asarray(patients.data), np.asarray(patients.target)[:, None]),
    }
    sets = {name: sets[name] for name in config.sets}
    key = jax.random.key(seed)
    nats: dict[str, np.ndarray] = {}
    arrays: dict[str, Any] = {}
    fit_one = partial(one_split, config=config)
    with progress.task("data sets", len(sets)) as advance:
        for name, rows in sets.items():
            x, y = (jnp.asarray(a, jnp.float32) for a in rows)
            space = sweep.grid(seed=range(config.splits))
            found, chosen, models = progress.sweep(fit_one, space, key, x, y).results
            nats[name] = np.asarray(found, float)
            if name == "inverse problem":
                true = truth(rows[0])
                first = jax.tree.map(lambda leaf: leaf[0], models)
                places, densities = scene(*first, config.grid)
                arrays = {
                    "places": places, "densities": densities, "x": x[:, 0], "t": y[:, 0],
                    "truth": np.array([true[test].mean() for test in np.asarray(chosen)]),
                }  # fmt: skip
            advance()
    if not all(math.isfinite(v) for v in np.concatenate([a.ravel() for a in nats.values()])):
        raise FloatingPointError("a method left a row with no density")
    return report(config, nats, arrays)
