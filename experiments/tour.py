"""What can jaxnn learn from 1,797 handwritten digits, by density and by network?

Generate: mixtures and a kernel density of the images, new digits drawn from both, and Bayes'
classifier from one density per class.  Discriminate: a network, from a sweep of 256.
"""

import warnings
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from experiments import datasets
from experiments.runner import STRICT, Outcome, Progress
from experiments.tour_report import plot, report
from jaxnn import gmm, kde, metrics, mlp, sweep, train

__all__ = ["SMOKE", "TITLE", "Config", "plot", "run"]

TITLE = ("A tour of jaxnn", "jaxnn 导览：从密度估计到神经网络")
Families = tuple[Literal["full", "tied", "diag", "spherical"], ...]


@dataclass(frozen=True, config=STRICT)
class Config:
    """What may be changed with --set."""

    pca: int = Field(default=25, ge=2, le=64)
    """Principal components in which the densities live."""
    families: Families = Field(default=("full", "tied", "diag", "spherical"), min_length=1)
    """Covariance families of the mixtures."""
    components: tuple[int, ...] = (1, 2, 3, 5, 8, 12, 16, 24, 32, 40, 50, 60)
    """Numbers of mixture components to choose from by BIC."""
    starts: int = Field(default=4, ge=1)
    """Starts of EM for each number of components."""
    class_components: tuple[int, ...] = (1, 2, 3, 4, 6)
    """Numbers of components of one class's mixture, chosen by validation accuracy."""
    bandwidths: int = Field(default=64, ge=2)
    """Bandwidths to choose from, evenly spaced in the logarithm between 0.1 and 3."""
    hidden: tuple[int, ...] = (128, 64)
    """Widths of the network's hidden layers."""
    epochs: int = Field(default=80, ge=1)
    """The most epochs of training."""
    patience: int = Field(default=12, ge=1)
    """Epochs without a better validation loss before a network stops."""
    batch_size: int = Field(default=64, ge=1)
    """Images in a step of training."""
    learning_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2)
    """Step lengths of Adam in the sweep."""
    l2: tuple[float, ...] = (0.0, 1e-5, 1e-4, 1e-3)
    """Weights λ of the penalty λ‖W‖² in the sweep."""
    keep_probs: tuple[float, ...] = (1.0, 0.9, 0.7, 0.5)
    """Probabilities of keeping a hidden unit in the sweep."""
    seeds: int = Field(default=4, ge=1)
    """Seeds for each configuration of the sweep."""
    chunk: int = Field(default=32, ge=1)
    """Networks in one compiled call."""


SMOKE = {
    "pca": 6, "families": ["diag"], "components": [1, 3], "starts": 2,
    "class_components": [1], "bandwidths": 4, "hidden": [8], "epochs": 2,
    "learning_rates": [1e-2, 1e-3], "l2": [0.0], "keep_probs": [1.0, 0.5], "seeds": 1,
}  # fmt: skip


class Parts(NamedTuple):
    """The three parts of a data set, as rows of one kind."""

    train: Any
    validation: Any
    test: Any


def fit_mixture(hp: Any, key: Any, x: Any, weight: Any, *, most: int, family: str) -> Any:
    """One member of a sweep over mixtures: its fit, and its BIC."""
    start = gmm.init(
        key, x, most, family=family, sample_weight=weight, active=hp["components"]
    )  # fmt: skip
    fit = gmm.fit(start, x, sample_weight=weight)
    return fit, gmm.bic(fit.mixture, x, weight)


def fit_class_mixture(hp: Any, key: Any, x: Any, y: Any, *, most: int, family: str) -> Any:
    """The mixture of one class: the rows of the others have weight zero."""
    weight = (y == hp["digit"]).astype(x.dtype)
    return fit_mixture(hp, key, x, weight, most=most, family=family)[0].mixture


def fit_kde(hp: Any, key: Any, x: Any, y: Any, validation: Any, truth: Any) -> Any:
    """One bandwidth: held-out log-likelihood, and accuracy of Bayes' rule by class densities."""
    del key  # a kernel density draws nothing
    together = kde.fit(x, bandwidth=hp["bandwidth"])
    logs = class_log_probs(kde_by_class(x, y, hp["bandwidth"]), kde.log_prob, validation)
    return jnp.mean(kde.log_prob(together, validation)), decide(logs, y, truth)


def kde_by_class(x: Any, y: Any, bandwidth: Any) -> kde.KDE:
    """The kernel densities of all classes, in one batched model."""
    weights = (y[None, :] == jnp.arange(10)[:, None]).astype(x.dtype)
    return jax.vmap(lambda w: kde.fit(x, bandwidth=bandwidth, sample_weight=w))(weights)


def class_log_probs(models: Any, log_prob: Any, x: Any) -> Any:
    """The log-density of each row under each class's model, shape (classes, rows)."""
    return jax.vmap(lambda model: log_prob(model, x))(models)


def decide(logs: Any, y: Any, truth: Any) -> Any:
    """The accuracy of Bayes' rule: the class with the largest density times prior."""
    priors = jnp.log(jnp.bincount(y, length=10) / y.size)
    return metrics.accuracy(jnp.argmax(logs + priors[:, None], axis=0), truth)


def fit_network(hp: Any, key: Any, data: Parts, *, config: Config) -> Any:
    """One network of the sweep: its training, and its accuracy on the validation images."""
    key_init, key_train = jax.random.split(key)
    params = mlp.init(key_init, (data.train.x.shape[1], *config.hidden, 10))
    trained = train.fit(
        key_train,
        params,
        train.Batch(*data.train),
        mlp.value_and_grad("softmax_cross_entropy", keep_prob=hp["keep_prob"]),
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=hp["learning_rate"],
        l2=hp["l2"],
        validation=train.Batch(*data.validation),
        patience=config.patience,
    )
    hit = lambda rows: metrics.accuracy(mlp.predict(trained.params, rows.x), rows.y)
    return trained, hit(data.validation), hit(data.test)


def run(config: Config, seed: int, progress: Progress) -> Outcome:
    """Runs both halves on the same split and gathers what they found."""
    digits = datasets.digits(seed)
    data = Parts(*(jax.tree.map(jnp.asarray, part) for part in digits[:3]))
    key_generate, key_discriminate = jax.random.split(jax.random.key(seed))
    found = {
        **generate(config, key_generate, data, progress),
        **discriminate(config, key_discriminate, data, seed, progress),
    }
    return report(config, digits.test, found)


def generate(config: Config, key: Any, data: Parts, progress: Progress) -> dict[str, Any]:
    """Densities of the images in the coordinates of their principal components."""
    pca = PCA(config.pca, random_state=0).fit(np.asarray(data.train.x))
    z = Parts(*(jnp.asarray(pca.transform(np.asarray(p.x)), jnp.float32) for p in data))
    y = data.train.y
    keys = dict(zip(("mixture", "kde", "class", "sample"), jax.random.split(key, 4), strict=True))
    ones = jnp.ones(len(y), jnp.float32)
    most = max(config.components)

    space = sweep.grid(components=config.components, start=range(config.starts))
    bics, best = {}, {}
    for family in config.families:
        fit_one = partial(fit_mixture, most=most, family=family)
        with progress.task(f"mixtures, {family}", len(space["start"])) as advance:
            result = progress.sweep(
                fit_one, space, keys["mixture"], z.train, ones,
                chunk=config.starts, progress=advance,
            )  # fmt: skip
        bics[family] = np.asarray(result.results[1]).reshape(-1, config.starts)
        best[family] = sweep.best(result, lambda r: r[1])
    family = min(best, key=lambda name: float(best[name].result[1]))
    mixture = best[family].result[0].mixture

    widths = jnp.geomspace(0.1, 3.0, config.bandwidths)
    with progress.task("kernel density", config.bandwidths) as advance:
        result = progress.sweep(
            fit_kde, {"bandwidth": widths}, keys["kde"],
            z.train, y, z.validation, data.validation.y, chunk=8, progress=advance,
        )  # fmt: skip
    width = sweep.best(result, lambda r: r[0], mode="max").hparams["bandwidth"]
    class_width = sweep.best(result, lambda r: r[1], mode="max").hparams["bandwidth"]
    density = kde.fit(z.train, bandwidth=width)

    single = gmm.fit(gmm.init(keys["mixture"], z.train, 1), z.train).mixture
    held_out = {
        "one Gaussian": gmm.log_prob(single, z.test),
        **{
            f"{name} mixture": gmm.log_prob(member.result[0].mixture, z.test)
            for name, member in best.items()
        },
        "kernel density by Scott's rule": kde.log_prob(kde.fit(z.train, bandwidth="scott"), z.test),
        "validated kernel density": kde.log_prob(density, z.test),
    }
    intervals = {name: metrics.mean_interval(values) for name, values in held_out.items()}
    key_mixture, key_kde = jax.random.split(keys["sample"])
    back = lambda rows: np.clip(pca.inverse_transform(np.asarray(rows)), 0, 1)
    return {
        "explained": float(pca.explained_variance_ratio_.sum()),
        "bics": bics,
        "best": {n: (int(b.hparams["components"]), float(b.result[1])) for n, b in best.items()},
        "family": family,
        "widths": np.asarray(widths),
        "kde_likelihood": np.asarray(result.results[0]),
        "width": float(width),
        "rules": {
            name: float(jnp.exp(jnp.mean(jnp.log(rule(z.train, None)))))
            for name, rule in (("scott", kde.scott), ("silverman", kde.silverman))
        },
        "held_out": {name: [float(end) for end in ends] for name, ends in intervals.items()},
        "means": back(mixture.means[: best[family].hparams["components"]]),
        "samples": {
            "mixture": back(gmm.sample(key_mixture, mixture, 20)),
            "kernel density": back(kde.sample(key_kde, density, 20)),
        },
        "bayes": {
            **bayes_mixtures(config, keys["class"], data, z, progress),
            f"kernel densities (h = {float(class_width):.2f})": float(
                decide(
                    class_log_probs(kde_by_class(z.train, y, class_width), kde.log_prob, z.test),
                    y,
                    data.test.y,
                )
            ),
        },
    }


def bayes_mixtures(
    config: Config, key: Any, data: Parts, z: Parts, progress: Progress
) -> dict[str, float]:
    """The test accuracy of Bayes' rule with a mixture per class, sized by validation."""
    most, y = max(config.class_components), data.train.y
    space = sweep.grid(components=config.class_components, digit=range(10))
    found = {}
    for family in ("full", "diag"):
        fit_one = partial(fit_class_mixture, most=most, family=family)
        with progress.task(f"mixtures by class, {family}", len(space["digit"])) as advance:
            done = progress.sweep(fit_one, space, key, z.train, y, chunk=10, progress=advance)
        sizes = jax.tree.map(lambda a: a.reshape(-1, 10, *a.shape[1:]), done.results)
        accuracies = []
        for i in range(len(config.class_components)):
            of_size = jax.tree.map(lambda a, i=i: a[i], sizes)
            accuracies.append(
                [
                    float(decide(class_log_probs(of_size, gmm.log_prob, rows), y, truth))
                    for rows, truth in (
                        (z.validation, data.validation.y),
                        (z.test, data.test.y),
                    )
                ]
            )
        chosen = int(np.argmax([validation for validation, _ in accuracies]))
        name = f"{family} mixtures of {config.class_components[chosen]}"
        found[name] = accuracies[chosen][1]
    return found


def discriminate(
    config: Config, key: Any, data: Parts, seed: int, progress: Progress
) -> dict[str, Any]:
    """A network by a sweep, beside scikit-learn's with the same layers."""
    space = sweep.grid(
        learning_rate=config.learning_rates,
        l2=config.l2,
        keep_prob=config.keep_probs,
        seed=range(config.seeds),
    )
    fit_one = partial(fit_network, config=config)
    with progress.task("networks", len(space["seed"])) as advance:
        result = progress.sweep(fit_one, space, key, data, chunk=config.chunk, progress=advance)
    trained, validation, test = result.results
    # By accuracy, and among equals by the loss: 360 images tell few networks apart.
    best = sweep.best(result, lambda r: r[1] - 1e-4 * r[0].value, mode="max")
    with progress.task("scikit-learn", 1) as advance:
        peer = MLPClassifier(
            config.hidden, early_stopping=True, max_iter=config.epochs, random_state=seed,
            n_iter_no_change=config.patience,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            peer.fit(np.asarray(data.train.x), np.asarray(data.train.y))
        advance(1)
    predicted = mlp.predict(best.result[0].params, data.test.x)
    return {
        "space": jax.tree.map(np.asarray, space),
        "validation": np.asarray(validation),
        "test": np.asarray(test),
        "history": jax.tree.map(np.asarray, trained.history),
        "epochs_run": np.asarray(trained.epochs),
        "member": int(best.member),
        "chosen": {name: float(value) for name, value in best.hparams.items()},
        "accuracy": float(best.result[2]),
        "best_epoch": int(best.result[0].best_epoch),
        "predicted": np.asarray(predicted),
        "confusion": np.asarray(metrics.confusion(predicted, data.test.y, 10)),
        "peer": float(peer.score(np.asarray(data.test.x), np.asarray(data.test.y))),
    }
