"""Group I of the catalogue, as far as it is no matter of one module: JAX's switches and transforms.

Oracle of all: the same sweep with the switch off.
"""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import PartitionSpec as P

from jaxnn import sweep

KEY = jax.random.key(6)
HP = toys.members(3, stop=[1, 3, 2])
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
    return everything("vmap")


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
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14), got, plain)


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


def test_a_fit_may_be_spread_over_devices_itself():
    """I24: `shard_map` within a fit, whole and in pieces, and around a piece; on eight devices in
    `test_layouts`. Oracle: the fit without it.
    """
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()[:1]), ("rows",))
    sharded = lambda f, specs: jax.shard_map(f, mesh=mesh, in_specs=specs, out_specs=P())
    total = sharded(lambda x: jax.lax.psum(jnp.sum(x**2), "rows"), P("rows"))
    x = jnp.arange(4.0)
    got = sweep.run(lambda hp, key, x: hp["rate"] * total(x), HP, KEY, x)
    np.testing.assert_allclose(got.results, 14 * HP["rate"], rtol=1e-12)
    around = lambda state, scale: sharded(toys.advance, (P(), P()))(state, scale)
    spread = sweep.run(toys.TOY._replace(advance=around), HP, KEY, SCALE, layout="map")
    jax.tree.map(np.testing.assert_array_equal, spread, sweep.run(toys.TOY, HP, KEY, SCALE,
                                                                  layout="map"))  # fmt: skip


def spoiled(whole, how):
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 8
    return {"empty": b"", "half": whole[: len(whole) // 2], "flipped": bytes(flipped)}[how]


def test_a_spoiled_compilation_cache_costs_a_compilation(tmp_path):
    """I25: an entry on disk that is empty, cut or changed is told of and made again, and what
    comes out is what came before; that the folder cannot be written is tested in `test_layouts`.
    """
    run = lambda: sweep.run(lambda hp, key: jnp.tanh(hp["rate"]) * 3, HP, KEY).results
    before = jax.config.jax_compilation_cache_dir
    compilation_cache.reset_cache()
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    try:
        want = run()
        (entry,) = tmp_path.glob("jit__chunk-*-cache")
        whole = entry.read_bytes()
        for how in ("empty", "half", "flipped"):
            entry.write_bytes(spoiled(whole, how))
            with pytest.warns(UserWarning, match="Error reading persistent compilation cache"):
                np.testing.assert_array_equal(run(), want)
    finally:
        compilation_cache.reset_cache()
        jax.config.update("jax_compilation_cache_dir", before)


def test_the_user_transforms_the_sweep():
    """I24: `vmap` and `grad` of a sweep of whole fits. Oracle: closed forms."""
    total = lambda scale: jnp.sum(sweep.run(whole, HP, KEY, scale).results["w"])
    want = float(np.sum((1 - np.asarray(HP["rate"])) ** 2))
    np.testing.assert_allclose(jax.vmap(jax.grad(total))(jnp.ones(2)), [want] * 2, rtol=1e-12)
