"""The page and the pictures of `dbn_pretraining`, from what it found."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.page import Section, Table, span
from experiments.runner import Outcome
from jaxnn import metrics
from jaxnn.plot import curves, images, style

STARTS = {
    "plain": "random, 1/√fan-in",
    "gain": "random, gain/√fan-in",
    "pretrained": "pretrained (DBN)",
}
COLORS = {"plain": style.ORANGE, "gain": style.BLUE, "pretrained": style.VERMILION}
NAMES = {"momentum": "SGD with momentum", "adam": "Adam"}


def _ends(values: Any) -> list[float]:
    return [float(end) for end in metrics.mean_interval(np.asarray(values, np.float64))]


def _percent(ends: list[float]) -> str:
    return span(ends, ".1%")


def _points(ends: list[float]) -> str:
    mean, low, high = (100 * end for end in ends)
    return f"{mean:+.1f} points [{low:+.1f}, {high:+.1f}]"


def report(config: Any, found: dict[str, Any], weights: Any, size: int) -> Outcome:
    """Returns the outcome: numbers, arrays, and the page in words."""
    place = {name: i for i, name in enumerate(STARTS)}
    deepest = max(config.depths)
    accuracy: dict[str, Any] = {}
    gains: dict[str, Any] = {}
    rows = []
    for optimizer in config.optimizers:
        for depth in config.depths:
            test = found[f"test_{optimizer}_{depth}"]
            ends = [_ends(one) for one in test]
            gain = {name: _ends(test[place["pretrained"]] - test[place[name]])
                    for name in ("plain", "gain")}  # fmt: skip
            accuracy[f"{optimizer} {depth}"] = dict(zip(STARTS, ends, strict=True))
            gains[f"{optimizer} {depth}"] = gain
            rows.append([NAMES[optimizer], depth, *map(_percent, ends), _points(gain["gain"])])
    table = Table(
        ["optimizer", "hidden layers", *STARTS.values(), "pretrained less gain"],
        rows,
        f"Accuracy on {size} test images: mean over {config.seeds} seeds and 95% interval, each "
        "at the learning rate with the best mean validation accuracy. Differences are paired.",
    )
    older, newer = config.optimizers[0], config.optimizers[-1]
    old, new = (accuracy[f"{name} {deepest}"] for name in (older, newer))
    finding = (
        f"At {deepest} hidden layers of sigmoids and {NAMES[older]}, pretraining reads "
        f"{_percent(old['pretrained'])} of the test digits, random starts "
        f"{_percent(old['plain'])} (1/√fan-in) and {_percent(old['gain'])} (with the sigmoid's "
        f"gain); under {NAMES[newer]} it reads {_percent(new['pretrained'])}, which is "
        f"{_points(gains[f'{newer} {deepest}']['gain'])} against the start with the gain."
    )
    return Outcome(
        finding=finding,
        metrics={
            "test_accuracy": accuracy,
            "pretrained_less": gains,
            "rates": {k.removeprefix("rate_"): v for k, v in found.items() if k[:5] == "rate_"},
            "depths": config.depths,
            "optimizers": config.optimizers,
            "seeds": config.seeds,
        },
        arrays={**found, "weights": weights},
        sections=[
            Section(
                "The claim",
                "Hinton, Osindero and Teh (2006) learned a deep network one layer at a time: each "
                "restricted Boltzmann machine models the hidden states of the one below, and the "
                "stack is then unrolled and fine-tuned by back-propagation. The lecture dates the "
                "third wave of neural networks from there: with pretraining and fine-tuning "
                "“optimising deep models became comparatively easy”, while before, "
                "back-propagation worked badly from three hidden layers on.\n\n"
                f"Here {config.width} sigmoid units a layer read scikit-learn's digits, with each "
                "pixel inked or not. The start with the gain scales the weights so that signals "
                "keep their size on the way up (He et al., 2015); nobody did so in 2006.",
                {"accuracy": "Test accuracy against depth: mean and 95% interval over seeds."},
                table,
            ),
            Section("What came out", _verdict(config, deepest, gains)),
            Section(
                "Training",
                f"Training loss of the networks of {deepest} hidden layers: median and 10% to 90% "
                "of the seeds. Sigmoid networks from a random start wait on a plateau where all "
                "classes get the same probability (log 10 = 2.3 nats), because the gradient of "
                "the first layers vanishes; see the experiment vanishing_gradients.",
                {"loss": "Training loss by epoch; the random starts overlap under momentum."},
            ),
            Section(
                "What a machine sees",
                "Weights of the hidden units of one first machine, as images: strokes and spots, "
                "learned without a label. Red is positive, blue negative.",
                {"features": "Weights of the first restricted Boltzmann machine."},
            ),
        ],
        table=table,
    )


def _verdict(config: Any, deepest: int, gains: Any) -> str:
    """Says for each claim whether it held, from the intervals."""
    older, newer = config.optimizers[0], config.optimizers[-1]
    plain_old, old = (gains[f"{older} {deepest}"][name] for name in ("plain", "gain"))
    new = gains[f"{newer} {deepest}"]["gain"]
    word = lambda ends: (
        "holds" if ends[1] > 0 else "fails: it harms" if ends[2] < 0 else "is not decided"
    )
    harmed = [
        f"{NAMES[optimizer]}, {depth} hidden ({_points(gains[f'{optimizer} {depth}']['gain'])})"
        for optimizer in config.optimizers
        for depth in config.depths
        if gains[f"{optimizer} {depth}"]["gain"][2] < 0
    ]
    later = "fails" if new[1] > 0 else "holds"
    return (
        f"With {NAMES[older]} at {deepest} hidden layers the claim of 2006 {word(plain_old)} "
        f"against the plain random start ({_points(plain_old)}) and {word(old)} against the start "
        f"with the gain ({_points(old)}). Pretraining harmed, against the start with the gain, "
        f"at: {'; '.join(harmed) or 'none of the depths'}.\n\n"
        "The later literature says that a careful scale of the start and a better optimizer "
        "reach the same place without pretraining (Martens, 2010; Sutskever et al., 2013). "
        f"Here, with {deepest} layers of sigmoids, the start with the gain, {NAMES[newer]} and "
        f"this many epochs, that {later}: pretraining still makes {_points(new)}. Adam comes a "
        "long way by itself, since it divides the vanishing gradient by its own size. Either "
        "way more layers do not read these small digits better: one hidden layer is enough."
    )


def plot(outcome: Outcome) -> dict[str, Figure]:
    """Draws everything that the page shows."""
    weights = outcome.arrays["weights"]
    side = round(weights.shape[1] ** 0.5)
    most = float(np.quantile(np.abs(weights), 0.99))  # a few large ones would pale the others
    return {
        "accuracy": _accuracy(outcome),
        "loss": _loss(outcome),
        "features": images.image_grid(
            weights[:32], (side, side), columns=16, limits=(-most, most), cmap="RdBu_r", width=9.0
        ),
    }


def _accuracy(outcome: Outcome) -> Figure:
    figure = Figure(figsize=(10, 4.6))
    depths = outcome.metrics["depths"]
    panels = figure.subplots(1, len(outcome.metrics["optimizers"]), sharey=True, squeeze=False)[0]
    shift = np.linspace(-0.08, 0.08, len(STARTS))  # so that intervals do not hide one another
    for ax, optimizer in zip(panels, outcome.metrics["optimizers"], strict=True):
        for (name, label), off in zip(STARTS.items(), shift, strict=True):
            ends = np.array([outcome.metrics["test_accuracy"][f"{optimizer} {d}"][name]
                             for d in depths])  # fmt: skip
            ax.errorbar(
                np.array(depths) + off, 100 * ends[:, 0],
                100 * np.abs(ends[:, 1:] - ends[:, :1]).T,
                fmt="o-", color=COLORS[name], label=label, capsize=4, markersize=6,
            )  # fmt: skip
        ax.axhline(10, color="#888888", linestyle=":", linewidth=1.5)
        ax.set(title=NAMES[optimizer], xlabel="hidden layers", xticks=depths, ylim=(0, 102))
    panels[0].text(depths[0], 12, "chance", color="#666666", fontsize=11)
    panels[0].set_ylabel("test accuracy (%)")
    panels[-1].legend(loc="lower left", bbox_to_anchor=(0, 0.14))
    return figure


def _loss(outcome: Outcome) -> Figure:
    figure = Figure(figsize=(10, 4.6))
    deepest = max(outcome.metrics["depths"])
    panels = figure.subplots(1, len(outcome.metrics["optimizers"]), sharey=True, squeeze=False)[0]
    for ax, optimizer in zip(panels, outcome.metrics["optimizers"], strict=True):
        loss = outcome.arrays[f"loss_{optimizer}_{deepest}"]
        for values, (name, label) in zip(loss, STARTS.items(), strict=True):
            epochs = np.arange(1, values.shape[1] + 1)
            curves.learning_curves(ax, epochs, values, label=label, color=COLORS[name], log_y=True)
        ax.set(title=NAMES[optimizer], xlabel="epoch")
        ax.get_legend().remove()
    panels[0].set_ylabel("training loss (nats an image)")
    panels[-1].legend(loc="lower left")
    return figure
