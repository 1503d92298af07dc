"""Checks on eight virtual devices of one process; oracle: the plain functions on one device."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from children import free_port, log_density, main, refused
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxnn import gmm, kde, mlp, scale, sweep, train
from jaxnn.scale import meshes, rows
from jaxnn.scale.gmm import em
from jaxnn.sweep import chunks, layouts

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")

rng = np.random.default_rng(0)
N = 203  # no multiple of eight
X = rng.normal(size=(N, 2)) + 3 * rng.integers(3, size=(N, 1))
W = rng.uniform(0.5, 1.5, N)
ROWS = train.Batch(x=X, weight=W)
START = gmm.GMM(
    log_weights=jnp.log(jnp.full(3, 1 / 3)),
    means=jnp.array([[0.0, 1.0], [3.0, 2.0], [6.0, 7.0]]),
    cov=gmm.Full(jnp.tile(jnp.eye(2), (3, 1, 1))),
)
EXPLICIT = jax.make_mesh((4, 2), ("a", "b"), axis_types=(AxisType.Explicit,) * 2)
AUTO = jax.make_mesh((2, 4), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")


def close(found, expected, atol=1e-9):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), found, expected)


def collectives(lowered) -> int:
    text = lowered.compile().as_text()
    return sum(text.count(f" {name}(") + text.count(f" {name}-start(") for name in COLLECTIVES)


def check_there_are_eight_devices():
    assert jax.device_count() == scale.mesh().size == 8
    assert scale.mesh(jax.devices()[:3]).size == 3


def check_em_equals_one_device_with_weights_and_spare_rows():
    """J9: rows that no device count divides are filled up with weight zero."""
    found = scale.gmm.fit(START, ROWS, tol=1e-8, accelerate=True)
    expected = gmm.fit(START, X, sample_weight=W, tol=1e-8, accelerate=True)
    close(found, expected)
    assert expected.steps > 3


def check_em_on_meshes_of_any_axes_and_kinds():
    """J13: explicit and automatic meshes, also as the mesh of the context."""
    expected = gmm.fit(START, X, max_steps=3).mixture
    for mesh in (EXPLICIT, AUTO):
        close(scale.gmm.fit(START, X, mesh=mesh, max_steps=3).mixture, expected)
        with jax.set_mesh(mesh):
            close(scale.gmm.fit(START, X, mesh=mesh, max_steps=3).mixture, expected)


def check_rows_may_lie_anywhere_in_this_process():
    """J15, J16: committed to another device, by DLPack, or sharded over another mesh."""
    expected = gmm.fit(START, X[:200], max_steps=3).mixture
    far = jax.device_put(X[:200], jax.devices()[5])
    foreign = jnp.from_dlpack(X[:200].copy())
    assert foreign.committed
    spread = rows.spread("test", meshes.team("test", None), foreign)
    assert len(next(spread.chunks(0)).x.sharding.device_set) == 8
    cut = jax.device_put(X[:200], NamedSharding(EXPLICIT, PartitionSpec("a")))
    for given in (far, cut, foreign):
        close(scale.gmm.fit(START, given, mesh=scale.mesh(jax.devices()[:3]), max_steps=3).mixture,
              expected)  # fmt: skip


def check_one_all_reduce_a_step_and_none_a_chunk():
    climb, state = scale.gmm.begin(START, X)
    team, plan = climb.rows.team, climb.plan
    zero = em.no_moments(START)
    spread = jax.tree.map(lambda a: np.broadcast_to(a[None], (8, *a.shape)), zero)
    carry = meshes.split(team.here, spread)
    chunk = next(climb.rows.chunks(0))
    each = meshes.each.lower(em.moments_of, team.here, carry, state.candidate, chunk)
    assert collectives(each) == 0
    given = (state, plan)
    step = meshes.together.lower(em._advance, team.all, carry, given, (False,))
    assert collectives(step) == 1
    assert " all-reduce" in step.compile().as_text()


def check_a_stream_over_devices_equals_em_in_memory():
    blocks = [X[i : i + 37] for i in range(0, N, 37)]
    found = scale.gmm.fit(START, scale.batches(blocks), chunk=50, tol=1e-8)
    close(found, gmm.fit(START, X, tol=1e-8))


def check_stepwise_em_takes_batches_of_that_many_rows():
    """Oracle: `gmm.stepwise_step`, batch by batch; 50 is no multiple of eight."""
    state = gmm.stepwise_init(START)
    share = W / W.sum()
    variance = share @ np.square(X - share @ X)
    for t, i in enumerate(list(range(0, N, 50)) * 2, start=1):
        rows = slice(i, i + 50)
        state = gmm.stepwise_step(state, X[rows], (t + 2.0) ** -0.6, sample_weight=W[rows],
                                  ridge=1e-3 * variance)  # fmt: skip
    found = scale.gmm.fit_stepwise(START, ROWS, batch_size=50, epochs=2, ridge=1e-3)
    close(found.mixture, state.mixture)
    close(found.log_lik, W @ np.asarray(gmm.log_prob(found.mixture, X)) / W.sum())


def check_densities_with_shared_queries_and_with_shared_points():
    model = kde.fit(X, sample_weight=W)
    queries = X[:43] + 0.1
    expected = log_density(X, W, np.asarray(model.bandwidth), queries)
    close(scale.kde.log_prob(model, queries), expected)
    close(scale.kde.log_prob(model, queries, mesh=EXPLICIT, chunk=20), expected)
    points = scale.kde.fit(ROWS, chunk=90)
    close(points.bandwidth, model.bandwidth)
    close(scale.kde.log_prob(points, queries, chunk=20), expected)
    team = meshes.team("test", None)
    copies = meshes.everywhere(team, model)
    lowered = meshes.each_alone.lower(
        scale.kde._log_density, team.here, copies, meshes.split(team.here, X[:40])
    )
    assert collectives(lowered) == 0


def check_rows_within_a_budget_are_shared():
    """101 rows are no multiple of eight."""
    with_room = scale.by_rows(gmm.log_prob, START, X[:101])
    close(with_room, gmm.log_prob(START, X[:101]))
    mesh = scale.mesh(jax.devices()[:3])
    close(scale.by_rows(gmm.log_prob, START, X[:101], mesh=mesh, memory_budget=8000), with_room)


NET = mlp.init(jax.random.key(0), (2, 4, 3), activation="tanh", dtype=jnp.float64)
BATCH = train.Batch(jnp.asarray(X), jnp.asarray(rng.integers(0, 3, N)), jnp.asarray(W))
DESCEND = mlp.value_and_grad("softmax_cross_entropy", activation="tanh")


def check_a_network_trained_by_all_devices_is_the_one_of_one_device():
    numbers = {"epochs": 2, "batch_size": 51, "learning_rate": 0.05}
    expected = train.fit(jax.random.key(1), NET, BATCH, DESCEND, **numbers)
    found = train.fit(
        jax.random.key(1), NET, BATCH, scale.data_parallel(DESCEND, scale.mesh()), **numbers
    )
    close(found.params, expected.params)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), NET, expected.params)
    assert max(jax.tree.leaves(moved)) > 0.01


def check_training_from_a_source_by_all_devices_is_that_of_one():
    numbers = {"epochs": 2, "batch_size": 51, "learning_rate": 0.05, "chunk": 102}
    fit = lambda descend: scale.train.fit(jax.random.key(1), NET, BATCH, descend, **numbers).params
    close(fit(scale.data_parallel(DESCEND, scale.mesh())), fit(DESCEND))


def check_a_sweep_over_devices_is_that_of_one_without_a_collective():
    """11 trainings, no multiple of eight."""
    members = {"rate": jnp.linspace(0.01, 0.2, 11)}
    fit_one = lambda hp, key, net, batch: (
        train.fit(
            key, net, batch, DESCEND, epochs=2, batch_size=51, learning_rate=hp["rate"]
        ).params
    )
    key = jax.random.key(1)
    mesh = scale.mesh()
    found = sweep.run(fit_one, members, key, NET, BATCH, mesh=mesh)
    close(found.results, sweep.run(fit_one, members, key, NET, BATCH).results)
    cut = ({"rate": jnp.ones(16)}, jax.random.split(key, 16))
    axis = layouts.one_axis("test", mesh)
    lowered = chunks._chunk.lower(
        fit_one, None, "vmap", axis, *layouts.place(axis, cut, (NET, BATCH))
    )
    assert collectives(lowered) == 0


def check_a_gradient_is_one_all_reduce_on_any_mesh():
    alone = jax.jit(DESCEND)
    few = BATCH._replace(weight=jnp.where(jnp.arange(N) < 5, BATCH.weight, 0))
    for mesh in (scale.mesh(), EXPLICIT):
        parallel = scale.data_parallel(DESCEND, mesh)
        assert parallel == scale.data_parallel(DESCEND, mesh)  # hence one program
        together = jax.jit(parallel)
        close(together(NET, BATCH, None), alone(NET, BATCH, None))
        close(together(NET, few, None), alone(NET, few, None))  # most devices weigh nothing
        with jax.set_mesh(mesh):
            close(together(NET, BATCH, None), alone(NET, BATCH, None))
    assert collectives(jax.jit(parallel).lower(NET, BATCH, None)) == 1


def check_dropout_masks_differ_between_devices():
    value = lambda params, batch, key: (jax.random.uniform(key) + 0 * params.sum(), 0 * params)
    parallel = jax.jit(scale.data_parallel(value, scale.mesh()))
    found = parallel(jnp.ones(1), BATCH, jax.random.key(0))[0]
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(0)))(np.arange(8))
    each = jax.vmap(jax.random.uniform)(keys)
    mass = np.array([p.sum() for p in np.split(np.pad(W, (0, 5)), 8)])
    close(found, mass @ np.array(each) / mass.sum())


def check_batches_are_fed_to_all_devices_with_all_their_rows():
    turn = scale.feed(BATCH, batch_size=60)
    for number in range(2):
        batches = list(turn(number))
        assert {b.x.shape for b in batches} == {(64, 2)}
        assert all(len(b.x.sharding.device_set) == 8 for b in batches)
        real = [np.asarray(b.weight) > 0 for b in batches]
        np.testing.assert_array_equal(
            np.concatenate([np.asarray(b.x)[r] for b, r in zip(batches, real, strict=True)]), X
        )
        assert [r.sum() for r in real] == [60, 60, 60, 23]


def check_a_join_after_the_first_computation_is_refused():
    """J1."""
    refused(lambda: scale.join(f"127.0.0.1:{free_port()}", 1, 0), RuntimeError,
            "scale.join: must be called before anything is computed")  # fmt: skip


if __name__ == "__main__":
    main({name: check for name, check in globals().items() if name.startswith("check_")})
