"""Group I of the catalogue, as far as it is no matter of one module: JAX's switches and transforms.

Oracle of all: the same sweep with the switch off.
"""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from jaxnn import sweep

KEY = jax.random.key(6)
HP = toys.members(5, stop=[1, 2, 3, 2, 1])
SCALE = 0.9


def whole(hp, key, scale):
    return {"w": (1 - hp["rate"]) ** 2 * scale, "noise": jax.random.normal(key)}


def everything(layout):
    """Whole fits in ragged chunks, fits in pieces, and halving."""
    return (
        sweep.run(whole, HP, KEY, SCALE, chunk=2, layout=layout),
        sweep.run(toys.TOY, HP, KEY, SCALE, chunk=2, layout=layout),
        sweep.halving(toys.TOY, HP, KEY, SCALE, most=2, eta=2, layout=layout),
    )


@pytest.fixture(scope="module")
def plain():
    return {layout: everything(layout) for layout in sweep.LAYOUTS}


@contextlib.contextmanager
def no_nan_or_infinity():
    with jax.debug_nans(True), jax.debug_infs(True):
        yield


SWITCHES = {
    "I18, I21 leaks": (jax.checking_leaks, "vmap"),
    "I19 NaN": (no_nan_or_infinity, "vmap"),
    "I20 no jit": (jax.disable_jit, "map"),
    "I22 strict": (lambda: jax.numpy_dtype_promotion("strict"), "map"),
}


@pytest.mark.parametrize("switch", SWITCHES)
def test_switches_change_nothing(plain, switch):
    """I18 to I22: no leaked tracer, no NaN of our own making, no promotion, jit or none."""
    context, layout = SWITCHES[switch]
    with context():
        got = everything(layout)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), got, plain[layout]
    )


def test_the_user_transforms_the_pure_pieces():
    """I24: `vmap`, `grad`, `remat` and `scan` around `advance`. Oracle: closed forms."""
    one = {name: a[2] for name, a in HP.items()}

    def end(rate, steps=2):
        state = toys.init(one | {"rate": rate}, KEY, SCALE)
        step = jax.checkpoint(lambda state, _: (toys.advance(state, SCALE), None))
        return toys.score(jax.lax.scan(step, state, None, length=steps)[0])

    rates = HP["rate"]
    got = jax.jit(jax.vmap(jax.grad(end)))(rates)
    np.testing.assert_allclose(got, -2 * (1 - rates) * SCALE**2, rtol=1e-12)
    assert float(end(rates[0], steps=0)) == 1  # I23


def test_the_user_transforms_the_sweep():
    """I24: `vmap` and `grad` of a sweep of whole fits. Oracle: closed forms."""
    total = lambda scale: jnp.sum(sweep.run(whole, HP, KEY, scale).results["w"])
    want = float(np.sum((1 - np.asarray(HP["rate"])) ** 2))
    np.testing.assert_allclose(jax.vmap(jax.grad(total))(jnp.ones(2)), [want] * 2, rtol=1e-12)
