"""How does the decision boundary of a network move while it learns?

The lecture's "visualising the training of a network", as a movie: two spirals, gradient descent by
hand-written backpropagation, and the loss beside the boundary; then the same for many seeds.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.animation import Animation, FuncAnimation
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from pydantic import Field
from pydantic.dataclasses import dataclass

from experiments.page import Section, Table
from experiments.runner import STRICT, Outcome, Progress
from jaxnn import metrics, mlp, train
from jaxnn.plot import curves, style

__all__ = ["SMOKE", "TITLE", "Config", "plot", "run"]

TITLE = ("Watching a network learn", "神经网络训练过程可视化")
DESCEND = mlp.value_and_grad("sigmoid_cross_entropy", activation="tanh")
EDGE = np.linspace(-1.2, 1.2, 61, dtype=np.float32)
ANSWERS = LinearSegmentedColormap.from_list("answers", ["#7fb8d8", "#ffffff", "#f3c667"])


@dataclass(frozen=True, config=STRICT)
class Config:
    """What may be changed with --set."""

    points: int = Field(default=300, ge=10)
    """Points to learn from; as many again are kept to test."""
    turns: float = Field(default=1.25, gt=0, le=3)
    """Turns of each spiral."""
    noise: float = Field(default=0.03, ge=0)
    """Standard deviation of the points about their spiral, whose radius is 1."""
    hidden: tuple[int, ...] = (32, 32)
    """Widths of the hidden layers, of tanh units."""
    frames: int = Field(default=60, ge=2, le=80)
    """Pictures of the movie."""
    growth: float = Field(default=1.09, ge=1)
    """How much longer each frame is than the one before, since learning slows down."""
    learning_rate: float = Field(default=0.1, gt=0)
    """Step length of gradient descent."""
    batch_size: int = Field(default=30, ge=1)
    """Points in a step."""
    seeds: int = Field(default=20, ge=2)
    """Networks, each with its own start, points and order; the first one is filmed."""


SMOKE = {"points": 20, "hidden": [4], "frames": 2, "seeds": 2}


def spirals(key: Any, config: Config) -> train.Batch:
    """Points on two spirals about the origin, half of each, with the spiral as the target."""
    key_place, key_noise = jax.random.split(key)
    spiral = jnp.arange(config.points) % 2
    place = jnp.sqrt(jax.random.uniform(key_place, (config.points,), jnp.float32, minval=0.02))
    angle = 2 * jnp.pi * config.turns * place + jnp.pi * spiral
    x = place[:, None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)
    x += config.noise * jax.random.normal(key_noise, x.shape, x.dtype)
    return train.Batch(x, spiral[:, None].astype(x.dtype))


def lengths(config: Config) -> np.ndarray:
    """Epochs before each frame, since the one before; none before the first."""
    later = np.round(config.growth ** np.arange(config.frames - 1))
    return np.concatenate([[0], later]).astype(np.int32)


def film(key: Any, steps: Any, *, config: Config) -> Any:
    """One network, from its start: what it says, its losses and accuracies at every frame.

    Gradient descent has no memory but the parameters, so epochs one by one are one long run.
    """
    keys = dict(zip(("learn", "test", "init", "train"), jax.random.split(key, 4), strict=True))
    learn, test = spirals(keys["learn"], config), spirals(keys["test"], config)
    with_one = lambda x: jnp.concatenate([x, jnp.ones_like(x[:, :1])], axis=1)
    line = jnp.linalg.lstsq(with_one(learn.x), 2 * learn.y - 1)[0]  # of least squares
    straight = with_one(test.x) @ line > 0
    grid = jnp.stack(jnp.meshgrid(EDGE, EDGE), axis=-1).reshape(-1, 2)

    def look(params: Any) -> dict[str, Any]:
        logits = mlp.apply(params, test.x, activation="tanh")
        return {
            "region": jax.nn.sigmoid(mlp.apply(params, grid, activation="tanh")[:, 0]),
            "loss": mlp.mean_loss(
                params, learn, None, loss="sigmoid_cross_entropy", activation="tanh"
            ),
            "test_loss": mlp.mean_loss(
                params, test, None, loss="sigmoid_cross_entropy", activation="tanh"
            ),
            "accuracy": jnp.mean((logits > 0) == (test.y > 0)),
            "like_linear": jnp.mean((logits > 0) == straight),
        }

    def epoch(number: Any, params: Any) -> Any:
        return train.fit(
            jax.random.fold_in(keys["train"], number), params, learn, DESCEND, epochs=1,
            optimizer="sgd", learning_rate=config.learning_rate, batch_size=config.batch_size,
        ).params  # fmt: skip

    def next_frame(carry: Any, length: Any) -> Any:
        params, done = carry
        params = jax.lax.fori_loop(done, done + length, epoch, params)
        return (params, done + length), look(params)

    start = mlp.init(keys["init"], (2, *config.hidden, 1), activation="tanh")
    _, seen = jax.lax.scan(next_frame, (start, jnp.zeros((), jnp.int32)), steps)
    return seen, learn, jnp.mean(straight == (test.y > 0))


def run(config: Config, seed: int, progress: Progress) -> Outcome:
    """Films all networks at once."""
    steps = jnp.asarray(lengths(config))
    with progress.task("networks", config.seeds) as advance:
        keys = jax.random.split(jax.random.key(seed), config.seeds)
        films = jax.jit(jax.vmap(lambda key: film(key, steps, config=config)))(keys)
        seen, learn, linear = jax.tree.map(np.asarray, films)
        advance(config.seeds)
    return report(config, np.cumsum(np.asarray(steps)), seen, learn, linear)


def report(
    config: Config, epochs: np.ndarray, seen: dict[str, Any], learn: Any, linear: np.ndarray
) -> Outcome:
    """Returns the outcome: numbers, arrays, and the page in words."""
    accuracy = seen["accuracy"]
    interval = jax.jit(jax.vmap(metrics.mean_interval))
    over = {name: np.stack(interval(seen[name].T), axis=1)
            for name in ("accuracy", "like_linear", "loss", "test_loss")}  # fmt: skip
    # The first frame from which a network has at least 90 percent of the test points right.
    there = accuracy >= 0.9
    learned = there.any(axis=1)
    when = epochs[there.argmax(axis=1)][learned]
    early = int(np.argmax(over["like_linear"][1:, 0])) + 1
    straight, low, high = over["like_linear"][early]
    right, worst, best = over["accuracy"][-1]
    plain = float(linear.mean())
    simple = low > over["like_linear"][-1][2]
    finding = (
        f"After {epochs[-1]} epochs {config.seeds} networks tell two spirals apart at {right:.1%} "
        f"of unseen points (95% interval {worst:.1%} to {best:.1%}; a straight line {plain:.1%}), "
        f"and {'first learn something simpler' if simple else 'do NOT first learn a line'}: at "
        f"epoch {epochs[early]} they agree with the straight line on {straight:.1%} of the points "
        f"({low:.1%} to {high:.1%}), in the end on {over['like_linear'][-1][0]:.1%}."
    )
    shown = sorted({0, early, *np.linspace(0, len(epochs) - 1, 6).astype(int)})
    table = Table(
        ["epoch", "training loss", "test loss", "test accuracy", "95% from", "to",
         "agreement with a line"],
        [[int(epochs[f]), over["loss"][f, 0], over["test_loss"][f, 0], *over["accuracy"][f],
          over["like_linear"][f, 0]] for f in shown],
        f"Means over {config.seeds} networks, each with its own start and points. Nats a point.",
    )  # fmt: skip
    sections = [
        Section(
            "The movie",
            f"Blue and orange are what the network answers, the black line is where it changes its "
            f"mind, points are what it learns from ({config.points}, hidden layers "
            f"{', '.join(map(str, config.hidden))}, plain stochastic gradient descent, step "
            f"{config.learning_rate:g}). Frames lie closer together at first, since learning "
            "slows down.",
            {"movie": "The decision boundary while it learns, and the loss."},
        ),
        Section(
            "From simple to complex",
            "Stochastic gradient descent is said to learn functions of increasing complexity: "
            "first what a linear classifier would say, then the rest (Kalimeris et al., 2019). "
            "A spiral makes that visible: a long plateau with a nearly straight boundary, which "
            "then bends, and only late winds in.\n\n"
            + (
                f"It is so here: agreement with the linear classifier is highest at epoch "
                f"{epochs[early]} and falls while accuracy rises. "
                if simple else
                "It is NOT so here: the networks agree with the linear classifier no more early "
                "than late. "
            )
            + f"{learned.sum()} of {config.seeds} networks reach 90% of the test points"
            + (f", the median one at epoch {int(np.median(when))}." if len(when) else "."),
            {
                "stills": "Five moments of the movie.",
                "curves": "Accuracy on unseen points, and agreement with a linear classifier: "
                "median network, and the band of the middle 80%.",
            },
            table,
        ),
    ]  # fmt: skip
    return Outcome(
        finding=finding,
        metrics={
            "epochs": int(epochs[-1]),
            "test_accuracy": over["accuracy"][-1],
            "linear_accuracy": plain,
            "most_like_a_line_at_epoch": int(epochs[early]),
            "agreement_with_line_then": over["like_linear"][early],
            "agreement_with_line_in_the_end": over["like_linear"][-1],
            "reached_90_percent": int(learned.sum()),
            "median_epoch_of_90_percent": float(np.median(when)) if len(when) else None,
        },
        arrays={
            "epochs": epochs,
            "region": seen["region"][0].reshape(-1, len(EDGE), len(EDGE)),
            "x": learn.x[0],
            "y": learn.y[0, :, 0],
            **{name: seen[name] for name in ("loss", "test_loss", "accuracy", "like_linear")},
        },
        sections=sections,
        table=table,
    )


def plot(outcome: Outcome) -> dict[str, Figure | Animation]:
    """Draws everything that the page shows."""
    found = outcome.arrays
    figure = Figure(figsize=(8.0, 4.0))
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.1])
    epochs = found["epochs"] + 1  # a logarithmic axis has no zero
    for color, (name, label) in zip(
        style.PALETTE, {"loss": "training", "test_loss": "test"}.items(), strict=False
    ):
        right.plot(epochs, found[name][0], color=color, label=label)
    right.set(xscale="log", ylim=(0, None), xlabel="epoch + 1", ylabel="loss (nats a point)")
    right.legend(loc="upper right")
    now = right.axvline(epochs[0], color=style.INK, linewidth=1.5)

    def draw(frame: int) -> list[Any]:
        left.clear()
        _boundary(left, found, frame)
        left.set_title(f"epoch {found['epochs'][frame]}: {found['accuracy'][0][frame]:.0%} right")
        now.set_xdata([epochs[frame]] * 2)
        return [left, now]

    last = len(epochs) - 1
    frames = [*range(len(epochs)), *[last] * min(12, last, 80 - len(epochs))]  # rest on the result
    return {
        "movie": FuncAnimation(figure, draw, frames=frames),
        "stills": _stills(found),
        "curves": _curves(found),
    }


def _boundary(ax: Any, found: Any, frame: int, size: float = 16) -> None:
    """What the network answers, and the points that it learns from."""
    region = found["region"][frame]
    ax.contourf(EDGE, EDGE, region, np.linspace(0, 1, 11), cmap=ANSWERS)
    if region.min() < 0.5 < region.max():
        ax.contour(EDGE, EDGE, region, [0.5], colors=style.INK, linewidths=2)
    for kind, color, marker in ((0, style.BLUE, "o"), (1, style.VERMILION, "s")):
        rows = found["x"][found["y"] == kind]
        ax.scatter(*rows.T, s=size, color=color, marker=marker, edgecolor="white", linewidth=0.5)
    ax.set(xticks=[], yticks=[], aspect="equal", xlim=EDGE[[0, -1]], ylim=EDGE[[0, -1]])
    ax.grid(False)


def _stills(found: Any) -> Figure:
    chosen = np.unique((np.array([0, 0.12, 0.33, 0.5, 1]) * (len(found["epochs"]) - 1)).astype(int))
    figure = Figure(figsize=(2.3 * len(chosen), 2.7))
    for ax, frame in zip(figure.subplots(1, len(chosen)), chosen, strict=True):
        _boundary(ax, found, frame, size=5)
        ax.set_title(f"epoch {found['epochs'][frame]}")
    return figure


def _curves(found: Any) -> Figure:
    figure = Figure()
    ax = figure.subplots()
    for name, label, color in (
        ("accuracy", "accuracy on unseen points", style.BLUE),
        ("like_linear", "agreement with a line", style.VERMILION),
    ):
        curves.learning_curves(
            ax, found["epochs"] + 1, 100 * found[name], label=label, color=color, log_x=True
        )
    ax.set(xlabel="epoch + 1", ylabel="unseen points (%)")
    ax.legend(loc="lower right")
    return figure
