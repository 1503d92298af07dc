"""Oracles: NumPy for each configuration, and scipy.stats."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from scipy import stats

from jaxnn import sweep
from jaxnn.sweep import averages

rng = np.random.default_rng(0)
HPARAMS = sweep.grid(rate=[0.1, 0.2], rule=["a", "b"], seed=range(5))
SCORES = jnp.asarray(rng.normal(size=20))
DONE = sweep.Sweep(HPARAMS, {"score": SCORES})


def test_means_and_intervals():
    """Oracle: NumPy and Student's interval of SciPy, whatever the order of the members."""
    order = rng.permutation(20)
    mixed = jax.tree.map(lambda a: a[order], DONE)
    got = sweep.average(mixed, lambda r: r["score"], level=0.9)
    pairs = list(zip(got.hparams["rate"].tolist(), got.hparams["rule"].tolist(), strict=True))
    assert sorted(pairs) == [(0.1, "a"), (0.1, "b"), (0.2, "a"), (0.2, "b")]
    for i, (rate, rule) in enumerate(pairs):
        mine = (np.asarray(HPARAMS["rate"]) == rate) & (np.array(HPARAMS["rule"].tolist()) == rule)
        values = np.asarray(SCORES)[mine]
        low, high = stats.t.interval(0.9, 4, values.mean(), stats.sem(values))
        ours = [float(a[i]) for a in got.results[:4]]
        np.testing.assert_allclose(ours, [values.mean(), values.std(ddof=1), low, high], rtol=1e-9)
    assert got.results.members.tolist() == [5] * 4
    assert "seed" not in got.hparams


@pytest.mark.parametrize("level", [0.1, 0.95, 0.9999])
def test_student(level):
    """Oracle: scipy.stats.t."""
    freedom = np.array([1.0, 2.0, 7.0, 300.0])
    got = averages.student(level, jnp.asarray(freedom))
    np.testing.assert_allclose(got, stats.t.ppf((1 + level) / 2, freedom), rtol=1e-9)


def test_a_failed_seed_is_told_and_a_single_one_has_no_interval():
    """Degenerate, legal: NaN in the mean and a count of failures; infinite ends for one member."""
    x = jnp.array([1.0] * 17 + [2.0, jnp.nan, 3.0])
    values = jnp.ones(20).at[4].set(jnp.nan).at[-2:].set(0.5)
    done = sweep.Sweep({"x": x, "seed": jnp.arange(20)}, values)
    got = sweep.average(done, lambda r: r).results
    assert got.failed.tolist() == [1, 0, 0, 0]
    np.testing.assert_array_equal(got.mean, [np.nan, 1, 0.5, 0.5])
    assert (float(got.low[1]), float(got.high[1])) == (-np.inf, np.inf)
    assert sweep.best(sweep.Sweep({"x": jnp.arange(4)}, got), lambda r: r.mean).member == 2


def test_whole_numbers_are_averaged_as_numbers_and_float32_stays():
    """Closed form."""
    by = lambda r: r
    hparams = {"x": jnp.arange(20) % 4, "seed": jnp.arange(20)}
    hits = sweep.Sweep(hparams, jnp.arange(20) < 10)
    assert sweep.average(hits, by).results.mean.tolist() == [0.6, 0.6, 0.4, 0.4]
    single = sweep.average(hits._replace(results=jnp.ones(20, jnp.float32)), by).results
    assert {a.dtype for a in single[:4]} == {jnp.dtype(jnp.float32)}


BAD = {
    "over": ({"over": ["sead"]}, ValueError, "over must name an axis, got sead; there are rate"),
    "level": ({"level": 1.0}, ValueError, r"level must be in \(0, 1\), got 1.0"),
    "by": ({"by": lambda r: jnp.sum(r["score"])}, ValueError, r"by\(results\).*\(20,\), got \(\)"),
    "sweep": ({"sweep": 3}, TypeError, "sweep must be a Sweep, got int"),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_message(case):
    """Oracle: the message."""
    options, error, message = BAD[case]
    given = {"sweep": DONE, "by": lambda r: r["score"]} | options
    refused(lambda: sweep.average(**given), error, message, "sweep.average")
