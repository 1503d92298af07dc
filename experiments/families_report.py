"""The page and the pictures of `families`, from what it found."""

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.page import Section, Table
from experiments.runner import Outcome
from jaxnn import metrics
from jaxnn.plot import curves, images, style

COLORS = dict(zip(("fully connected", "convolutional", "recurrent"), style.PALETTE, strict=False))
MARKERS = ("o", "s", "^")


def interval(values: Any) -> tuple[float, float, float]:
    """Returns the mean and the ends of its 95% interval."""
    mean, low, high = metrics.mean_interval(np.asarray(values, np.float32))
    return float(mean), float(low), float(high)


def percent(values: Any) -> str:
    """Returns a mean accuracy with its interval in words."""
    mean, low, high = interval(values)
    return f"{mean:.1%} ({low:.1%} to {high:.1%})"


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def report(config: Any, found: dict[str, Any], scene: Any, seen: Any, order: Any) -> Outcome:
    """Returns the outcome: numbers, arrays, and the page in words."""
    plain = {name: interval(f["images"]) for name, f in found.items()}
    mixed = {name: interval(f["shuffled"]) for name, f in found.items()}
    costs = {name: interval(f["images"] - f["shuffled"]) for name, f in found.items()}
    lead = interval(found["convolutional"]["images"] - found["fully connected"]["images"])
    sizes = [f["parameters"] for f in found.values()]
    scores = lambda kind: _listed([f"{name} {percent(f[kind])}" for name, f in found.items()])
    finding = (
        f"Unseen digits are read right by networks of {min(sizes):,} to {max(sizes):,} parameters "
        f"({config.seeds} seeds each, 95% intervals): {scores('images')}; with the pixels of all "
        f"images shuffled alike: {scores('shuffled')}."
    )
    paid = [name for name in ("convolutional", "recurrent") if costs[name][1] > 0]
    still = costs["fully connected"][1] <= 0 <= costs["fully connected"][2]
    verdict = (
        f"The convolutional network leads the fully connected one by {lead[0]:+.1%} "
        f"({lead[1]:+.1%} to {lead[2]:+.1%}), "
        + ("as expected" if lead[1] > 0 else "no clear lead: the expectation fails here")
        + ". Shuffling costs "
        + _listed([f"the {n} one {c[0]:.1%} ({c[1]:.1%} to {c[2]:.1%})" for n, c in costs.items()])
        + ". "
        + (
            "So both families that know about neighbours pay for their loss, as expected. "
            if len(paid) == 2
            else "Both families that know about neighbours were expected to pay for their loss: "
            f"the intervals show it of {_listed([f'the {n} one' for n in paid]) or 'none'} only. "
        )
        + (
            "The fully connected one is unmoved, as it must be."
            if still
            else "The fully connected one must be unmoved, since its random start is the same in "
            "any order of the pixels: that its interval misses zero is chance (one 95% interval "
            "in twenty does)."
        )
    )
    table = Table(
        ["network", "parameters", "step length", "images", "pixels shuffled"],
        [
            [name, f["parameters"], f["rate"], percent(f["images"]), percent(f["shuffled"])]
            for name, f in found.items()
        ],
        f"Share of the test images read right: mean over {config.seeds} seeds, 95% interval.",
        best=[max(range(len(found)), key=lambda i: list(plain.values())[i][0])],
    )
    sections = [
        Section(
            "Three families, one trainer",
            "A convolutional network slides the same few filters over the whole image: an edge is "
            "an edge wherever it lies (LeCun et al., 1989). A recurrent one reads the image as a "
            "sequence of eight rows and keeps what it has read in a vector (Elman, 1990). A fully "
            "connected one is told nothing of where a pixel lies. All have about as many "
            "parameters.\n\n"
            "The first is jaxnn's own, with backpropagation by hand; the others are flax modules. "
            "The trainer takes any function (params, batch, key) -> (value, gradient), and the "
            "sweep any function of numbers and a key, so the same dozen lines train all three, "
            f"{config.seeds} seeds in one compiled program.",
            {"curves": "Validation loss by epoch: median over seeds, band from 10% to 90%."},
            table,
        ),
        Section(
            "What knowing the neighbourhood is worth",
            "Expected: the convolutional network wins on images. Then the pixels of all images are "
            "shuffled, each image in the same way. Nothing is lost, but neighbours are strewn; a "
            "fully connected network cannot notice (its first layer is as random in any order), "
            "while the others lose what they were built on.\n\n" + verdict,
            {
                "accuracy": "Test accuracy of every seed, the mean and its 95% interval.",
                "shuffled": "The same digits as they are and with their pixels shuffled.",
            },
        ),
        Section(
            "What they see",
            "The first layer of each at its best seed by validation loss. The filters are small, "
            "and each makes an image of where its pattern lies; the hidden units of the fully "
            "connected network weigh every pixel. Shown only the first rows of an image, with the "
            "rest left blank, no network can know much before the middle: none of them was "
            "trained on halves.",
            {
                "filters": "The filters of the first convolution, and their responses (after ReLU) "
                "to three digits.",
                "rows": "Test accuracy when only the first rows are shown: mean over seeds and its "
                "95% interval.",
                "units": "Weights of the fully connected network's first hidden units: orange "
                "above zero, purple below.",
            },
        ),
    ]
    arrays = {"scene": scene, "seen": seen, "order": order}
    for name, f in found.items():
        short = name.replace(" ", "_")
        kinds = ("images", "shuffled", "by_rows", "validation", "loss")
        arrays |= {f"{short}_{kind}": f[kind] for kind in kinds}
    arrays["filters"] = found["convolutional"]["params"]["conv_0"]["kernel"]
    arrays["units"] = found["fully connected"]["params"][0].weight
    return Outcome(
        finding=finding,
        metrics={
            name: {
                "parameters": f["parameters"],
                "learning_rate": f["rate"],
                "accuracy": plain[name],
                "accuracy_shuffled": mixed[name],
                "cost_of_shuffling": costs[name],
            }
            for name, f in found.items()
        }
        | {"lead_of_convolutional": lead},
        arrays=arrays,
        sections=sections,
        table=table,
    )


def plot(outcome: Outcome) -> dict[str, Figure]:
    """Draws everything that the page shows."""
    found = outcome.arrays
    of = lambda name, kind: np.asarray(found[f"{name.replace(' ', '_')}_{kind}"])
    scene = np.asarray(found["scene"])
    strip = np.concatenate([scene, scene[:, np.asarray(found["order"])]])
    return {
        "curves": _curves(of),
        "accuracy": _accuracy(of),
        "shuffled": _shuffled(strip),
        "filters": _filters(np.asarray(found["filters"]), np.asarray(found["seen"]), scene),
        "units": _units(np.asarray(found["units"])),
        "rows": _rows(of),
    }


def _curves(of: Any) -> Figure:
    figure = Figure()
    ax = figure.subplots()
    for name, color in COLORS.items():
        values = of(name, "validation")
        steps = np.arange(1, values.shape[1] + 1)
        curves.learning_curves(ax, steps, values, label=name, color=color, log_y=True)
    ax.set(xlabel="epoch", ylabel="validation cross-entropy (nats)")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def _shuffled(rows: np.ndarray) -> Figure:
    figure = Figure(figsize=(6.4, 3.7))
    ax = figure.subplots()
    names = ["as it is", "shuffled"]
    images.draw_images(ax, rows, (8, 8), columns=3, row_titles=names, limits=(0, 1))
    return figure


def _accuracy(of: Any) -> Figure:
    figure = Figure(figsize=(7.4, 4.2))
    ax = figure.subplots()
    strewn = np.random.default_rng(0)
    for place, (name, color) in enumerate(COLORS.items()):
        for side, (kind, fill) in enumerate((("images", color), ("shuffled", "white"))):
            values = 100 * of(name, kind)
            x = place + 0.4 * side - 0.2
            mean, low, high = interval(values)
            ax.scatter(
                x + strewn.uniform(-0.09, 0.09, len(values)), values, s=26, facecolors=fill,
                edgecolors=color, linewidths=1.2, alpha=0.55,
            )  # fmt: skip
            ax.errorbar(
                x, mean, [[mean - low], [high - mean]], color=style.BLACK, capsize=9, marker="_",
                markersize=20, linewidth=2, zorder=3,
            )  # fmt: skip
    for kind, fill in (("images", "#777777"), ("pixels shuffled", "white")):
        ax.scatter([], [], s=40, facecolors=fill, edgecolors="#777777", label=kind)
    ax.errorbar([], [], [], color=style.BLACK, capsize=6, label="mean, 95% interval")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=3, columnspacing=1.2)
    ax.set_xticks(range(len(COLORS)), list(COLORS))
    ax.set(ylabel="test images read right (%)", xlim=(-0.5, len(COLORS) - 0.5))
    ax.grid(axis="x", visible=False)
    return figure


def _rows(of: Any) -> Figure:
    figure = Figure()
    ax = figure.subplots()
    for (name, color), marker in zip(COLORS.items(), MARKERS, strict=True):
        ends = np.array([interval(100 * column) for column in of(name, "by_rows").T]).T
        mean, low, high = ends
        rows = np.arange(1, len(mean) + 1)
        ax.errorbar(
            rows, mean, [mean - low, high - mean], color=color, marker=marker, capsize=4, label=name
        )
    ax.axhline(10, color="#777777", linestyle=":", linewidth=1.5)
    ax.text(8, 12, "guessing", color="#555555", ha="right", va="bottom", fontsize=12)
    ax.set(xlabel="rows of the image that are shown", ylabel="test images read right (%)")
    ax.set_ylim(0, 102)
    ax.legend(loc="upper left")
    return figure


def _filters(filters: np.ndarray, seen: np.ndarray, scene: np.ndarray) -> Figure:
    kernels = filters[:, :, 0, :].transpose(2, 0, 1).reshape(filters.shape[-1], -1)
    wide = len(kernels) + 1
    figure = Figure(figsize=(0.9 * wide + 0.2, 4.1))
    top, rest = figure.subplots(2, 1, height_ratios=[1, 3.1])
    largest = float(np.abs(kernels).max())
    blank = np.full((1, kernels.shape[1]), np.nan)
    images.draw_images(
        top, np.concatenate([blank, kernels]), (3, 3), columns=wide, limits=(-largest, largest),
        cmap="PuOr_r",
    )  # fmt: skip
    top.set_title("filters")
    maps = seen.transpose(0, 3, 1, 2).reshape(*seen.shape[:1], seen.shape[-1], -1)
    scale = max(float(maps.max()), 1e-6)
    rows = np.concatenate([scene[:, None], maps / scale], axis=1)
    images.draw_images(rest, rows.reshape(-1, rows.shape[-1]), (8, 8), columns=wide, limits=(0, 1))
    rest.set_title("digits, and what each filter makes of them")
    return figure


def _units(weights: np.ndarray) -> Figure:
    shown = weights[:24]
    largest = float(np.abs(shown).max())
    return images.image_grid(
        shown, (8, 8), columns=min(8, len(shown)), limits=(-largest, largest), cmap="PuOr_r",
        width=6.4,
    )  # fmt: skip
