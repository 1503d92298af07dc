"""Checks that some processes run together; oracle: all rows, or members, in one of them.

python tests/scale_processes.py FOLDER
"""

import itertools
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from children import log_density, main, refused
from toys import TOY, members

from jaxnn import gmm, kde, mlp, scale, sweep, train
from jaxnn.scale import meshes, processes
from jaxnn.scale.gmm import em
from jaxnn.scale.leaves import digest

jax.config.update("jax_enable_x64", True)
ME = scale.join(timeout=200, heartbeat=200)
COUNT = jax.process_count()

rng = np.random.default_rng(0)
N = 120
X = rng.normal(size=(N, 2)) + 3 * rng.integers(3, size=(N, 1))
W = rng.uniform(0.5, 1.5, N)
# Unlike many rows, and of four processes one with none (J10, J11).
CUTS = {2: [0, 85, N], 4: [0, 50, 50, 61, N]}[COUNT]
MINE = slice(CUTS[ME], CUTS[ME + 1])
ROWS = train.Batch(x=X[MINE], weight=W[MINE])
OF_FOUR = {"check_em_with_unlike_many_rows_equals_one_process", "check_one_all_reduce_a_step"}
# Oracles cost their compilation: one process has them where all have the same bits.
FIRST = ME == 0
START = gmm.GMM(
    log_weights=np.log(np.full(3, 1 / 3)),
    means=np.array([[0.0, 1.0], [3.0, 2.0], [6.0, 7.0]]),
    cov=gmm.Full(np.tile(np.eye(2), (3, 1, 1))),
)


def close(found, expected, atol=1e-9):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), found, expected)


def check_em_with_unlike_many_rows_equals_one_process():
    """J10, J11: no process needs as many rows as another, and one needs none."""
    assert int(os.environ["JAX_NUM_PROCESSES"]) == COUNT
    found = scale.gmm.fit(START, ROWS, tol=0.0, max_steps=9)
    if FIRST:
        close(found, gmm.fit(START, X, sample_weight=W, tol=0.0, max_steps=9))
    everyone = np.asarray(processes.gathered(np.asarray(found.mixture.means)))
    assert all(np.array_equal(everyone[0], other) for other in everyone)  # the same bits


def check_one_all_reduce_a_step():
    climb, state = scale.gmm.begin(START, ROWS)
    team = climb.rows.team
    assert (team.all.size, team.here.size) == (COUNT, 1)
    carry = meshes.fold(team, em.moments_of, em.no_moments(START), state.candidate, [])
    lowered = meshes.together.lower(
        em._advance, team.all, meshes._joined(team, carry), (state, climb.plan), (False,)
    )
    text = lowered.compile().as_text()
    assert text.count(" all-reduce(") + text.count(" all-reduce-start(") == 1
    assert " all-gather" not in text


def check_other_columns_dtypes_and_settings_are_refused_everywhere():
    """J11, J12: the message names what differs, and in which process it is what."""
    fit = lambda rows, **options: lambda: scale.gmm.fit(START, rows, **options)
    wide = np.zeros((3, 2 + (ME == 1)))
    refused(fit(wide), ValueError, "number of columns must be the same", "3 in process 1")
    single = np.zeros((3, 2), np.float32 if ME == 0 else np.float64)
    refused(fit(single), ValueError, "dtype must be the same", "float32 in process 0")
    refused(fit(X, tol=1e-4 * (1 + ME)), ValueError, "tol must be the same", "0.0002 in process 1")
    other = START._replace(means=START.means + (ME == 1) * 1e-12)
    refused(lambda: scale.gmm.fit(other, X), ValueError, "mixture must be the same")
    refused(lambda: scale.kde.fit(X, bandwidth=1.0 + ME), ValueError, "bandwidth must be the same")


def check_a_bad_row_in_one_process_stops_all():
    rows = X[MINE].copy() if ME else X[:5].copy()
    if ME == 0:
        rows[3, 1] = np.nan
    words = "got nan at row, column 3, 1" if ME == 0 else "is not in another process"
    refused(lambda: scale.gmm.fit(START, rows), ValueError, "x must be finite", words)
    refused(lambda: scale.gmm.fit(START, X[:0]), ValueError, "got none in any process")


def check_densities_of_points_of_all_processes():
    """Oracle: the sum of Gaussians in NumPy, with the bandwidths of `kde.fit`."""
    model, queries = kde.fit(X, sample_weight=W), X[:17] + 0.1
    h = np.asarray(model.bandwidth)
    expected = log_density(X, W, h, queries)
    points = scale.kde.fit(ROWS, chunk=30)
    close(scale.kde.log_prob(points, queries, chunk=10), expected)
    refused(lambda: scale.kde.log_prob(points, queries + ME), ValueError, "x (chunk 0) must be the")
    close(points.bandwidth, h)
    mine = scale.kde.log_prob(model, queries[ME:])  # nobody is asked
    close(mine, expected[ME:])


def check_stepwise_em_takes_a_share_of_each_batch_from_each_process():
    """Oracle: `gmm.stepwise_step` on the rows of all processes together; one may have none."""
    size = 8 * COUNT
    for cuts in (CUTS, [0, *[N] * COUNT]):
        parts = [X[a:b] for a, b in itertools.pairwise(cuts)]
        found = scale.gmm.fit_stepwise(START, parts[ME], batch_size=size, epochs=1, ridge=1e-3)
        steps = max(-(-len(p) // 8) for p in parts)
        assert found.state.steps == steps
        if not FIRST:
            continue
        state = gmm.stepwise_init(START)
        for t in range(steps):
            batch = np.concatenate([p[8 * t : 8 * t + 8] for p in parts])
            full = np.resize(batch, (size, 2))  # one shape, one program
            real = (np.arange(size) < len(batch)).astype(float)
            state = gmm.stepwise_step(state, full, (t + 3.0) ** -0.6, sample_weight=real,
                                      ridge=1e-3 * X.var(axis=0))  # fmt: skip
        close(found.mixture, state.mixture)


def check_a_gradient_over_the_batches_of_all_processes():
    net = mlp.init(jax.random.key(0), (2, 4, 3), activation="tanh", dtype=jnp.float64)
    y = np.arange(N) % 3
    rows = train.Batch(X[MINE], y[MINE], W[MINE])
    descend = mlp.value_and_grad("softmax_cross_entropy", activation="tanh")
    batches = list(scale.feed(rows, batch_size=COUNT * N)(0))
    assert len(batches) == 1
    parallel = jax.jit(scale.data_parallel(descend, scale.mesh()))
    found = parallel(jax.tree.map(np.asarray, net), batches[0], None)
    host = jax.tree.map(lambda a: np.asarray(a.addressable_data(0)), found)
    whole = train.Batch(jnp.asarray(X), jnp.asarray(y), jnp.asarray(W))
    if FIRST:
        close(host, jax.jit(descend)(net, whole, None))
    steps = [len(list(scale.feed(rows, batch_size=8 * COUNT)(0)))]
    assert set(processes.gathered(np.array(steps)).ravel()) == {max(-(-np.diff(CUTS) // 8))}


def check_rows_of_other_processes_are_refused():
    """J14: an array of which others hold parts."""
    team = meshes.team("test", None)
    everyone = meshes._joined(team, meshes.split(team.here, np.zeros((1, 2))))
    refused(lambda: scale.gmm.fit(START, everyone), ValueError, "rows must lie on devices of this")
    if ME > 0:
        mesh = scale.mesh(jax.devices()[:1])
        refused(lambda: scale.gmm.fit(START, X, mesh=mesh), ValueError,
                f"must hold a device of every process, got none of process {ME}")  # fmt: skip


def check_a_number_is_one_process():
    """J6: the same variables once more, on this machine."""
    numbers = {"num_processes": COUNT, "process_id": ME}
    address = os.environ["JAX_COORDINATOR_ADDRESS"]
    refused(lambda: processes._take("scale.join", address, **numbers), ValueError,
            "process must be a number of its own", f"is {ME} of the job at {address}")  # fmt: skip


def check_a_second_join_is_refused():
    """J2."""
    refused(lambda: scale.join(timeout=1), RuntimeError, "must be called once", f"process {ME} of")


KEY = jax.random.key(0)
# Member 2 becomes NaN at its third piece, member 0 halts at the second.
SWEPT = members(5, stop=[2, 7, 7, 7, 7], nan_at=[0, 0, 3, 0, 0])
RUNS = {
    "run": sweep.run,
    "halving": partial(sweep.halving, most=9),
    "chunks": partial(sweep.run, chunk=1),
}
FITS = dict.fromkeys(RUNS, TOY) | {
    "chunks": lambda hp, key, scale: {"a": hp["stop"] * scale, "u": jax.random.uniform(key)}
}


def swept(folder, hparams, name="run", **given):
    saving = scale.Saving(Path(sys.argv[1]) / folder, resume=True)
    fit = FITS[name]
    return scale.sweep(fit, hparams, KEY, np.float64(0.9), saving=saving, run=RUNS[name], **given)


def check_a_sweep_shared_out_is_that_of_one_process():
    """Under `map` the same bits, broken off and gone on with; a member that diverges is flagged."""

    def fail(report):
        if report.done >= 2:
            raise RuntimeError("a fault of the caller's")

    for name, run in RUNS.items():
        given = {"layout": "map", "mesh": scale.mesh() if name == "run" else None}
        refused(lambda name=name, given=given: swept(name, SWEPT, name, progress=fail, **given),
                RuntimeError, "a fault")  # fmt: skip
        seen = []
        found = swept(name, SWEPT, name, progress=seen.append, **given)
        assert seen[0].done >= 2, name  # it did not begin anew
        expected = run(FITS[name], SWEPT, KEY, np.float64(0.9), layout="map")
        assert digest(found) == digest(expected), name
        if name == "run":
            assert found.failed.tolist() == [False, False, True, False, False]
    few = members(3, stop=4)
    close(swept("vmap", few).results, sweep.run(TOY, few, KEY, np.float64(0.9)).results, 1e-12)


def check_what_makes_no_sweep_of_many_is_refused_everywhere():
    few = lambda: swept("few", members(1))
    refused(few, ValueError, "there must be a member for each of 2 processes, got 1")
    layout = "map" if FIRST else "vmap"
    refused(lambda: swept("other", SWEPT, layout=layout), ValueError, "options must be the same")
    refused(lambda: swept("other", members(5 + ME)), ValueError, "facts must be the same")


def check_ctrl_c_in_one_process_stops_the_sweep_in_all():
    """The last: all take their leave.  What is kept, one process goes on with."""
    turns = []

    def progress(report):
        turns.append(report)
        if len(turns) == 3 and ME == 1:
            os.kill(os.getpid(), signal.SIGINT)
        if len(turns) >= 3:  # minutes for the wish to reach the others, if they are needed
            time.sleep(0.1 * 2 ** (len(turns) - 3))

    told = None
    try:
        swept("ctrl-c", members(4, stop=14), layout="map", progress=progress)
    except (KeyboardInterrupt, scale.Preempted) as error:
        told = error
    assert isinstance(told, scale.Preempted if FIRST else KeyboardInterrupt), told
    assert f"stopped after piece {len(turns)}; resume=True goes on from" in str(told)


if __name__ == "__main__":
    checks = {name: check for name, check in globals().items() if name.startswith("check_")}
    main({name: check for name, check in checks.items() if COUNT == 2 or name in OF_FOUR})
    sys.stdout.flush()
