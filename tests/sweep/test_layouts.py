"""Oracles: the same sweep on one device, in a process with several; and the compiled text."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from refusals import refused

from jaxnn import sweep
from jaxnn.sweep import layouts

ROOT = Path(__file__).parent.parent.parent
# Run by a process of its own: eight devices, float64, and a cache that cannot be written to.
SCRIPT = """
import re, sys, warnings
caught = warnings.catch_warnings(record=True).__enter__()
warnings.simplefilter("always")
from functools import partial
import jax
jax.config.update("jax_enable_x64", True)
import jaxnn, numpy as np, toys
from jaxnn import sweep
from jaxnn.sweep import pool

key = jax.random.key(5)
stop = np.arange(11) % 5 + 1
hp, scale = toys.members(11, stop=stop), 0.9
mesh = jax.make_mesh((4, 2), ("a", "b"))

def close(a, b):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-14), a, b)

def whole(hp, key, scale):
    return {"x": hp["rate"] * scale + jax.random.normal(key), "key": key}

for layout in sweep.LAYOUTS:
    one = sweep.run(toys.TOY, hp, key, scale, layout=layout)
    for chunk in (None, 9):
        many = sweep.run(toys.TOY, hp, key, scale, layout=layout, mesh=mesh, chunk=chunk)
        close(many, one)
saved = []
race = partial(sweep.halving, toys.TOY, hp, key, scale, most=4, eta=2)
one = race(save=saved.append)
close(race(mesh=mesh), one)
close(race(mesh=mesh, resume=saved[1]), one)  # begun on one device
few = {name: values[:3] for name, values in hp.items()}  # fewer than devices
for members, chunk in ((hp, None), (hp, 3), (few, None)):
    draw = partial(sweep.run, whole, members, key, scale)
    one, many = draw(), draw(mesh=mesh, chunk=chunk)
    close(many.results["x"], one.results["x"])
    close(*(jax.random.key_data(s.results["key"]) for s in (many, one)))
spread = sweep.run(whole, {"rate": np.ones(16), "x": np.ones(16)}, key, scale, mesh=mesh)
assert len(spread.results["x"].sharding.device_set) == 8

rows = jax.sharding.Mesh(np.asarray(jax.devices()), ("rows",))  # I24: within a fit
total = jax.shard_map(lambda x: jax.lax.psum(jax.numpy.sum(x), "rows"), mesh=rows,
                      in_specs=jax.P("rows"), out_specs=jax.P())
for layout in sweep.LAYOUTS:
    fit_one = lambda hp, key, x: hp["rate"] * total(x)
    within = sweep.run(fit_one, {"rate": np.ones(3)}, key, np.arange(16.0), layout=layout)
    close(within.results, np.full(3, 120.0))


flat = jax.sharding.Mesh(np.asarray(mesh.devices).reshape(-1), ("members",))
how = pool.How(toys.TOY, "vmap", flat)
states = pool.room(jax.eval_shape(toys.init, {k: v[0] for k, v in hp.items()}, key, scale), 16)
text = pool.advance.lower(states, np.zeros(8, np.int32), (scale,), how=how).compile().as_text()
found = re.findall(r"all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter", text)
assert "num_partitions=8" in text and not found, found
print("cache warnings", sum("ersistent compilation cache" in str(w.message) for w in caught))
print("others", [str(w.message) for w in caught if "ersistent compilation" not in str(w.message)])
"""


def test_members_are_cut_over_devices_with_the_same_results(tmp_path):
    """Invariant: 8 devices say what one says, for pieces, halving and whole fits, of numbers that
    they do not divide, in a program without collectives.  I25: that the cache on disk cannot be
    written to changes nothing but a warning.
    """
    (tmp_path / "file").write_text("no folder")
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    environment = os.environ | {
        "XLA_FLAGS": flags,
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "file" / "cache"),
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = done.stdout.splitlines()[-2:]
    assert int(first.split()[-1]) > 0, done.stdout
    assert second == "others []"


def test_a_mesh_of_one_device_changes_nothing():
    """Invariant, under `jax.grad` and `jax.jit` too; closed form of the gradient."""
    mesh = jax.make_mesh((1,), ("x",))
    fit_one = lambda hp, key, scale: hp["x"] ** 2 * scale
    hp = {"x": jnp.arange(3.0)}
    total = lambda scale: jnp.sum(
        sweep.run(fit_one, hp, jax.random.key(0), scale, mesh=mesh).results
    )
    assert float(total(2.0)) == 10
    assert float(jax.jit(jax.grad(total))(2.0)) == 5


def ends_itself(hp, key):
    """A loop within a branch within a scan, each of them another program to look into."""

    def step(carry, _):
        halve = lambda x: jax.lax.while_loop(lambda x: x > 1, lambda x: x / 2, x)
        return jax.lax.cond(carry > 0, halve, lambda x: x, carry), None

    return jax.lax.scan(step, hp["x"], None, length=2)[0]


def test_the_automatic_layout(monkeypatch):
    """Oracle: by hand: `map` on CPU where a member may end before the others, unless there is
    next to nothing to do, `vmap` elsewhere; and the same results either way.
    """
    fixed = lambda hp, key: jax.lax.fori_loop(0, 3, lambda i, x: x / 2, hp["x"])
    hp, key = {"x": jnp.array([9.0, 0.5, 3.0])}, jax.random.key(0)
    cpu = jax.default_backend() == "cpu"
    assert layouts.chosen("auto", None, ends_itself, {"x": 1.0}, key) == "vmap"
    monkeypatch.setattr(layouts, "LARGE", 100)
    for one, layout in ((ends_itself, "map" if cpu else "vmap"), (fixed, "vmap")):
        assert layouts.chosen("auto", None, one, {"x": 1.0}, key) == layout
        assert layouts.chosen("map", None, one, {"x": 1.0}, key) == "map"
        got = sweep.run(one, hp, key, layout="auto")
        want = jnp.stack([one({"x": x}, key) for x in hp["x"]])
        np.testing.assert_allclose(got.results, want, rtol=1e-15)
    got = sweep.run(toys.TOY, toys.members(3, stop=2), key, 1.0, layout="auto")
    np.testing.assert_allclose(got.results["w"], (1 - got.hparams["rate"]) ** 2, rtol=1e-14)


def test_no_mesh_is_the_function_itself():
    """Invariant: nothing is wrapped or moved."""
    f = lambda x: x
    assert layouts.spread(None, f, 1) is f
    tree = {"a": np.ones(2)}
    assert layouts.place(None, tree, f) == (tree, f)


@pytest.mark.usefixtures("unchecked_types")
def test_anything_but_a_mesh_is_refused():
    """Oracle: the message says what to give."""
    run = lambda: sweep.run(lambda hp, key: hp["x"], {"x": jnp.ones(2)}, jax.random.key(0), mesh=2)
    refused(run, TypeError, r"mesh must be a jax.sharding.Mesh.*make_mesh.*got int", "sweep.run")
