"""Callbacks, Ctrl-C and the switches of JAX.  Oracle: the run that nobody interrupts."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from training import CLASSES, DESCEND, HELD_OUT, KEY, LINE, NET, START, equal, squares

from jaxnn import train

RUN = partial(train.fit, KEY, START, LINE, squares, learning_rate=0.05)


def test_a_callback_stops_the_run():
    """It sees the run so far, and what it stops is the shorter run."""
    seen = []

    def callback(trained):
        seen.append(trained)
        return int(trained.epochs) == 3

    run = RUN(epochs=6, callback=callback)
    assert [int(trained.epochs) for trained in seen] == [1, 2, 3]
    equal(run, seen[-1])
    short = RUN(epochs=3)
    equal(run.params, short.params)
    equal(run.history.loss[:3], short.history.loss)
    assert bool(jnp.all(jnp.isnan(run.history.loss[3:])))


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_what_is_raised_leaves_with_the_run_so_far(kind):
    """G27, G28: the exception is the same, and nothing that was done is lost."""

    def callback(trained):
        if int(trained.epochs) == 2:
            raise kind("stop")

    with pytest.raises(kind, match="stop") as caught:
        RUN(epochs=6, callback=callback)
    equal(caught.value.trained.params, RUN(epochs=2).params)
    assert caught.value.__notes__ == [
        "train.fit: 2 epochs are done; they are `trained` of this exception"
    ]


def test_nan_in_the_history_does_not_trip_the_search_for_nan():
    """I19: what did not run is infinite then, and all else as ever."""
    settings = {"epochs": 5, "patience": 1, "validate_every": 2, "validation": HELD_OUT}
    run = partial(train.fit, KEY, NET, CLASSES, DESCEND, learning_rate=0.0, **settings)
    plain = run()
    with jax.debug_nans(True):
        watched = run()
    assert int(plain.epochs) < 5
    fill = lambda a: jnp.where(jnp.isnan(a), jnp.inf, a)
    equal(jax.tree.map(fill, plain.history), watched.history)
    equal(plain.params, watched.params)


def test_keys_of_every_kind_are_used_once():
    """H3, H6, H19: under the checker of keys; a key keeps its implementation in the state."""
    fit = partial(train.fit, epochs=2, batch_size=4)
    with jax.debug_key_reuse(True):
        fit(jax.random.key(3), NET, CLASSES, DESCEND)
    key = jax.random.key(3, impl="rbg")
    whole = fit(key, NET, CLASSES, DESCEND)
    equal(fit(key, NET, CLASSES, DESCEND, segment_epochs=1), whole)
    pieces = train.segments(lambda h, key: (NET, DESCEND, {}), epochs=2)
    assert jax.eval_shape(pieces.init, {}, key, CLASSES).run.key.dtype == key.dtype
