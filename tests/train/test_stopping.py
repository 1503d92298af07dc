"""Oracle: sequences of values worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn.train import stopping

NAN, INF = float("nan"), float("inf")
# (values, least gain, best value after each, its epoch after each, epochs without gain after each)
HAND = {
    "plain": (
        [5, 3, 4, 3, 2, 6],
        0.0,
        [5, 3, 3, 3, 2, 2],
        [0, 1, 1, 1, 4, 4],
        [0, 0, 1, 2, 0, 1],
    ),
    # 9.5 and 9.1 gain too little on 10, and 9 gains exactly 1, which is not more than 1.
    "least gain": (
        [10, 9.5, 9.1, 9, 8.9],
        1.0,
        [10, 10, 10, 10, 8.9],
        [0, 0, 0, 0, 4],
        [0, 1, 2, 3, 0],
    ),
    "NaN": ([NAN, 3, NAN, 2], 0.0, [INF, 3, 3, 2], [0, 1, 1, 3], [1, 0, 1, 0]),
    "infinite": ([INF, -INF, -INF], 0.0, [INF, -INF, -INF], [0, 1, 1], [1, 0, 1]),
}


@pytest.mark.parametrize("case", HAND)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_the_state_follows_the_hand(case, dtype):
    """Oracle: worked by hand; the parameters kept are those of the best epoch (-1: the start)."""
    values, min_gain, best, epochs, waits = HAND[case]
    params = {"epoch": jnp.array(-1.0, dtype)}
    start = stopping.start(params, dtype)
    assert float(start.value) == INF

    def step(state, xs):
        epoch, value = xs
        new = stopping.update(state, value, {"epoch": epoch.astype(dtype)}, epoch, min_gain)
        return new, new

    xs = (jnp.arange(len(values)), jnp.array(values, dtype))
    last, path = jax.lax.scan(step, start._replace(epoch=jnp.array(0)), xs)
    np.testing.assert_array_equal(path.value, np.array(best, path.value.dtype))
    np.testing.assert_array_equal(path.epoch, epochs)
    np.testing.assert_array_equal(path.wait, waits)
    never = np.array(best) == INF
    np.testing.assert_array_equal(path.params["epoch"], np.where(never, -1, epochs))
    assert last.value.dtype == last.params["epoch"].dtype == dtype


@pytest.mark.parametrize(("wait", "out"), [(0, False), (2, False), (3, True), (4, True)])
def test_patience_is_out_after_so_many_epochs(wait, out):
    """Oracle: the definition."""
    state = stopping.start(jnp.zeros(1), jnp.float32)._replace(wait=jnp.array(wait))
    assert bool(stopping.exhausted(state, jnp.array(3))) == out


def test_many_runs_stop_each_on_their_own():
    """Invariant: vmap = loop."""
    values = jnp.array([3.0, 5.0])
    start = jax.vmap(lambda w: stopping.start(w, jnp.float64))(jnp.zeros(2))
    start = start._replace(value=jnp.array([4.0, 4.0]))
    many = jax.vmap(stopping.update)(start, values, jnp.ones(2), jnp.array([7, 7]))
    np.testing.assert_array_equal(many.value, [3, 4])
    np.testing.assert_array_equal(many.params, [1, 0])
    np.testing.assert_array_equal(many.epoch, [7, 0])
    np.testing.assert_array_equal(many.wait, [0, 1])
