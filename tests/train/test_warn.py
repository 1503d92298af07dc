"""Oracle: rows that are alike or sorted by hand."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training import AWAY, CLASSES, KEY, LINE, NET, PLAIN, START, squares

from jaxnn import train
from jaxnn.train import Batch, warn

fit = lambda validation: train.fit(KEY, START, LINE, squares, epochs=1, validation=validation)


@pytest.mark.parametrize("common", [0, 1, 2, 10])
def test_held_out_rows_that_are_trained_on(common):
    """G23: a warning that counts them; one in ten passes."""
    x = jnp.concatenate([LINE.x[:common], AWAY.x[common:]])
    validation = Batch(x=x, y=LINE.y)
    if common < 2:
        fit(validation)
        return
    with pytest.warns(UserWarning, match=f"validation has {common} of 10 rows in common"):
        fit(validation)


def test_the_same_inputs_with_other_targets_are_other_rows():
    """And a tracer, whose rows nobody knows, passes."""
    fit(LINE._replace(y=LINE.y + 1))
    warn.overlap("f", LINE, Batch(x=[jnp.ones((10, 0))], y=LINE.y + 1))
    jax.eval_shape(lambda y: fit(LINE._replace(y=y)), LINE.y)


def test_sorted_labels_in_the_order_given():
    """G26: a warning, but none where the order does not matter or the labels are mixed."""
    labels = jnp.sort(CLASSES.y)
    run = lambda y, **options: train.fit(
        KEY, NET, CLASSES._replace(y=y), PLAIN, epochs=1, **options
    )
    with pytest.warns(UserWarning, match="batch.y is sorted and shuffle is False"):
        run(labels, shuffle=False, batch_size=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(labels, shuffle=False)
        run(labels, batch_size=4)
        run(jnp.asarray(np.arange(10) % 2), shuffle=False, batch_size=4)
        run(jnp.zeros(10, int), shuffle=False, batch_size=4)
