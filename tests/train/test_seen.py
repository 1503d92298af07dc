"""Oracle: counting how often was looked."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training import CLASSES, KEY, NET

from jaxnn import mlp, train
from jaxnn.train import seen


@pytest.fixture
def count():
    return []


def test_the_same_arrays_are_looked_at_once(count):
    """And other arrays, kinds, roles and functions each anew."""
    f, g = lambda: 0, lambda: 1
    x, y = jnp.ones(3), jnp.ones(3)
    look = lambda: count.append(1)
    for function, role, kind, arrays, looks in [
        (f, "a", 1, (x,), 1), (f, "a", 1, (x,), 1), (f, "a", 1, (y,), 2), (f, "a", 2, (y,), 3),
        (f, "b", 2, (y,), 4), (g, "b", 2, (y,), 5), (f, "a", 2, (y,), 5), (f, "a", 2, [y], 6),
    ]:  # fmt: skip
        seen.once(function, role, kind, arrays, look)
        assert len(count) == looks


def test_what_can_change_or_went_wrong_is_looked_at_again(count):
    """NumPy's arrays, tracers, what raised, functions that cannot be known again."""

    def fail():
        count.append(1)
        raise ValueError("bad")

    f, x = lambda: 0, jnp.ones(3)
    for _ in range(2):
        with pytest.raises(ValueError, match="bad"):
            seen.once(f, "a", 1, x, fail)
        seen.once(f, "a", 1, np.ones(3), lambda: count.append(1))
        jax.make_jaxpr(lambda x: seen.once(f, "a", 1, x, lambda: count.append(1)))(x)
        seen.once([], "a", 1, x, lambda: count.append(1))
    assert len(count) == 8


def test_nothing_lives_longer_for_it():
    """A function and its arrays go when their user lets them go."""
    f, x = (lambda: 0), jnp.ones(3)
    seen.once(f, "a", 1, x, lambda: None)
    before = len(seen._SEEN)
    del f, x
    gc.collect()
    assert len(seen._SEEN) < before


def test_a_second_training_on_the_same_rows_does_not_trace_the_function(count):
    """And other labels are still refused by the function itself."""

    def descend(params, batch, key):
        count.append(1)
        return mlp.value_and_grad(activation="tanh")(params, batch, key)

    fit = lambda batch: train.fit(KEY, NET, batch, descend, epochs=1)
    fit(CLASSES)
    first = len(count)
    fit(CLASSES)
    assert len(count) == first
    with pytest.raises(ValueError, match=r"y must lie in \[0, 2\)"):
        fit(CLASSES._replace(y=CLASSES.y + 1))
