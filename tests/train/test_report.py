"""Oracle: runs whose end is known by hand."""

import jax
import jax.numpy as jnp
import pytest
from training import AWAY, KEY, LINE, START, countdown, squares

from jaxnn import train


def test_a_run_that_broke_names_its_leaf_and_its_step():
    """G16, G17: the gradient of one leaf is infinite in the third step, its neighbour's is not."""

    def break_bias(params, batch, key):
        value, gradient = countdown(params, batch, key)
        bad = jnp.where(params["net"]["bias"] >= 2, jnp.inf, -1.0)
        return value, {"a": gradient["a"], "net": {"bias": bad}}

    start = {"a": jnp.zeros(2), "net": {"bias": jnp.zeros(())}}
    run = train.fit(KEY, start, LINE, break_bias, epochs=9, batch_size=5, optimizer="sgd",
                    learning_rate=1.0, clip_value=100.0)  # fmt: skip
    assert train.describe(run).startswith(
        "diverged in epoch 1, batch 0: params['net']['bias'] is not finite"
    )
    assert float(run.params["net"]["bias"]) == 2


def test_a_run_whose_loss_broke_says_so():
    """The gradient is as good as ever: no leaf is to blame."""

    def loss_is_nan(params, batch, key):
        value, gradient = countdown(params, batch, key)
        return jnp.where(params["w"] >= 1, jnp.nan, value), gradient

    run = train.fit(KEY, {"w": jnp.zeros(())}, LINE, loss_is_nan, epochs=9, optimizer="sgd",
                    learning_rate=1.0)  # fmt: skip
    assert (int(run.bad_batch), int(run.bad_leaf)) == (0, -1)
    assert "diverged in epoch 1, batch 0: the loss is not finite" in train.describe(run)


def test_a_run_that_went_well():
    """By counting: all epochs, or patience; G19: a loss that is stuck is stopped by patience."""
    run = train.fit(KEY, START, LINE, squares, epochs=3, optimizer="sgd", learning_rate=0.0,
                    validation=AWAY)  # fmt: skip
    assert train.describe(run).startswith("ran all 3 epochs; value")
    run = train.fit(KEY, START, LINE, squares, epochs=9, optimizer="sgd", learning_rate=0.0,
                    validation=AWAY, patience=2)  # fmt: skip
    assert train.describe(run).startswith("stopped after 3 of 9 epochs; value")
    assert (int(run.bad_batch), int(run.bad_leaf)) == (-1, -1)


@pytest.mark.usefixtures("unchecked_types")
def test_bad_input():
    """One member of many is one."""
    run = train.fit(KEY, START, LINE, squares, epochs=9, optimizer="sgd", learning_rate=0.0,
                    validation=AWAY, patience=2)  # fmt: skip
    with pytest.raises(TypeError, match="trained must be a Trained, got int"):
        train.describe(3)
    with pytest.raises(TypeError, match=r"of one member, got \(1,\)"):
        train.describe(jax.tree.map(lambda a: a[None], run))
