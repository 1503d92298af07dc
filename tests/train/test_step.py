"""Oracles: closed forms, NumPy loops over the rows that were really seen, and jax.grad."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training import (
    AWAY,
    CLASSES,
    KEY,
    LINE,
    MAXOUT,
    NET,
    PLAIN,
    START,
    N,
    X,
    Y,
    close,
    countdown,
    equal,
    squares,
)

from jaxnn import mlp, train
from jaxnn.train import Batch, step


def test_full_batch_descent_is_the_closed_form():
    """Closed form: w_t - w* = (I - a H)^t (w_0 - w*) for a quadratic with Hessian H."""
    steps, rate = 30, 0.1
    design = np.hstack([X, np.ones((N, 1))])
    hessian = 2 * design.T @ design / N
    best = np.linalg.lstsq(design, np.asarray(Y), rcond=None)[0]
    w, path = np.append(START["weight"], START["bias"]), []
    for t in range(steps + 1):
        shrink = np.linalg.matrix_power(np.eye(4) - rate * hessian, t)
        path.append(best + shrink @ (w - best))
    run = train.fit(KEY, START, LINE, squares, epochs=steps, optimizer="sgd", learning_rate=rate)
    close(run.params, {"weight": path[-1][:3], "bias": path[-1][3]})
    losses = [np.mean((design @ w - Y) ** 2) for w in path[:-1]]
    close(run.history.loss, np.array(losses))
    assert float(run.value) == float(run.history.loss[-1])
    assert (int(run.epochs), int(run.best_epoch), bool(run.diverged)) == (30, 29, False)
    assert bool(jnp.all(jnp.isnan(run.history.validation)))


def watched(seen):
    """`squares` that writes down the rows and weights of every step."""

    def value_and_grad(params, batch, key):
        note = lambda *step: seen.append([np.asarray(a) for a in step])
        jax.debug.callback(note, batch.x, batch.y, batch.weight, ordered=True)
        return squares(params, batch, key)

    return value_and_grad


def test_ragged_batches_are_the_loop_in_numpy():
    """Oracle: Adam in NumPy over the rows that the function was shown, in that order.

    Each epoch shows every row once, in batches of 4, 4 and 2, and no two epochs in one order.
    """
    seen, epochs, rate, weight = [], 3, 0.05, jnp.linspace(0.5, 2, N)
    batch = Batch(x=X, y=Y, weight=weight)
    run = train.fit(
        KEY, START, batch, watched(seen), epochs=epochs, learning_rate=rate, batch_size=4
    )
    jax.effects_barrier()
    w, m, v, losses = np.append(START["weight"], START["bias"]), 0.0, 0.0, []
    for t, (x, y, share) in enumerate(seen, start=1):
        x, y, share = x[share > 0], y[share > 0], share[share > 0]
        error = x @ w[:3] + w[3] - y
        g = 2 * np.append((share * error) @ x, np.sum(share * error)) / np.sum(share)
        losses.append((np.sum(share * error**2), np.sum(share)))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w = w - rate * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    close(run.params, {"weight": w[:3], "bias": w[3]})
    sums = np.array(losses).reshape(epochs, 3, 2).sum(axis=1)
    close(run.history.loss, sums[:, 0] / sums[:, 1])

    orders = []
    for epoch in range(epochs):
        steps = seen[3 * epoch : 3 * epoch + 3]
        assert [int(np.sum(share > 0)) for _, _, share in steps] == [4, 4, 2]
        y = np.concatenate([y[share > 0] for _, y, share in steps])
        share = np.concatenate([share[share > 0] for _, _, share in steps])
        orders.append(np.argsort(Y)[np.searchsorted(np.sort(Y), y)])
        assert sorted(orders[-1]) == list(range(N))
        np.testing.assert_array_equal(share, weight[orders[-1]])
    assert len({tuple(order) for order in orders}) == epochs


def test_a_batch_of_all_rows_or_more_is_full_batch_descent():
    """F20.  Invariant: bit for bit, added up or not."""
    run = partial(train.fit, KEY, START, LINE, squares, epochs=4)
    once = run()
    equal(once, run(batch_size=N))
    equal(once, run(batch_size=10 * N, accumulate=3))


@pytest.mark.parametrize("batch_size", [None, 1, 4], ids=str)
def test_a_row_of_weight_zero_is_absent(batch_size):
    """Invariant: full batch, the same run without the row; in batches, whatever the row holds."""
    weight = jnp.ones(N).at[3].set(0)
    run = partial(train.fit, KEY, START, value_and_grad=squares, epochs=4, batch_size=batch_size)
    a = run(batch=LINE._replace(weight=weight))
    if batch_size is None:
        keep = np.arange(N) != 3
        close(a, run(batch=Batch(x=X[keep], y=Y[keep])))
    else:
        equal(a, run(batch=Batch(x=X.at[3].set(99.0), y=Y.at[3].set(-99.0), weight=weight)))
    assert not bool(a.diverged)


def test_a_whole_weight_is_a_repetition():
    """Invariant: full batch, weights 1, 2, 3 against rows that are there as often."""
    times = np.array([1, 2, 3, 1, 1, 2, 1, 3, 1, 1])
    run = partial(train.fit, KEY, NET, epochs=4, l2=1e-3)
    weighted = run(CLASSES._replace(weight=jnp.array(times, float)), PLAIN)
    repeated = Batch(x=np.repeat(X, times, axis=0), y=np.repeat(CLASSES.y, times))
    close(weighted, run(repeated, PLAIN))


def test_batches_that_weigh_nothing_make_no_step():
    """Oracle: one row with a weight, in batches of one, is that row alone in full batch."""
    weight = jnp.zeros(N).at[6].set(2.0)
    run = partial(train.fit, KEY, START, value_and_grad=squares, epochs=4)
    alone = run(batch=Batch(x=X[6:7], y=Y[6:7]))
    close(run(batch=LINE._replace(weight=weight), batch_size=1), alone)


# --- L2 ---------------------------------------------------------------------------------------


LINEN = {"params": {"Dense_0": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}}}
PENALISED = {
    "dense": (NET, [layer.weight for layer in NET]),
    "maxout": (MAXOUT, [layer.weight for layer in MAXOUT]),
    "linen": (LINEN, [LINEN["params"]["Dense_0"]["kernel"]]),
    "names": ({"w": X, "b_bias": Y, "bias": {"value": Y}}, [X]),
    "no names": ([X, Y], [X, Y]),
    "one array": (X, [X]),
}


@pytest.mark.parametrize("case", PENALISED)
def test_l2_is_the_gradient_of_the_penalty_without_biases(case):
    """Oracle: jax.grad of λ‖W‖², the weights picked by hand."""
    params, weights = PENALISED[case]
    gradient = jax.tree.map(jnp.sin, params)
    chosen = {id(weight) for weight in weights}
    is_weight = [id(leaf) in chosen for leaf in jax.tree.leaves(params)]

    def penalty(params):
        leaves = jax.tree.leaves(params)
        return 0.3 * sum(jnp.sum(p**2) for p, w in zip(leaves, is_weight, strict=True) if w)

    oracle = jax.tree.map(np.add, gradient, jax.jit(jax.grad(penalty))(params))
    close(jax.jit(train.add_l2)(params, gradient, 0.3), oracle, rtol=1e-13)


def test_fit_descends_the_penalised_loss_and_reports_the_loss_alone():
    """Oracle: one SGD step on loss + λ‖W‖² by jax.grad."""
    loss = lambda p: squares(p, LINE._replace(weight=jnp.ones(N)), None)[0]
    gradient = jax.jit(jax.grad(lambda p: loss(p) + 0.3 * jnp.sum(p["weight"] ** 2)))(START)
    options = {"epochs": 1, "optimizer": "sgd", "learning_rate": 0.1}
    run = train.fit(KEY, START, LINE, squares, l2=0.3, **options)
    close(run.params, jax.tree.map(lambda p, g: p - 0.1 * g, START, gradient))
    close(run.history.loss, loss(START)[None])


def test_a_run_that_diverges_is_undone_and_harms_nobody():
    """Invariant: parameters stay finite, the flag is up, and the others are as if alone."""
    fit = lambda rate: train.fit(
        KEY, START, LINE, squares, epochs=300, optimizer="sgd", learning_rate=rate
    )
    many = jax.jit(jax.vmap(fit))(jnp.array([0.05, 1e6, 0.1]))
    assert many.diverged.tolist() == [False, True, False]
    assert all(bool(jnp.all(jnp.isfinite(p))) for p in jax.tree.leaves(many.params))
    assert bool(jnp.isnan(many.value[1]))
    stop = int(many.epochs[1])
    assert stop < 300
    assert bool(jnp.all(jnp.isfinite(many.history.loss[1, : stop - 1])))
    assert bool(jnp.all(jnp.isnan(many.history.loss[1, stop:])))
    for i, rate in ((0, 0.05), (2, 0.1)):
        close(jax.tree.map(lambda a, i=i: a[i], many), fit(rate))


def test_a_gradient_that_is_no_number_is_undone():
    """Oracle: the loss is finite, the third gradient is NaN, so two steps of 1 are left."""

    def value_and_grad(params, batch, key):
        value, gradient = countdown(params, batch, key)
        return value, jax.tree.map(lambda g, p: jnp.where(p >= 2, jnp.nan, g), gradient, params)

    fit = partial(train.fit, epochs=9, optimizer="sgd", learning_rate=1.0)
    run = fit(KEY, {"w": jnp.array(0.0)}, LINE, value_and_grad)
    assert float(run.params["w"]) == 2
    assert (int(run.epochs), int(run.best_epoch), bool(run.diverged)) == (3, 1, True)
    first = fit(KEY, {"w": jnp.array(5.0)}, LINE, value_and_grad)
    assert float(first.params["w"]) == 5
    assert (int(first.epochs), int(first.best_epoch), bool(first.diverged)) == (1, -1, True)


def test_divergence_keeps_the_best_held_out_parameters():
    """Oracle: the best score came before the parameters blew up, and is a finite number."""
    options = {"epochs": 300, "optimizer": "sgd", "validation": AWAY}
    run = train.fit(KEY, START, LINE, squares, learning_rate=1e6, **options)
    assert bool(run.diverged)
    assert float(run.value) == float(jnp.nanmin(run.history.validation))
    close(run.value, squares(run.params, AWAY._replace(weight=jnp.ones(N)), None)[0])


# --- accumulation, sampling, and what hangs on a step ------------------------------------------


@pytest.mark.parametrize(("accumulate", "size"), [(3, 2), (2, 3), (9, 2), (5, 1)])
def test_accumulated_batches_are_the_large_batch(accumulate, size):
    """G30: also where they do not divide the rows; weighted rows; the oracle is one large batch."""
    batch = LINE._replace(weight=jnp.linspace(0.5, 2, N).at[4].set(0))
    run = partial(train.fit, KEY, START, batch, squares, epochs=3, learning_rate=0.05)
    close(run(batch_size=size, accumulate=accumulate), run(batch_size=size * accumulate))


def test_sampling_draws_rows_as_often_as_it_says():
    """Oracle: counting the rows that the function was shown: balanced classes, in n draws."""
    labels = np.array([0] * 8 + [1] * 2)
    sampling = mlp.balanced(labels, 2)[labels]
    seen = []
    train.fit(
        KEY, START, LINE, watched(seen), epochs=3, batch_size=5, sampling=sampling
    )  # fmt: skip
    jax.effects_barrier()
    epochs = np.concatenate([y for _, y, _ in seen]).reshape(3, N)
    for drawn in epochs:
        times = np.array([np.sum(drawn == y) for y in np.asarray(LINE.y)])
        assert np.all((times[8:] >= 2) & (times[8:] <= 3))
        assert np.all(times[:8] <= 1)
        assert np.sum(times) == N
    assert len({tuple(drawn) for drawn in epochs}) == 3


def test_in_the_order_given_nothing_is_shuffled():
    """Oracle: the rows that the function was shown."""
    seen = []
    train.fit(KEY, START, LINE, watched(seen), epochs=1, batch_size=4, shuffle=False)
    jax.effects_barrier()
    np.testing.assert_array_equal(np.concatenate([y for _, y, _ in seen])[:N], LINE.y)


def test_what_hangs_on_a_step_is_the_loop_by_hand():
    """Oracle: SGD in Python with noise on the rows, a bound on the weights, and their mean."""
    add = lambda key, batch: batch._replace(x=batch.x + jax.random.uniform(key))
    shifts = []

    def value_and_grad(params, batch, key):
        jax.debug.callback(lambda x: shifts.append(float(x)), batch.x[0, 0] - X[0, 0], ordered=True)
        return squares(params, batch, key)

    run = train.fit(
        KEY, START, LINE, value_and_grad, epochs=4, optimizer="sgd", learning_rate=0.1,
        augment=add, max_norm=0.6, average=train.averaging("swa"),
    )  # fmt: skip
    jax.effects_barrier()
    params, path = START, []
    for shift in shifts:
        rows = Batch(x=X + shift, y=Y, weight=jnp.ones(N))
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, squares(params, rows, None)[1])
        norm = np.linalg.norm(params["weight"])
        params["weight"] = params["weight"] * min(1, 0.6 / norm)
        path.append(params)
    assert len(set(shifts)) == 4
    close(run.params, jax.tree.map(lambda *p: sum(p) / 4, *path))


def test_a_line_search_sees_the_penalised_loss_of_the_step():
    """Closed form: L-BFGS finds the ridge regression, also with its loss in two parts."""
    design = np.hstack([X, np.ones((N, 1))])
    penalty = np.diag([0.3, 0.3, 0.3, 0.0]) * N
    best = np.linalg.solve(design.T @ design + penalty, design.T @ Y)
    run = train.fit(KEY, START, LINE, squares, epochs=20, optimizer="lbfgs", l2=0.3,
                    batch_size=5, accumulate=2)  # fmt: skip
    close(run.params, {"weight": best[:3], "bias": best[3]}, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_the_first_leaf_that_is_not_finite(dtype):
    """Oracle: `jnp.isfinite`, with the largest numbers there are beside each other."""
    whole = jnp.full((2, 3, 4), jnp.finfo(dtype).max, dtype)
    tree = [whole, jnp.zeros((), dtype), jnp.zeros((2, 0), dtype), -whole[0, 0]]
    look = jax.jit(step.sound)
    assert bool(look(tree, tree)[0])
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        for i in (0, 1, 3):
            broken = list(tree)
            broken[i] = tree[i].at[(-1,) * tree[i].ndim].set(bad)
            for trees in ((broken, tree), (tree, broken)):
                good, leaf = look(*trees)
                assert (bool(good), int(leaf)) == (False, i)
    assert not bool(look([jnp.array([jnp.inf, -jnp.inf], dtype)])[0])
