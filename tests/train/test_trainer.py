"""Oracles: our own network elsewhere, invariants of compilation, and central differences."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training import (
    AWAY,
    CLASSES,
    DESCEND,
    HELD_OUT,
    KEY,
    KEYS,
    LINE,
    MAXOUT,
    NET,
    PLAIN,
    START,
    N,
    X,
    Y,
    close,
    compiled,
    countdown,
    equal,
    squares,
)

from jaxnn import mlp, train
from jaxnn.train import Batch

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
    run = train.fit(KEY, NET, CLASSES, DESCEND, epochs=1, learning_rate=0.0, validation=HELD_OUT)
    loss = mlp.mean_loss(NET, HELD_OUT, None, activation="tanh", keep_prob=0.7)
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


# --- segments, transformations, compilation ---------------------------------------------------


@pytest.mark.parametrize("segment_epochs", [1, 4, 7, 100])
def test_segments_change_no_bit(segment_epochs):
    """Invariant: bit for bit, with dropout, batches and early stopping; and progress adds up."""
    run = partial(
        train.fit, KEY, NET, CLASSES, DESCEND, epochs=7, batch_size=4, validation=HELD_OUT
    )
    calls = []
    parts = run(segment_epochs=segment_epochs, progress=calls.append)
    equal(parts, run())
    assert len(calls) == -(-7 // segment_epochs)
    assert sum(calls) == 7


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
        validation=AWAY,
        score=score,
        patience=2,
        progress=calls.append,
    )
    assert calls == [1, 1, 1, 1]


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


def test_the_second_call_compiles_nothing(caplog):
    """Invariant: other data, start, key, rate, L2, patience and options of the same shapes."""

    def loss(params, batch, key):
        return squares(params, batch, key)

    run = partial(train.fit, value_and_grad=loss, epochs=3, batch_size=4)
    first = lambda: run(KEY, START, LINE, validation=AWAY, l2=1e-2, patience=2, b1=0.8)
    second = lambda: run(
        KEYS[1],
        jax.tree.map(jnp.negative, START),
        Batch(x=np.asarray(2 * X), y=np.asarray(Y)),
        validation=AWAY._replace(y=2 * Y),
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
    assert compiled(caplog, lambda: run(epochs=4), "segment") == 1
    assert compiled(caplog, lambda: run(epochs=4), "segment") == 0


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
    params, batch, away = jax.tree.map(lambda a: a.astype(jnp.float32), (START, LINE, AWAY))
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
        validation=away,
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
