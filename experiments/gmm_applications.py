"""Can a Gaussian mixture find the kinds of flowers and wines, and the parts of a photograph?

Clustering of labelled data, scored against the labels that it has not seen, beside k-means; and the
colours of two photographs, taken apart by a mixture.
"""

from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from pydantic import Field
from pydantic.dataclasses import dataclass
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris, load_sample_images, load_wine

from experiments.page import Section, Table, span
from experiments.runner import STRICT, Outcome, Progress
from jaxnn import gmm, metrics, sweep, train
from jaxnn.plot import style

TITLE = ("Mixtures at work: clusters and colours", "GMM 应用：聚类与图像颜色分割")
SETS = {"iris": load_iris, "wine": load_wine}
mean_interval = jax.jit(metrics.mean_interval)  # one program, not one for each operation
PHOTOGRAPHS = ("china", "flower")


@dataclass(frozen=True, config=STRICT)
class Config:
    """What may be changed with --set."""

    sets: tuple[Literal["iris", "wine"], ...] = ("iris", "wine")
    """The labelled sets."""
    families: tuple[Literal["full", "tied", "diag", "spherical"], ...] = (
        "full", "tied", "diag", "spherical",
    )  # fmt: skip
    """Covariance families of the mixtures that cluster."""
    seeds: int = Field(default=20, ge=2)
    """Repetitions of every clustering."""
    starts: int = Field(default=10, ge=1)
    """Starts in each repetition, of which the most likely (k-means: the tightest) counts."""
    colours: tuple[int, ...] = (3, 8)
    """Numbers of components for the photographs."""
    stride: int = Field(default=4, ge=1, le=100)
    """Every how many rows and columns of pixels the mixture learns from."""
    show: int = Field(default=1, ge=1, le=100)
    """Every how many rows and columns of pixels the pictures show."""


SMOKE = {
    "sets": ["iris"], "families": ["tied"], "seeds": 2, "starts": 1, "colours": [2],
    "stride": 40, "show": 20,
}  # fmt: skip


def cluster(hp: Any, key: Any, x: Any, *, k: int, family: str, starts: int) -> Any:
    """One repetition: the clusters of the most likely of some mixtures."""
    del hp
    one = lambda key: gmm.fit(gmm.init(key, x, k, family=family), x, ridge=1e-3, tol=1e-5)
    fits = jax.vmap(one)(jax.random.split(key, starts))
    best = jax.tree.map(lambda a: a[jnp.argmax(fits.log_lik)], fits)
    return gmm.predict(best.mixture, x)


@partial(jax.jit, static_argnames="k")
def agreement(clusters: Any, truth: Any, *, k: int) -> Any:
    """Adjusted Rand index of each row of clusters with the truth."""
    return jax.vmap(lambda found: metrics.adjusted_rand(found, truth, k))(clusters)


def clusterings(config: Config, seed: int, progress: Progress) -> dict[str, dict[str, np.ndarray]]:
    """Adjusted Rand index of every method on every set, one for each seed."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for name in config.sets:
        data: Any = SETS[name]()
        k, truth = len(data.target_names), jnp.asarray(data.target)
        x = train.as_float(data.data, jnp.float32)
        x = train.Standardiser.of(x).apply(x)
        space = sweep.grid(seed=range(config.seeds))
        found[name] = {}
        with progress.task(f"clusters of {name}", len(config.families) + 1) as advance:
            for family in config.families:
                fit_one = partial(cluster, k=k, family=family, starts=config.starts)
                result = progress.sweep(fit_one, space, jax.random.key(seed), x)
                found[name][f"mixture, {family}"] = np.asarray(
                    agreement(result.results, truth, k=k)
                )
                advance()
            peer: Any = KMeans  # the stubs of scikit-learn take no whole number for n_init
            peers = [
                peer(k, n_init=config.starts, random_state=seed + i).fit_predict(np.asarray(x))
                for i in range(config.seeds)
            ]
            found[name]["k-means (scikit-learn)"] = np.asarray(
                agreement(np.stack(peers), truth, k=k)
            )
            advance()
    return jax.device_get(found)


@partial(jax.jit, static_argnames="k")
def paint(key: Any, learn: Any, rows: Any, *, k: int) -> Any:
    """The mean colour of the component of each row, from the best of three fits to `learn`."""
    one = lambda key: gmm.fit(gmm.init(key, learn, k), learn, ridge=1e-3, max_steps=100)
    fits = jax.lax.map(one, jax.random.split(key, 3))
    best = jax.tree.map(lambda a: a[jnp.argmax(fits.log_lik)], fits)
    return best.mixture.means[gmm.predict(best.mixture, rows)]


def segment(pixels: np.ndarray, k: int, key: Any, config: Config) -> tuple[np.ndarray, float]:
    """The picture with each pixel in its component's mean colour, and the variance explained."""
    learn = jnp.asarray(pixels[:: config.stride, :: config.stride].reshape(-1, 3))
    painted = np.asarray(paint(key, learn, jnp.asarray(pixels.reshape(-1, 3)), k=k))
    left = np.square(painted - pixels.reshape(-1, 3)).sum()
    total = np.square(pixels.reshape(-1, 3) - pixels.reshape(-1, 3).mean(axis=0)).sum()
    return painted.reshape(pixels.shape), float(1 - left / total)


def run(config: Config, seed: int, progress: Progress) -> Outcome:
    """Clusters the labelled sets, then segments the photographs."""
    scores = clusterings(config, seed, progress)
    arrays: dict[str, np.ndarray] = {}
    explained: dict[str, dict[int, float]] = {}
    images: Any = load_sample_images()
    tasks = len(PHOTOGRAPHS) * len(config.colours)
    with progress.task("colours", tasks) as advance:
        for name, image in zip(PHOTOGRAPHS, images.images, strict=True):
            pixels = np.asarray(image, np.float32) / 255
            small = np.s_[:: config.show, :: config.show]
            arrays[name] = np.asarray(image)[small]
            explained[name] = {}
            for k in config.colours:
                key = jax.random.fold_in(jax.random.key(seed), k)
                painted, explained[name][k] = segment(pixels, k, key, config)
                arrays[f"{name} {k}"] = np.round(255 * painted[small].clip(0, 1)).astype(np.uint8)
                advance()

    bars = {
        name: {method: list(map(float, mean_interval(values)))
               for method, values in methods.items()}
        for name, methods in scores.items()
    }  # fmt: skip
    words = []
    for name, methods in bars.items():
        means = {method: mean for method, (mean, _, _) in methods.items()}
        best = max((m for m in means if m.startswith("mixture")), key=means.__getitem__)
        peer = methods["k-means (scikit-learn)"]
        words.append(
            f"on {name} the {best.removeprefix('mixture, ')} mixture reaches an adjusted Rand "
            f"index of {span(methods[best])} against {span(peer)} of k-means"
        )
    k = max(config.colours)
    shares = " and ".join(f"{explained[name][k]:.0%} ({name})" for name in PHOTOGRAPHS)
    said = ", ".join(words)
    finding = (
        f"{said[0].upper()}{said[1:]}; {k} components explain {shares} of the "
        "colour variance of two photographs."
    )
    methods = list(next(iter(bars.values())))
    table = Table(
        ["method", *bars],
        [[method, *(span(bars[name][method]) for name in bars)] for method in methods],
        f"Adjusted Rand index with 95% intervals over {config.seeds} repetitions of "
        f"{config.starts} starts; 1 is the partition by label, 0 chance. No width means that every "
        "repetition found the same clusters.",
    )
    winner = {
        name: max(methods, key=lambda m, name=name: bars[name][m][0]) for name in bars
    }  # fmt: skip
    sections = [
        Section(
            "Clusters",
            "150 irises of three species (Fisher, 1936; four lengths) and 178 wines of three "
            "cultivars (13 chemical measurements), standardised, without their labels. k-means "
            "sees round clusters of one size; a mixture with full covariances also sees long and "
            "tilted ones, which two of the iris species are, and is expected to win there (Fraley "
            "and Raftery, 2002). With 13 features and 178 rows a full covariance has 91 numbers a "
            "component, so that a simpler family should do better on the wines. Best were here: "
            + "; ".join(f"{name}: {method}" for name, method in winner.items()) + ".",
            {"clusters": "Adjusted Rand index by method; whiskers are 95% intervals."},
            table,
        ),
        Section(
            "Colours",
            "A pixel is a point in the space of red, green and blue. A mixture with full "
            "covariances, fitted to a sixteenth of the pixels, gives every pixel to its most "
            "probable component; the picture is painted in the mean colours. Nothing knows where a "
            "pixel lies, and yet roof, sky, leaf and petal come apart.",
            {name: f"{name}: the photograph, and its segmentation." for name in PHOTOGRAPHS},
        ),
    ]  # fmt: skip
    return Outcome(
        finding=finding,
        metrics={"adjusted_rand": bars, "variance_explained": explained,
                 "colours": list(config.colours)},
        arrays={
            **arrays,
            **{f"scores {name} {method}": values for name, methods in scores.items()
               for method, values in methods.items()},
        },
        sections=sections,
        table=table,
    )  # fmt: skip


def plot(outcome: Outcome) -> dict[str, Figure]:
    """Draws the scores, and each photograph beside its segmentations."""
    return {
        "clusters": _clusters(outcome),
        **{name: _segments(outcome, name) for name in PHOTOGRAPHS},
    }


def _clusters(outcome: Outcome) -> Figure:
    bars = outcome.metrics["adjusted_rand"]
    figure = Figure(figsize=(9.0, 3.6))
    axes = figure.subplots(1, len(bars), sharey=True, squeeze=False)[0]
    for ax, (name, methods) in zip(axes, bars.items(), strict=True):
        places = np.arange(len(methods))[::-1]
        means, lows, highs = np.array(list(methods.values())).T
        colors = [style.BLUE if m.startswith("mixture") else style.ORANGE for m in methods]
        ax.barh(places, means, xerr=[means - lows, highs - means], color=colors, height=0.65,
                error_kw={"capsize": 4, "elinewidth": 1.5})  # fmt: skip
        for place, mean, high in zip(places, means, highs, strict=True):
            ax.text(max(mean, high) + 0.02, place, f"{mean:.2f}", va="center")
        ax.set_yticks(places, [method.replace(" (", "\n(") for method in methods])
        ax.set(title=name, xlim=(0, 1.1), xlabel="adjusted Rand index")
        ax.grid(axis="y", visible=False)
    return figure


def _segments(outcome: Outcome, name: str) -> Figure:
    counts = outcome.metrics["colours"]
    height, width = outcome.arrays[name].shape[:2]
    columns = 1 + len(counts)
    figure = Figure(figsize=(11.0, 11.0 / columns * height / width + 0.35))
    titles = ["photograph", *(f"{k} components" for k in counts)]
    pictures = [outcome.arrays[name], *(outcome.arrays[f"{name} {k}"] for k in counts)]
    for ax, title, picture in zip(figure.subplots(1, columns), titles, pictures, strict=True):
        ax.imshow(picture)
        ax.set_title(title)
        ax.set_axis_off()
    return figure
