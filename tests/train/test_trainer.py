"""Oracles: closed forms, NumPy loops over the rows that were really seen, and jax.grad."""

import logging
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import mlp, train
from jaxnn.train import Batch
from jaxnn.train.decay import add_l2

KEYS = jax.random.split(jax.random.key(7), 4)
KEY = KEYS[0]
N = 10
X = jax.random.normal(KEYS[1], (N, 3))
Y = X @ jnp.array([1.0, -2.0, 0.5]) + 0.1 * jax.random.normal(KEYS[2], (N,))
LINE = Batch(x=X, y=Y)
CLASSES = Batch(x=X, y=(Y > 0).astype(int))
HELD_OUT = Batch(x=X[::-1] + 0.3, y=CLASSES.y)
START = {"weight": jnp.array([0.3, 0.1, -0.2]), "bias": jnp.array(0.5)}
NET = mlp.init(KEYS[3], (3, 5, 4, 2), activation="tanh", dtype=jnp.float64)
MAXOUT = mlp.init(KEYS[3], (3, 4, 2), activation="identity", pieces=2, dtype=jnp.float64)
# The same function objects again and again: what one test has compiled, another need not.
DESCEND = mlp.value_and_grad("softmax_cross_entropy", activation="tanh", keep_prob=0.7)
PLAIN = mlp.value_and_grad(activation="tanh")


def squares(params, batch, key):
    """Mean squared error of a line; the gradient by hand."""
    del key
    error = batch.x @ params["weight"] + params["bias"] - batch.y
    share = batch.weight / jnp.sum(batch.weight)
    slope = 2 * share * error
    value = jnp.sum(share * error**2)
    return value, {"weight": slope @ batch.x, "bias": jnp.sum(slope)}


def countdown(params, batch, key):
    """The parameter grows by one each epoch with plain SGD and learning rate 1."""
    return 0.0 * jnp.sum(batch.x), jax.tree.map(lambda p: -jnp.ones_like(p), params)


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def close(a, b, rtol=1e-10):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=rtol, atol=1e-12), a, b)


def compiled(caplog, function, name="_segment"):
    """How many programs of that name `function` compiles."""
    caplog.clear()
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        jax.block_until_ready(function())
    return sum(f"Compiling jit({name})" in record.getMessage() for record in caplog.records)


# --- what a step is ---------------------------------------------------------------------------


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
    """Invariant: bit for bit."""
    run = partial(train.fit, KEY, START, LINE, squares, epochs=4)
    once = run()
    equal(once, run(batch_size=N))
    equal(once, run(batch_size=10 * N))


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
    close(jax.jit(add_l2)(params, gradient, 0.3), oracle, rtol=1e-13)


def test_fit_descends_the_penalised_loss_and_reports_the_loss_alone():
    """Oracle: one SGD step on loss + λ‖W‖² by jax.grad."""
    loss = lambda p: squares(p, LINE._replace(weight=jnp.ones(N)), None)[0]
    gradient = jax.jit(jax.grad(lambda p: loss(p) + 0.3 * jnp.sum(p["weight"] ** 2)))(START)
    options = {"epochs": 1, "optimizer": "sgd", "learning_rate": 0.1}
    run = train.fit(KEY, START, LINE, squares, l2=0.3, **options)
    close(run.params, jax.tree.map(lambda p, g: p - 0.1 * g, START, gradient))
    close(run.history.loss, loss(START)[None])


# --- any ValueAndGrad -------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adam", "nesterov"])
@pytest.mark.parametrize(
    ("params", "activation"), [(NET, "tanh"), (MAXOUT, "identity")], ids=["dense", "maxout"]
)
def test_backprop_by_hand_and_autodiff_train_to_the_same_numbers(params, activation, optimizer):
    """Oracle: jax.value_and_grad of the same loss, with dropout, L2 and ragged batches."""
    options = {"loss": "softmax_cross_entropy", "activation": activation, "keep_prob": 0.7}
    run = partial(
        train.fit, KEY, params, CLASSES, epochs=20, batch_size=4, l2=1e-3, optimizer=optimizer
    )
    by_hand = run(mlp.value_and_grad(**options), learning_rate=0.01, validation=HELD_OUT)
    autodiff = jax.value_and_grad(partial(mlp.mean_loss, **options))
    close(by_hand, run(autodiff, learning_rate=0.01, validation=HELD_OUT))
    moved = jax.tree.map(lambda a, b: jnp.any(a != b), by_hand.params, params)
    assert all(jax.tree.leaves(moved))


def test_dropout_is_on_in_training_and_off_in_evaluation():
    """Oracle: the score is `mean_loss` without a key; the training loss without dropout differs."""
    run = train.fit(KEY, NET, CLASSES, DESCEND, epochs=1, learning_rate=0.0, validation=CLASSES)
    loss = mlp.mean_loss(NET, CLASSES, None, activation="tanh", keep_prob=0.7)
    close(run.history.validation, loss[None])
    assert abs(float(run.history.loss[0] - loss)) > 1e-3


def test_every_step_has_a_key_of_its_own():
    """Invariant: no two steps of a run share a key, and the run's own key is not handed on."""
    seen = []

    def value_and_grad(params, batch, key):
        jax.debug.callback(lambda k: seen.append(tuple(k.tolist())), jax.random.key_data(key))
        return squares(params, batch, None)

    for batch_size in (None, 4):
        train.fit(KEY, START, LINE, value_and_grad, epochs=3, batch_size=batch_size)
    jax.effects_barrier()
    assert len(set(seen)) == len(seen) == 3 + 9
    assert tuple(jax.random.key_data(KEY).tolist()) not in seen


def test_flax_modules_train_through_fit_unchanged():
    """Oracle: our own network from the same parameters, in linen and in nnx."""
    flax = pytest.importorskip("flax")
    from flax import linen, nnx

    assert flax.__version__
    options = {"epochs": 5, "batch_size": 4, "l2": 1e-2, "learning_rate": 0.05}
    net = mlp.init(KEYS[3], (3, 4, 2), activation="tanh", dtype=jnp.float64)
    ours = train.fit(KEY, net, CLASSES, PLAIN, **options)

    def mean_loss(logits, batch):
        log_prob = jnp.take_along_axis(jax.nn.log_softmax(logits), batch.y[:, None], axis=1)
        return -jnp.sum(batch.weight * log_prob[:, 0]) / jnp.sum(batch.weight)

    class Linen(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = jnp.tanh(linen.Dense(4, param_dtype=jnp.float64)(x))
            return linen.Dense(2, param_dtype=jnp.float64)(x)

    class Nnx(nnx.Module):
        def __init__(self, rngs):
            self.one = nnx.Linear(3, 4, param_dtype=jnp.float64, rngs=rngs)
            self.two = nnx.Linear(4, 2, param_dtype=jnp.float64, rngs=rngs)

        def __call__(self, x):
            return self.two(jnp.tanh(self.one(x)))

    module = Linen()
    pair = [{"kernel": layer.weight.T, "bias": layer.bias} for layer in net]
    tree = {"params": {"Dense_0": pair[0], "Dense_1": pair[1]}}
    loss = lambda p, batch, key: mean_loss(module.apply(p, batch.x), batch)
    theirs = train.fit(KEY, tree, CLASSES, jax.value_and_grad(loss), **options)
    close(theirs.history.loss, ours.history.loss)
    close(theirs.params["params"]["Dense_1"]["kernel"], ours.params[1].weight.T)

    graph, state = nnx.split(Nnx(nnx.Rngs(0)))
    flat = [pair[0]["bias"], pair[0]["kernel"], pair[1]["bias"], pair[1]["kernel"]]
    state = jax.tree.unflatten(jax.tree.structure(state), flat)
    loss = lambda p, batch, key: mean_loss(nnx.merge(graph, p)(batch.x), batch)
    theirs = train.fit(KEY, state, CLASSES, jax.value_and_grad(loss), **options)
    close(theirs.history.loss, ours.history.loss)
    close(nnx.merge(graph, theirs.params)(X), mlp.apply(ours.params, X, activation="tanh"))


# --- early stopping ---------------------------------------------------------------------------

SCRIPT = jnp.array([5.0, 3.0, 4.0, 2.0, 2.5, 2.4, 2.1, 1.0, 0.0, 0.0])
# (scores, options, best epoch, epochs that ran), worked by hand; patience is out after as many
# epochs without gain, and the 1 of epoch 7 is never reached.
STOPPED = {
    "none": (SCRIPT, {}, 8, 10),
    "patience 3": (SCRIPT, {"patience": 3}, 3, 7),
    "patience 1": (SCRIPT, {"patience": 1}, 1, 3),
    "patience 4": (SCRIPT, {"patience": 4}, 8, 10),
    "least gain": (SCRIPT, {"patience": 3, "min_gain": 2.5}, 3, 7),
    "large gain": (SCRIPT, {"patience": 2, "min_gain": 2.5}, 0, 3),
    "NaN": (SCRIPT.at[1].set(jnp.nan), {"patience": 2}, 3, 6),
    "traced": (SCRIPT, {"patience": jnp.array(3)}, 3, 7),
}


def script(params, batch):
    """The score of the epoch that the parameter counts."""
    return batch.x[params["epoch"].astype(int), 0]


@pytest.mark.parametrize("segment_epochs", [None, 1, 4], ids=str)
@pytest.mark.parametrize("case", STOPPED)
def test_patience_stops_and_the_best_parameters_come_back(case, segment_epochs):
    """Oracle: worked by hand; the parameter counts the epochs, so it tells which one it is."""
    scores, options, best_epoch, epochs = STOPPED[case]
    run = train.fit(
        KEY,
        {"epoch": jnp.array(-1.0)},
        LINE,
        countdown,
        epochs=10,
        optimizer="sgd",
        learning_rate=1.0,
        validation=Batch(x=scores[:, None]),
        score=script,
        segment_epochs=segment_epochs,
        **options,
    )
    assert (int(run.best_epoch), int(run.epochs)) == (best_epoch, epochs)
    assert float(run.params["epoch"]) == best_epoch
    assert float(run.value) == float(scores[best_epoch])
    assert not bool(run.diverged)
    rest = jnp.full(10 - epochs, jnp.nan)
    np.testing.assert_array_equal(run.history.validation, jnp.append(scores[:epochs], rest))
    np.testing.assert_array_equal(run.history.loss, jnp.append(jnp.zeros(epochs), rest))


def test_the_value_is_the_score_of_the_parameters():
    """Invariant: a network that overfits; the value is the least of the history, not the last."""
    run = train.fit(KEY, NET, CLASSES, PLAIN, epochs=150, learning_rate=0.05, validation=HELD_OUT)
    held_out = run.history.validation
    assert float(run.value) == float(jnp.min(held_out)) < float(held_out[-1])
    assert int(run.best_epoch) == int(jnp.argmin(held_out))
    close(run.value, mlp.mean_loss(run.params, HELD_OUT, None, activation="tanh"))


def test_the_score_weighs_the_held_out_rows():
    """Invariant: a held-out row of weight zero is absent."""
    run = partial(train.fit, KEY, START, LINE, squares, epochs=4)
    part = Batch(x=X[:4], y=Y[:4])
    weighted = LINE._replace(weight=(jnp.arange(N) < 4).astype(float))
    close(run(validation=part).history, run(validation=weighted).history)


def test_a_score_that_never_is_a_number_leaves_the_start():
    """Oracle: NaN is never better, so no epoch was."""
    score = lambda params, batch: params["bias"] * jnp.nan
    run = train.fit(KEY, START, LINE, squares, epochs=2, validation=LINE, score=score)
    equal(run.params, START)
    assert float(run.value) == jnp.inf


# --- segments, transformations, compilation ---------------------------------------------------


@pytest.mark.parametrize("segment_epochs", [1, 4, 7, 100])
def test_segments_change_no_bit(segment_epochs):
    """Invariant: bit for bit, with dropout, batches and early stopping; and progress adds up."""
    run = partial(
        train.fit, KEY, NET, CLASSES, DESCEND, epochs=7, batch_size=4, validation=HELD_OUT
    )
    calls = []
    note = lambda done, history: calls.append((done, history))
    parts = run(segment_epochs=segment_epochs, progress=note)
    equal(parts, run())
    assert [done for done, _ in calls] == [*range(segment_epochs, 7, segment_epochs), 7]
    equal(jnp.concatenate([history.loss for _, history in calls]), parts.history.loss)


def test_progress_comes_after_each_epoch_and_ends_with_the_run():
    """Oracle: counting."""
    calls = []
    score = lambda p, batch: jnp.abs(p["epoch"] - 1)
    train.fit(
        KEY,
        {"epoch": jnp.array(-1.0)},
        LINE,
        countdown,
        epochs=10,
        optimizer="sgd",
        learning_rate=1.0,
        validation=LINE,
        score=score,
        patience=2,
        progress=lambda done, history: calls.append((done, history.loss.shape)),
    )
    assert calls == [(1, (1,)), (2, (1,)), (3, (1,)), (4, (1,))]


RATES = jnp.array([1e-3, 1e-2, 0.1])


def test_many_learning_rates_at_once_are_the_loop():
    """Invariant: vmap = loop, with early stopping of each at its own epoch."""
    fit = lambda rate: train.fit(
        KEY,
        NET,
        CLASSES,
        DESCEND,
        epochs=30,
        learning_rate=rate,
        batch_size=4,
        validation=HELD_OUT,
        patience=5,
    )
    many = jax.jit(jax.vmap(fit))(RATES)
    assert len(set(many.epochs.tolist())) > 1
    for i, rate in enumerate(RATES):
        close(jax.tree.map(lambda a, i=i: a[i], many), fit(rate))


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
    options = {"epochs": 300, "optimizer": "sgd", "validation": LINE}
    run = train.fit(KEY, START, LINE, squares, learning_rate=1e6, **options)
    assert bool(run.diverged)
    assert float(run.value) == float(jnp.nanmin(run.history.validation))
    close(run.value, squares(run.params, LINE._replace(weight=jnp.ones(N)), None)[0])


def test_the_second_call_compiles_nothing(caplog):
    """Invariant: other data, start, key, rate, L2, patience and options of the same shapes."""

    def loss(params, batch, key):
        return squares(params, batch, key)

    run = partial(train.fit, value_and_grad=loss, epochs=3, batch_size=4)
    first = lambda: run(KEY, START, LINE, validation=LINE, patience=2, b1=0.8)
    second = lambda: run(
        KEYS[1],
        jax.tree.map(jnp.negative, START),
        Batch(x=np.asarray(2 * X), y=np.asarray(Y)),
        validation=LINE._replace(y=2 * Y),
        learning_rate=0.5,
        l2=1e-3,
        patience=jnp.array(1),
        min_gain=0.1,
        b1=jnp.array(0.5),
    )
    assert compiled(caplog, first) == 1
    assert compiled(caplog, second) == 0


def test_all_segments_share_one_compilation(caplog):
    """Invariant: the state that comes out of a segment goes into the same program."""

    def loss(params, batch, key):
        return squares(params, batch, key)

    start = {"weight": np.array([0.1, 0.2, 0.3]), "bias": 0.0}  # a Python number, weakly typed
    run = partial(train.fit, KEY, start, LINE, loss, progress=lambda *_: None)
    assert compiled(caplog, lambda: run(epochs=4)) == 1
    assert compiled(caplog, lambda: run(epochs=6)) == 0


def test_a_traced_keep_probability_leaks_nothing():
    """Invariant: jit = eager where the function closes over a tracer, under the leak checker."""

    def fit(keep_prob, key):
        descend = mlp.value_and_grad(activation="tanh", keep_prob=keep_prob)
        return train.fit(key, NET, CLASSES, descend, epochs=2, batch_size=4, validation=HELD_OUT)

    eager = fit(jnp.array(0.7), KEY)
    with jax.checking_leaks():
        close(jax.jit(fit)(0.7, KEY), eager)
        mapped = jax.jit(lambda p: jax.lax.map(lambda p: fit(p, KEY), p))(jnp.array([0.7, 0.9]))
    close(jax.tree.map(lambda a: a[0], mapped), eager)


def test_the_gradient_with_respect_to_the_numbers_equals_differences():
    """Oracle: central differences of the loss after five steps of Adam on two batches each."""

    def final(rate, l2, weight):
        params = {"weight": weight, "bias": START["bias"]}
        run = train.fit(
            KEY, params, LINE, squares, epochs=5, learning_rate=rate, l2=l2, batch_size=5
        )
        return squares(run.params, LINE._replace(weight=jnp.ones(N)), None)[0]

    at, h = (0.05, 0.1, START["weight"]), 1e-6
    gradient = jax.jit(jax.grad(final, argnums=(0, 1, 2)))(*at)
    for i in (0, 1):
        up, down = list(at), list(at)
        up[i], down[i] = up[i] + h, down[i] - h
        np.testing.assert_allclose(gradient[i], (final(*up) - final(*down)) / (2 * h), rtol=1e-6)
    shift = h * jnp.array([1.0, 2.0, -1.0])
    slope = (final(*at[:2], at[2] + shift) - final(*at[:2], at[2] - shift)) / 2
    np.testing.assert_allclose(jnp.vdot(gradient[2], shift), slope, rtol=1e-6)
    eager = jax.grad(final)(*at)
    np.testing.assert_allclose(eager, gradient[0], rtol=1e-10)


def test_without_jit_the_numbers_are_the_same():
    """Invariant: jax.disable_jit."""
    run = partial(train.fit, KEY, START, LINE, squares, epochs=2, batch_size=4)
    compiled_run = run()
    with jax.disable_jit():
        close(run(), compiled_run)


# --- keys and dtypes --------------------------------------------------------------------------


def test_typed_and_old_style_keys_are_the_same_and_runs_are_repeatable():
    """Invariant: the same key, the same bits; another key, others."""
    run = lambda key: train.fit(key, NET, CLASSES, DESCEND, epochs=2, batch_size=4)
    first = run(jax.random.key(5))
    equal(first, run(jax.random.key(5)))
    equal(first, run(jax.random.PRNGKey(5)))
    assert float(first.value) != float(run(jax.random.key(6)).value)


@pytest.mark.parametrize("optimizer", train.OPTIMIZERS)
def test_float32_stays_float32_under_x64(optimizer):
    """Invariant: no float64 in the result, though options and rate are Python numbers."""
    params, batch = jax.tree.map(lambda a: a.astype(jnp.float32), (START, LINE))
    run = train.fit(
        KEY,
        params,
        batch,
        squares,
        epochs=2,
        optimizer=optimizer,
        learning_rate=0.1,
        l2=0.1,
        batch_size=4,
        validation=batch,
    )
    kinds = {leaf.dtype for leaf in jax.tree.leaves(run)}
    assert kinds == {jnp.dtype("float32"), jnp.dtype("int32"), jnp.dtype("bool")}


def test_a_gradient_in_another_precision_takes_that_of_the_parameters():
    """Oracle: the same run in one precision; float64 rows with float32 parameters, by hand."""
    params = jax.tree.map(lambda a: a.astype(jnp.float32), START)
    run = train.fit(KEY, params, LINE, squares, epochs=4, learning_rate=0.1)
    assert {leaf.dtype for leaf in jax.tree.leaves(run.params)} == {jnp.dtype("float32")}
    exact = train.fit(KEY, START, LINE, squares, epochs=4, learning_rate=0.1)
    close(run.params, exact.params, rtol=1e-5)
