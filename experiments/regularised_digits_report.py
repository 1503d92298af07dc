"""The page and the pictures of `regularised_digits`, from what the networks came to.

Accuracies are arrays (seeds,), or (seeds, epochs) along the way.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from experiments import digits_nets as nets
from experiments.page import Section, Table, span
from experiments.runner import Outcome
from jaxnn.plot import style

PLAIN, DROPOUT, SMOOTHED = "plain", "dropout", "dropout + smoothing"
STOP, BOTH = "early stopping", "dropout + early stopping"
ALL = "dropout + smoothing + early stopping"
GOALS = {"MNIST": 96.2, "digits": 98.5}
COLORS, LINES = (style.BLUE, style.VERMILION), ("-", "--", "-.")


class Found(NamedTuple):
    """What one variant came to, for each seed."""

    accuracy: np.ndarray
    epochs: np.ndarray


class Results(NamedTuple):
    """What all variants came to on a data set, and scikit-learn's network on the first seeds."""

    variants: Mapping[str, Found]
    curves: Mapping[str, np.ndarray]  # after each epoch, of those that learn from all rows
    peer: np.ndarray


def report(config: Any, results: Mapping[str, Results]) -> Outcome:
    """Returns the outcome: numbers, arrays, and the page in words."""
    arrays: dict[str, Any] = {}
    accuracy, gains, rows, said, best = {}, {}, [], [], []
    for name, (found, curves, peer) in results.items():
        test = np.stack([one.accuracy for one in found.values()])
        accuracy[name] = dict(zip(found, nets.intervals(test, 100), strict=True))
        gains[name] = dict(zip(found, nets.intervals(test - test[:1], 100), strict=True))
        said.append(
            f"on {name} {ALL} reads {_percent(accuracy[name][ALL])} of the test rows, the plain "
            f"network {_percent(accuracy[name][PLAIN])}; " + ", ".join(
                f"{one} {nets.verdict(gains[name][one])} ({span(gains[name][one], '+.2f')} points)"
                for one in (DROPOUT, "L2", STOP)
            )
        )  # fmt: skip
        best.append(len(rows) + int(np.argmax(test.mean(axis=1))))
        for one in found:
            rows.append([
                name, one, span(accuracy[name][one], ".2f"),
                "" if one == PLAIN else span(gains[name][one], "+.2f"),
                int(np.median(found[one].epochs)),
            ])  # fmt: skip
        ahead = 100 * np.mean(peer - test[0, : len(peer)])
        rows.append([
            name, f"scikit-learn's MLPClassifier, {len(peer)} seeds",
            f"{100 * np.mean(peer):.2f}", f"{ahead:+.2f}", "",
        ])  # fmt: skip
        arrays |= {
            "variants": np.array(list(found)),
            f"accuracy_{name}": np.stack(list(accuracy[name].values())),
            f"gain_{name}": np.stack(list(gains[name].values())),
            f"peer_{name}": peer,
            **{f"curve_{name}_{one}": curve for one, curve in curves.items()},
        }
    table = Table(
        ["data", "variant", "test accuracy %", "gain over plain, points", "median epochs"],
        rows,
        f"{config.seeds} seeds: mean and 95 % interval; gains are paired by seed.",
        best=best,
    )
    return Outcome(
        finding="With clean labels, " + "; ".join(said) + f" ({config.seeds} seeds).",
        metrics={"accuracy_percent": accuracy, "gain_points": gains,
                 "scikit_learn_percent": {n: 100 * found.peer for n, found in results.items()}},
        arrays=arrays,
        sections=[
            Section("What is expected, and what was found", _text(config, accuracy, gains), {
                "accuracy": "Test accuracy, mean and 95 % interval; dashed: scikit-learn's "
                            "network on the first seeds.",
                "gain": "Gain over the plain network with the same seed, in points; what does "
                        "not cross the line is more than chance.",
                "curves": "Test accuracy after each epoch of the networks that learn from all "
                          "rows, mean and 95 % interval.",
            }, table),
        ],
        table=table,
    )  # fmt: skip


def _percent(ends: Any) -> str:
    mean, low, high = ends
    return f"{mean:.2f} % [{low:.2f}, {high:.2f}]"


def _text(config: Any, accuracy: Any, gains: Any) -> str:
    """Returns the page in words: what was expected, and what became of it."""
    mnist, digits = (gains[name] for name in GOALS)
    plain, drop = (accuracy["MNIST"][name][0] for name in (PLAIN, DROPOUT))
    reached = " and ".join(
        f"{_percent(accuracy[name][ALL])} on {name} (without smoothed labels "
        f"{_percent(accuracy[name][BOTH])})" for name in GOALS
    )  # fmt: skip
    return (
        "Srivastava et al. (2014) halve the errors of a network on all of MNIST with dropout on "
        "hidden units (p = 0.5) and pixels (p = 0.8). Found with 4000 rows: of the errors, "
        f"{100 * (drop - plain) / (100 - plain):.0f} % are gone. On digits, dropout on hidden "
        f"units alone {nets.verdict(digits[DROPOUT])}: {_change(digits[DROPOUT])}.\n\n"
        "The lecture expects L2 to hold a network back. Of six λ, from 0.00001 to 0.001, the "
        f"best in cross-validation is {config.l2:g}. Found: it {nets.verdict(mnist['L2'])} on "
        f"MNIST ({_change(mnist['L2'])}), and on digits it {nets.verdict(digits['L2'])} "
        f"({_change(digits['L2'])}). Larger λ were worse on MNIST.\n\n"
        "With clean labels the errors hardly rise again, so stopping should win little, and it "
        "pays for its judgement with a tenth of the rows. Found on MNIST: with nine tenths of "
        f"the rows {_change(mnist[f'{STOP}, nine tenths'])}; learning anew from all rows, for as "
        "many epochs as were found (Goodfellow, Bengio and Courville, 2016, section 7.8), "
        f"{_change(mnist[STOP])}. All other lines with early stopping in their name learn anew, "
        "too.\n\n"
        "The goal, with dropout and early stopping, was "
        + " and ".join(f"{goal} % on {name}" for name, goal in GOALS.items())
        + f". Reached: {reached}. Labels are smoothed by {config.smoothing:g} (Szegedy et al., "
        "2016, section 7).\n\n"
        "All variants are the same network, start, order of rows and falling rate. Their numbers "
        "are traced, so two compiled programs for each data set train them all. The rate, the "
        "widths, the epochs, λ, the keep probability of pixels and the smoothing were chosen by "
        "five-fold cross-validation on training rows of seeds 100 and 101; batch sizes, patience "
        "and the keep probability of hidden units were not tuned. All seeds split the same "
        "images, so that what is for the test under one seed is learned from under another: "
        "the choice has seen test rows in that sense, if in no other."
    )


def _change(ends: Any) -> str:
    return f"{span(ends, '+.2f')} points"


def plot(outcome: Outcome) -> dict[str, Figure]:
    """Draws the accuracies, the gains within pairs, and the way there."""
    found = outcome.arrays
    names = [str(n).replace(" + early", "\n+ early").replace(", nine", ",\nnine")
             for n in found["variants"]]  # fmt: skip
    drawn = {}
    for what, label in (("accuracy", "test accuracy (%)"), ("gain", "gain over plain (points)")):
        drawn[what] = Figure(figsize=(11, 6))
        panels = drawn[what].subplots(1, 2, sharey=True)
        for ax, data, color in zip(panels, GOALS, COLORS, strict=True):
            shown = slice(1 if what == "gain" else 0, None)
            ends = found[f"{what}_{data}"][shown]
            y = np.arange(len(ends))[::-1]
            ax.errorbar(ends[:, 0], y, xerr=np.abs(ends[:, 1:].T - ends[:, 0]), fmt="o",
                        color=color, capsize=5, markersize=8)  # fmt: skip
            ax.set(title=data, xlabel=label)
            ax.set_yticks(y, names[shown])
            at = 0 if what == "gain" else 100 * found[f"peer_{data}"].mean()
            ax.axvline(at, color="#888888", linestyle="-" if what == "gain" else "--")
    drawn["curves"] = Figure(figsize=(11, 4.6))
    for ax, data in zip(drawn["curves"].subplots(1, 2), GOALS, strict=True):
        for one, color, line in zip((PLAIN, DROPOUT, SMOOTHED), style.PALETTE, LINES, strict=False):
            values = 100 * found[f"curve_{data}_{one}"]
            nets.mean_curve(
                ax, 1 + np.arange(values.shape[1]), values, label=one, color=color, linestyle=line
            )
        ends = 100 * found[f"curve_{data}_{PLAIN}"].mean(axis=0)
        ax.set(title=data, xlabel="epoch", ylim=(ends[-1] - 3, None))
        ax.legend(loc="lower right")
    drawn["curves"].axes[0].set_ylabel("test accuracy (%)")
    return drawn
