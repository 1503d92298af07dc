"""Oracles: early stopping worked by hand, and invariants."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training import (
    AWAY,
    CLASSES,
    HELD_OUT,
    KEY,
    LINE,
    NET,
    PLAIN,
    START,
    N,
    Y,
    close,
    countdown,
    equal,
    squares,
)

from jaxnn import mlp, train
from jaxnn.train import Batch

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
    part = Batch(x=AWAY.x[:4], y=Y[:4])
    weighted = AWAY._replace(weight=(jnp.arange(N) < 4).astype(float))
    close(run(validation=part).history, run(validation=weighted).history)


def test_a_score_that_never_is_a_number_leaves_the_start():
    """Oracle: NaN is never better, so no epoch was."""
    score = lambda params, batch: params["bias"] * jnp.nan
    run = train.fit(KEY, START, LINE, squares, epochs=2, validation=AWAY, score=score)
    equal(run.params, START)
    assert float(run.value) == jnp.inf


@pytest.mark.parametrize("every", [2, 3, 20])
def test_validation_every_few_epochs_is_counted_from_the_last(every):
    """Oracle: the run that validates always; where it is not due, NaN, and no patience is lost."""
    options = {
        "epochs": 10, "optimizer": "sgd", "learning_rate": 1.0, "score": script,
        "validation": Batch(x=SCRIPT[:, None]), "metrics": {"twice": twice},
    }  # fmt: skip
    fit = partial(train.fit, KEY, {"epoch": jnp.array(-1.0)}, LINE, countdown, **options)
    due = (9 - np.arange(10)) % every == 0
    expected = np.where(due, SCRIPT, np.nan)
    for run in (fit(validate_every=every), fit(validate_every=every, segment_epochs=1)):
        np.testing.assert_array_equal(run.history.validation, expected)
        np.testing.assert_array_equal(run.history.metrics["twice"], 2 * expected)
        assert int(run.best_epoch) == np.nanargmin(expected)
        assert float(run.params["epoch"]) == int(run.best_epoch)
    if every == 2:  # 3, 2, 2.4, 1, 0: the third is not better, so patience 1 is out after it
        assert int(fit(validate_every=every, patience=1).epochs) == 6


def test_members_with_epochs_of_their_own_are_fits_of_that_many():
    """I4. Oracle: fits of so many epochs, whose schedule and validation count back from their own
    last; the rest of the history is blank; whole, and in segments.
    """
    rate = train.schedule("cosine", 0.3)
    options = {"learning_rate": rate, "validation": AWAY, "validate_every": 2, "batch_size": 4}
    fit = partial(train.fit, KEY, START, LINE, squares, **options)
    stops = (1, 4, 5)
    many = jax.jit(jax.vmap(lambda stop: fit(epochs=5, stop_at=stop)))(jnp.array(stops))
    for i, stop in enumerate(stops):
        one, got = fit(epochs=stop), jax.tree.map(lambda a, i=i: a[i], many)
        blank = jax.tree.map(lambda a, n=5 - stop: jnp.full(n, jnp.nan), one.history)
        history = jax.tree.map(lambda *parts: jnp.concatenate(parts), one.history, blank)
        close(got, one._replace(history=history))
    close(fit(epochs=5, stop_at=4, segment_epochs=1), jax.tree.map(lambda a: a[1], many))


def twice(params, batch):
    return 2 * script(params, batch)


def test_an_order_of_its_own_is_shared_by_members_of_other_keys():
    """Oracle: without dropout a key does nothing but order rows; the batches in the program."""
    fit = lambda key, **options: train.fit(
        key, NET, CLASSES, PLAIN, epochs=2, batch_size=4, optimizer="sgd", **options
    )
    keys = jax.random.split(KEY, 3)
    own, shared = jax.vmap(fit)(keys), jax.vmap(partial(fit, order_key=KEY))(keys)
    first = lambda run: np.asarray(run.params[0].weight)
    assert not np.allclose(first(own)[0], first(own)[1])
    np.testing.assert_array_equal(first(shared)[0], first(shared)[1])
    np.testing.assert_allclose(first(shared)[2], fit(KEY).params[0].weight, rtol=1e-12)
    batch = f"3,4,{CLASSES.x.shape[1]}]"  # one for each member
    assert batch in str(jax.make_jaxpr(jax.vmap(fit))(keys))
    assert batch not in str(jax.make_jaxpr(jax.vmap(partial(fit, order_key=KEY)))(keys))
