"""What is saved by members that leave a sweep: halving of networks, and one slow fit among many.

Networks: 64-64-32-10 on digits, batch 64, Adam, step length × L2 × dropout × seed. All of them to
the last epoch, against early stopping, and against successive halving (eta 3) by validation loss.
What each picks is judged in the run of all epochs, by the configuration that it picked: validation
loss, which is what they all select by, and test accuracy, mean over seeds and interval; and by how
much, seed by seed, its configuration is worse than that of the run of all epochs. An interval that
holds zero says that the two cannot be told apart by so many seeds. Fits: EM of which one member
takes 1,000 steps and the others 10.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from experiments import datasets
from experiments import digits_nets as nets
from experiments.benchmarks.harness import heading, race
from jaxnn import gmm, metrics, mlp, sweep, train

LAYERS = (64, 64, 32, 10)
SEEDS = 8


def network(hp: Any, key: Any) -> Any:
    """A member: where it starts, how it descends, and its numbers."""
    descend = mlp.value_and_grad(keep_prob=hp["keep"])
    numbers = {"learning_rate": hp["rate"], "l2": hp["l2"], "patience": hp["patience"]}
    return mlp.init(key, LAYERS), descend, numbers


def grid(members: int, patience: int) -> dict[str, jax.Array]:
    """Returns step lengths × penalties × dropout × seeds."""
    rates = np.geomspace(1e-4, 3e-2, members // (16 * SEEDS))
    space = sweep.grid(
        rate=rates.astype(np.float32), l2=np.array([0, 1e-5, 1e-4, 1e-3], np.float32),
        keep=np.array([0.5, 0.7, 0.9, 1.0], np.float32), seed=range(SEEDS),
    )  # fmt: skip
    return space | {"patience": jnp.full(members, patience, jnp.int32)}


def networks(members: int, epochs: int, chunk: int, rules: list[str]) -> None:
    """Prints time, work and choice of a sweep to the end, with early stopping, and halved."""
    digits = datasets.digits(0, validation=0.2, test=0.4)[:3]
    rows, watched, test = (train.Batch(x=jnp.asarray(p.x), y=jnp.asarray(p.y)) for p in digits)
    pieces = train.segments(network, epochs=epochs, batch_size=64)
    key = jax.random.key(0)
    mesh = cores()
    run = partial(sweep.run, pieces, chunk=chunk, mesh=mesh)
    all_of, some = grid(members, epochs), grid(members, 5)
    rivals: dict[str, Callable[[], sweep.Sweep]] = {
        "all epochs": lambda: run(all_of, key, rows, watched),
        "early stopping, patience 5": lambda: run(some, key, rows, watched),
        **{
            rule: partial(
                sweep.halving, pieces, all_of, key, rows, watched,
                most=epochs, eta=3, rule=rule, chunk=chunk, mesh=mesh,
            )
            for rule in rules
        },
    }  # fmt: skip
    table = Table(title=f"{members:,} networks {'-'.join(map(str, LAYERS))}, {epochs} epochs")
    for column in ("", "s, first call", "s, again", "share", "member-epochs", "validation loss",
                   "loss more than the first's", "test accuracy, %",
                   "less than the first's"):  # fmt: skip
        table.add_column(column, justify="left" if column == "" else "right")
    judge = jax.jit(lambda params: jax.lax.map(lambda p: nets.accuracy(p, test), params))
    interval = lambda a, digits: "{:.{d}f} [{:.{d}f}, {:.{d}f}]".format(
        *map(float, metrics.mean_interval(a)), d=digits
    )
    accuracy = losses = None
    base, first = 0.0, 0
    for name, call in rivals.items():
        start = time.perf_counter()
        jax.block_until_ready(call())
        middle = time.perf_counter()
        found = jax.block_until_ready(call())
        times = (middle - start, time.perf_counter() - middle)
        chosen = int(sweep.best(found, lambda r: r.value).member) // SEEDS
        if accuracy is None or losses is None:  # of every member, by configuration and seed
            accuracy = 100 * np.asarray(judge(found.results.params)).reshape(-1, SEEDS)
            losses, base = np.asarray(found.results.value).reshape(-1, SEEDS), times[1]
            first = chosen
        table.add_row(
            name, f"{times[0]:.1f}", f"{times[1]:.1f}", f"{times[1] / base:.2f}",
            f"{int(found.pieces.sum()):,}", interval(losses[chosen], 4),
            interval(losses[chosen] - losses[first], 4), interval(accuracy[chosen], 1),
            interval(accuracy[first] - accuracy[chosen], 1),
        )  # fmt: skip
    Console(width=160).print(table)


def cores() -> jax.sharding.Mesh | None:
    """Returns all devices, if there are several: on CPU one for each core."""
    return jax.make_mesh((jax.device_count(),), ("members",)) if jax.device_count() > 1 else None


def stragglers(short: int, long: int, b: int = 32) -> None:
    """Races one fit of many steps among many of few against one by one."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2_000, 4)))
    space = {"max_steps": jnp.asarray([short] * (b - 1) + [long], jnp.int32)}
    key = jax.random.key(0)

    def start(hp: Any, key: Any, x: Any) -> gmm.GMM:
        return gmm.init(key, x, 5)

    def one(hp: Any, key: Any, x: Any) -> gmm.Fit:
        return gmm.fit(start(hp, key, x), x, tol=0.0, max_steps=hp["max_steps"])

    pieces = gmm.segments(start, steps=32, tol=0.0)
    keys, alone = sweep.member_keys(key, space), jax.jit(one)
    rivals = {
        "one by one": lambda: [
            alone({"max_steps": space["max_steps"][i]}, keys[i], x) for i in range(b)
        ],
        "as the sweep chooses": lambda: sweep.run(one, space, key, x),
        "as it chooses, in pieces": lambda: sweep.run(pieces, space, key, x),
        "vmap of whole fits": lambda: sweep.run(one, space, key, x, layout="vmap"),
        "vmap of pieces": lambda: sweep.run(pieces, space, key, x, layout="vmap"),
    }
    if mesh := cores():
        rivals["as it chooses, a device a core"] = lambda: sweep.run(one, space, key, x, mesh=mesh)
    want = [float(fit.log_lik) for fit in rivals["one by one"]()]
    gap = max(
        float(np.max(np.abs(np.asarray(rivals[name]().results.log_lik) - want)))
        for name in list(rivals)[1:]
    )
    jax.clear_caches()
    race(
        f"{b - 1} fits of {short} steps and one of {long:,}, 2,000 × 4, 5 full; log-likelihoods "
        f"differ by {gap:.0e}",
        rivals,
        rounds=3,
    )


def main() -> None:
    """Runs both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=1024)
    parser.add_argument("--epochs", type=int, default=27)
    parser.add_argument("--chunk", type=int, default=64)
    parser.add_argument("--rules", nargs="*", default=["halving"], choices=list(sweep.RULES))
    parser.add_argument("--only", choices=["networks", "stragglers"])
    parser.add_argument("--cores", type=int, default=1, help="a device of JAX for each")
    options = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", options.cores)
    print(heading())
    if options.only != "stragglers":
        networks(options.members, options.epochs, options.chunk, options.rules)
    if options.only != "networks":
        jax.config.update("jax_enable_x64", True)
        stragglers(10, 1_000)


if __name__ == "__main__":
    main()
