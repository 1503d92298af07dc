"""How do EM, kernel densities and a sweep scale over processes that have one core each?

Strong scaling: the same work for one process and for two.  Weak scaling: as much for each.  Every
process is pinned to a core; what all of them wait for is timed in process 0.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxnn.scale.supervisor import environment, free_port

SIZES = {"EM": 4_000_000, "KDE": 40_000, "sweep": 1_024}  # rows, points and queries, members
SHAPE = (8, 16)  # columns and components of EM
ROUNDS = 3


def work(kind: str, n: int) -> tuple[Callable[[], Any], int]:
    """Returns a unit of work of this process, which has n, and how many floats it exchanges."""
    import jax
    import jax.numpy as jnp

    from jaxnn import gmm, mlp, scale, sweep, train

    rng = np.random.default_rng(jax.process_index())
    if kind == "EM":
        d, k = SHAPE
        x = rng.standard_normal((n, d), dtype=np.float32)
        same = np.random.default_rng(9).standard_normal((2_000, d), dtype=np.float32)
        start = gmm.init(jax.random.key(0), same, k)
        climb, state = scale.gmm.begin(start, x, tol=0.0, max_steps=10**6)
        floats = sum(leaf.size for leaf in jax.tree.leaves(state.total))
        return lambda: scale.gmm.advance(climb, state)[0], floats
    if kind == "KDE":
        points = scale.kde.fit(rng.standard_normal((n, 2), dtype=np.float32), bandwidth=0.3)
        queries = np.random.default_rng(9).standard_normal((SIZES["KDE"], 2), dtype=np.float32)
        return lambda: scale.kde.log_prob(points, queries), 2 * len(queries)
    x = jnp.asarray(np.random.default_rng(9).standard_normal((256, 16), dtype=np.float32))
    batch = train.Batch(x, (x[:, 0] > 0).astype(int))
    descend = mlp.value_and_grad("softmax_cross_entropy", activation="tanh")

    def one(hparams: dict[str, Any], key: Any) -> Any:
        net = mlp.init(key, (16, 32, 2), activation="tanh")
        return train.fit(key, net, batch, descend, epochs=5, batch_size=32,
                         learning_rate=hparams["rate"]).value  # fmt: skip

    rates = {"rate": jnp.linspace(1e-3, 1e-1, n)}
    return lambda: sweep.run(one, rates, jax.random.key(jax.process_index())).results, 0


def child(kind: str, n: int) -> None:
    """Times the work in this process, all processes beginning together."""
    import jax

    from jaxnn import scale
    from jaxnn.scale.processes import gathered

    scale.join(timeout=60)
    unit, floats = work(kind, n)
    jax.block_until_ready(unit())
    seconds = []
    for _ in range(ROUNDS):
        gathered(np.zeros(1))
        clock = time.perf_counter()
        jax.block_until_ready(unit())
        gathered(np.zeros(1))
        seconds.append(time.perf_counter() - clock)
    if jax.process_index() == 0:
        print(json.dumps({"seconds": statistics.median(seconds), "floats": floats}))
    scale.leave()


def measure(kind: str, processes: int, n: int) -> dict[str, float]:
    """Returns the seconds of a unit of work in a job of pinned processes."""
    port = free_port()
    command = [sys.executable, "-m", "experiments.benchmarks.scaling", "--child", kind, str(n)]
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
    jobs = [
        subprocess.Popen(["taskset", "-c", str(i), *command], stdout=subprocess.PIPE, text=True,
                         stderr=subprocess.DEVNULL,
                         env={**environment(i, processes, port), "XLA_FLAGS": flags})
        for i in range(processes)
    ]  # fmt: skip
    out = [job.communicate(timeout=115)[0] for job in jobs]
    return json.loads(out[0].splitlines()[-1])


def main() -> None:
    """Prints times and efficiencies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=2)
    parser.add_argument("--only", choices=SIZES, nargs="*", default=list(SIZES))
    given = parser.parse_args()
    if given.child:
        child(given.child[0], int(given.child[1]))
        return
    for kind in given.only:
        n = SIZES[kind]
        one, strong, weak = (measure(kind, p, m) for p, m in ((1, n), (2, n // 2), (2, n)))
        gain, efficiency = (one["seconds"] / two["seconds"] for two in (strong, weak))
        print(f"{kind}: one process {one['seconds'] * 1e3:.0f} ms; two share the work in "
              f"{strong['seconds'] * 1e3:.0f} ms ({gain:.2f} times as "
              f"fast); two with twice the work {weak['seconds'] * 1e3:.0f} ms (efficiency "
              f"{efficiency:.2f}); exchanged in a step: "
              f"{one['floats'] * 4 / 2**10:.1f} KiB")  # fmt: skip


if __name__ == "__main__":
    main()
