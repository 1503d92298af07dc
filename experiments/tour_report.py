"""The page and the pictures of `tour`, from what it found."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.datasets import Rows
from experiments.page import Section, Table
from experiments.runner import Outcome
from jaxnn.plot import images, style, sweeps

SHAPE = (8, 8)


def report(config: Any, test: Rows, found: dict[str, Any]) -> Outcome:
    """Returns the outcome: numbers, arrays, and the page in words."""
    bayes = found["bayes"]
    best_density = max(bayes, key=bayes.get)
    components, _ = found["best"][found["family"]]
    likelihood = {name: ends[0] for name, ends in found["held_out"].items()}
    leader = max(likelihood, key=lambda name: likelihood[name])
    n, size = len(found["test"]), len(test.y)
    wrong = found["predicted"] != test.y

    chosen = found["chosen"]
    same = np.all(
        [found["space"][name] == found["space"][name][found["member"]]
         for name in chosen if name != "seed"], axis=0,
    )  # fmt: skip
    siblings = found["test"][same]
    finding = (
        f"The network chosen from {n} reads {found['accuracy']:.1%} of {size} unseen digits "
        f"({wrong.sum()} wrong) and Bayes' rule with {best_density} {bayes[best_density]:.1%}; "
        f"as images they are most likely under the {leader} "
        f"({likelihood[leader]:.2f} nats each)."
    )
    accuracy = Table(
        ["classifier", "test accuracy", "errors"],
        [
            *([f"Bayes, {kind}", hit, round(size * (1 - hit))] for kind, hit in bayes.items()),
            [f"jaxnn network, best of {n}", found["accuracy"], int(wrong.sum())],
            [
                "scikit-learn MLPClassifier, same layers",
                found["peer"],
                round(size * (1 - found["peer"])),
            ],
        ],
        f"{size} test images that no choice has seen.",
    )
    top = max(range(len(accuracy.rows)), key=lambda i: accuracy.rows[i][1])
    accuracy = accuracy._replace(best=[top])
    densities = Table(
        ["density", "held-out log-likelihood", "95% from", "to"],
        [[name, *ends] for name, ends in found["held_out"].items()],
        f"Nats an image in {config.pca} principal components, mean over the test images.",
        best=[list(likelihood).index(leader)],
    )
    sections = [
        Section(
            "What a density knows",
            f"{config.pca} principal components hold {found['explained']:.0%} of the variance of "
            "the pixels. Mixtures of four covariance families were fitted there by EM, each number "
            f"of components from {config.starts} starts of k-means++ under one vmap; BIC chose "
            f"{components} components with {found['family']} covariances. The kernel density "
            "puts one Gaussian on every training image; its bandwidth is the one under which the "
            f"validation images are most likely (h = {found['width']:.2f}).\n\n"
            "BIC asks for the model most probable given the training images; the held-out "
            "likelihood below asks which one foretells new images. They need not agree.",
            {
                "bic": "BIC against the number of components: lower is better, best marked.",
                "bandwidth": "Validation log-likelihood against the bandwidth, rules marked.",
            },
            densities,
        ),
        Section(
            "New digits",
            "Drawn in the principal components and turned back into pixels: rows of the mixture "
            "and of the kernel density under rows of real images. The kernel density perturbs "
            "images it has seen; the mixture has compressed them into its components, whose means "
            "look like the average digits of many hands.",
            {
                "samples": "Real digits, and new ones drawn from both densities.",
                "means": "Means of the mixture's components.",
            },
        ),
        Section(
            "From densities to decisions",
            "One density for each digit and Bayes' rule make a classifier: all ten are fitted in "
            "one program, where an image of another class has weight zero. The number of "
            "components and the bandwidth were chosen by validation accuracy.",
            {},
            accuracy,
        ),
        Section(
            "What a network learns",
            f"{n} networks with hidden layers {', '.join(map(str, config.hidden))} and "
            "hand-written backpropagation, trained by Adam in one compiled program per chunk: "
            f"learning rate {chosen['learning_rate']:.0e}, λ = {chosen['l2']:.0e} and keep "
            f"probability {chosen['keep_prob']:.1f} were best on the validation images, at epoch "
            f"{found['best_epoch'] + 1}. Early stopping returns the parameters of the best epoch; "
            f"networks stopped after {int(np.median(found['epochs_run']))} epochs in the median. "
            f"Other seeds of that configuration read {siblings.min():.1%} to {siblings.max():.1%} "
            "of the test images.",
            {
                "sweep": "Validation accuracy of every network against each hyperparameter.",
                "heatmap": "Mean validation accuracy by learning rate and keep probability.",
                "curves": "Loss by epoch: a grey line is a network, the star the best epoch.",
                "errors": "The test images that the best network got wrong.",
            },
        ),
    ]
    space = found["space"]
    rate, keep = np.unique(space["learning_rate"]), np.unique(space["keep_prob"])
    cells = [
        [found["validation"][(space["learning_rate"] == r) & (space["keep_prob"] == k)].mean()
         for r in rate] for k in keep
    ]  # fmt: skip
    return Outcome(
        finding=finding,
        metrics={
            "held_out_log_likelihood": found["held_out"],
            "mixtures": {
                name: {"components": k, "bic": bic} for name, (k, bic) in found["best"].items()
            },
            "mixture_family": found["family"],
            "kde_bandwidth": found["width"],
            "rule_bandwidths": found["rules"],
            "bayes_test_accuracy": bayes,
            "network": {
                "members": n,
                "hyperparameters": chosen,
                "test_accuracy": found["accuracy"],
                "best_epoch": found["best_epoch"],
                "test_accuracy_of_its_seeds": siblings,
                "diverged_or_nan": int(np.isnan(found["validation"]).sum()),
            },
            "scikit_learn_mlp_test_accuracy": found["peer"],
        },
        arrays={
            "components": np.array(config.components),
            **{f"bic_{name}": values for name, values in found["bics"].items()},
            "bandwidths": found["widths"],
            "kde_validation": found["kde_likelihood"],
            "real": test.x[:20],
            **{f"sample_{name}": rows for name, rows in found["samples"].items()},
            "means": found["means"],
            "loss": found["history"].loss,
            "validation_loss": found["history"].validation,
            "validation_accuracy": found["validation"],
            "test_accuracy": found["test"],
            **{f"space_{name}": values for name, values in space.items()},
            "member": np.array(found["member"]),
            "confusion": found["confusion"],
            "wrong_images": test.x[wrong],
            "wrong_true": test.y[wrong],
            "wrong_predicted": found["predicted"][wrong],
            "heat_rates": rate,
            "heat_keeps": keep,
            "heat": np.array(cells),
        },
        sections=sections,
        table=accuracy,
    )


def plot(outcome: Outcome) -> dict[str, Figure]:
    """Draws everything that the page shows."""
    found = outcome.arrays
    strip = lambda rows, titles: images.image_grid(
        rows, SHAPE, columns=20, row_titles=titles, limits=(0, 1), width=11.0
    )
    kinds = ["mixture", "kernel density"]
    rows = np.concatenate([found["real"], *(found[f"sample_{kind}"] for kind in kinds)])
    space = {
        name.removeprefix("space_"): values
        for name, values in found.items()
        if name.startswith("space_")
    }
    heat = Figure(figsize=(6.4, 4.4))
    sweeps.heatmap(
        heat.subplots(), found["heat_rates"], found["heat_keeps"], found["heat"],
        x_label="learning rate", y_label="keep probability", label="validation accuracy",
    )  # fmt: skip
    return {
        "bic": _bic(outcome),
        "bandwidth": _bandwidth(outcome),
        "samples": strip(rows, ["real", *kinds]),
        "means": strip(found["means"], []),
        "sweep": sweeps.slices(
            space, found["validation_accuracy"], label="validation accuracy",
            best=int(found["member"]),
        ),
        "heatmap": heat,
        "curves": _curves(outcome),
        "errors": _errors(outcome),
    }  # fmt: skip


def _bic(outcome: Outcome) -> Figure:
    figure, found = Figure(), outcome.arrays
    ax = figure.subplots()
    families = outcome.metrics["mixtures"]
    for i, (family, best) in enumerate(families.items()):
        color = style.PALETTE[i]
        values = found[f"bic_{family}"].min(axis=1)
        ax.plot(found["components"], values, "o-", color=color, label=family, markersize=4)
        ax.plot(best["components"], best["bic"], "*", color=color, markersize=16)
    ax.set(xlabel="components", ylabel="BIC, best of the starts")
    ax.legend(title="covariances")
    return figure


def _bandwidth(outcome: Outcome) -> Figure:
    figure, found = Figure(), outcome.arrays
    ax = figure.subplots()
    ax.plot(found["bandwidths"], found["kde_validation"])
    top = found["kde_validation"].max()
    ax.plot(outcome.metrics["kde_bandwidth"], top, "*", color=style.VERMILION, markersize=16,
            label="best")  # fmt: skip
    colors = (style.GREEN, style.PURPLE)
    for color, (rule, width) in zip(
        colors, outcome.metrics["rule_bandwidths"].items(), strict=True
    ):
        ax.axvline(width, color=color, linestyle="--", label=f"{rule} (mean of axes)")
    ax.set(xscale="log", xlabel="bandwidth h", ylabel="validation nats an image")
    ax.set_ylim(bottom=max(found["kde_validation"].min(), top - 40), top=top + 3)
    ax.legend()
    return figure


def _curves(outcome: Outcome) -> Figure:
    figure, found = Figure(), outcome.arrays
    ax = figure.subplots()
    loss, validation = found["loss"][found["member"]], found["validation_loss"]
    epochs = np.arange(1, len(loss) + 1)
    ax.plot(epochs, validation.T, color="#9a9a9a", linewidth=0.5, alpha=0.35)
    ax.plot([], [], color="#9a9a9a", linewidth=0.8, label="validation, all networks")
    ax.plot(epochs, loss, color=style.BLUE, label="training (with dropout), best network")
    best = validation[found["member"]]
    ax.plot(epochs, best, color=style.VERMILION, label="validation, best network")
    stop = int(np.nanargmin(best))
    ax.plot(epochs[stop], best[stop], "*", color=style.VERMILION, markersize=16)
    ax.set(xlabel="epoch", ylabel="cross-entropy (nats)", yscale="log")
    ax.legend()
    return figure


def _errors(outcome: Outcome) -> Figure:
    found = outcome.arrays
    pairs = zip(found["wrong_true"], found["wrong_predicted"], strict=True)
    titles = [f"{true}→{said}" for true, said in pairs][:12]
    if not titles:
        figure = Figure(figsize=(7, 1))
        figure.text(0.5, 0.5, "no errors", ha="center")
        return figure
    return images.image_grid(
        found["wrong_images"][:12], SHAPE, columns=max(len(titles), 6), column_titles=titles,
        limits=(0, 1),
    )  # fmt: skip
