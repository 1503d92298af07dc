"""Oracles: closed forms, counting, and NumPy."""

import signal
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import sweep

KEY = jax.random.key(2)
HP = {"x": jnp.array([4.0, -1.0, 9.0, 16.0, 25.0])}


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def roots(hp, key):
    """What a fit may return: numbers of all kinds, a key, and a table with gaps by design."""
    return {
        "root": jnp.sqrt(hp["x"]),
        "table": jnp.full(2, jnp.nan),
        "whole": hp["x"].astype(int),
        "flag": hp["x"] > 0,
        "key": key,
    }


@pytest.mark.parametrize("layout", sweep.LAYOUTS)
@pytest.mark.parametrize("chunk", [None, 2], ids=str)
def test_failed_members_are_flagged(layout, chunk):
    """Oracle: the sign of x; a NaN in a table is none of a single number's."""
    got = sweep.run(roots, HP, KEY, layout=layout, chunk=chunk)
    equal(got.failed, HP["x"] < 0)
    assert bool(got.done.all())
    assert got.scores is None
    assert got.stopped is None
    assert got.pieces is None
    none = sweep.run(lambda hp, key: {"table": jnp.full(2, jnp.nan)}, HP, KEY)
    assert not bool(none.failed.any())


def test_a_score_says_who_failed_and_who_is_best():
    """Oracle: NumPy; a result without single numbers, and the best so far after each chunk."""
    fit_one = lambda hp, key: jnp.stack([jnp.sqrt(hp["x"]), jnp.nan])
    seen = []
    got = sweep.run(fit_one, HP, KEY, score=lambda r: -r[0], chunk=2, progress=seen.append)
    equal(got.scores, [-2, np.nan, -3, -4, -5])
    equal(got.failed, HP["x"] < 0)
    assert [report.best for report in seen] == [-2, -4, -5]
    assert [report.members for report in seen] == [5, 5, 5]


def test_ctrl_c_leaves_the_chunks_that_are_done():
    """Oracle: closed form for the first four, NaN and zeros behind."""

    def press(report):
        if report.done == 4:
            signal.raise_signal(signal.SIGINT)

    score = lambda r: r["root"]
    with pytest.warns(UserWarning, match=r"sweep.run: interrupted with 4 of 5 members done"):
        got = sweep.run(roots, HP, KEY, chunk=2, progress=press, score=score)
    equal(got.done, [True, True, True, True, False])
    whole = sweep.run(roots, HP, KEY)
    for name in ("root", "whole", "flag"):
        equal(got.results[name][:4], whole.results[name][:4])
    assert np.isnan(got.results["root"][4])
    assert np.isnan(got.scores[4])
    equal([a[4] for a in (got.results["whole"], got.results["flag"])], [0, False])
    assert got.results["key"].shape == (5,)
    assert not bool(got.failed[4])
    assert int(sweep.best(got, lambda r: r["root"]).member) == 0


@pytest.mark.parametrize("chunk", [None, 2], ids=str)
def test_a_pause_is_gone_on_with_to_the_same_bits(chunk):
    """Oracle: the sweep without pauses; a pause keeps what it was, nothing is fitted twice."""
    plain = lambda hp, key: {k: v for k, v in roots(hp, key).items() if k != "key"}
    run = partial(sweep.run, plain, HP, KEY, chunk=chunk, score=lambda r: r["root"])
    saved, seen = [], []
    whole = run()
    equal(run(save=saved.append), whole)
    assert [len(pause.arrays["results"].failed) for pause in saved] == ([2, 4, 5] if chunk else [5])
    for pause in saved:
        host = pause._replace(arrays=jax.tree.map(np.array, pause.arrays))
        later = []
        equal(run(resume=host, save=later.append, progress=seen.append), whole)
        equal([late.arrays for late in later], [p.arrays for p in saved[len(saved) - len(later) :]])
    assert [r.done for r in seen] == ([2, 4, 5, 4, 5, 5] if chunk else [5])
    with pytest.raises(ValueError, match="must belong to this sweep, got other keys"):
        sweep.run(plain, HP, jax.random.key(3), resume=saved[0])


def test_all_of_it_under_jit():
    """Invariant: traced, every field is what it is outside."""
    run = lambda x, chunk: sweep.run(roots, {"x": x}, KEY, chunk=chunk, score=lambda r: r["root"])
    traced = jax.jit(run, static_argnums=1)
    want = run(HP["x"], None)._asdict()
    for chunk in (None, 3):
        got = traced(HP["x"], chunk)._asdict()
        for sweep_ in (got, want):
            sweep_["results"] = {k: v for k, v in sweep_["results"].items() if k != "key"}
        equal(got, want)
