"""Many fits in one call against one fit at a time."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxnn import gmm
from jaxnn.gmm import batch

B, N, D, K = 4, 40, 2, 2
KEY = jax.random.key(0)
rng = np.random.default_rng(4)
CENTRES = rng.normal(size=(B, K, D)) * 2
X = CENTRES[np.arange(B)[:, None], rng.integers(K, size=(B, N))] + rng.normal(size=(B, N, D))
W = rng.integers(0, 3, (B, N)).astype(float)
RIDGE, TOL = np.geomspace(1e-6, 1e-2, B), np.geomspace(1e-2, 1e-6, B)
MOST = 12  # too few for some members, which a resumed fit must respect
MIXTURES = gmm.GMM(
    np.full((B, K), -np.log(K)), X[:, :K], gmm.Diag(np.sqrt(X.var(1))[:, None].repeat(K, 1))
)
MIXTURES = jax.tree.map(jnp.asarray, MIXTURES)
take = lambda tree, i: jax.tree.map(lambda a: a[i], tree)


@pytest.fixture(scope="module")
def alone():
    numbers = zip(X, W, RIDGE, TOL, strict=True)
    return [
        gmm.fit(take(MIXTURES, i), x, sample_weight=w, ridge=ridge, tol=tol, max_steps=MOST)
        for i, (x, w, ridge, tol) in enumerate(numbers)
    ]


@pytest.mark.parametrize("layout", ["map", "vmap"])
def test_equals_separate_fits(layout, alone, monkeypatch):
    """Oracle: `fit`, with weights, ridges and tolerances of each member's own; steps too."""
    monkeypatch.setattr(batch, "SEGMENT", 5)
    finished = []
    fits = gmm.fit_many(MIXTURES, X, sample_weight=W, ridge=RIDGE, tol=TOL, max_steps=MOST,
                        layout=layout, progress=finished.append)  # fmt: skip
    assert sum(finished) == B
    assert len({int(f.steps) for f in alone}) > 2  # members do stop at different times
    assert max(int(f.steps) for f in alone) == MOST
    for i, one in enumerate(alone):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10),
                     take(fits, i), one)  # fmt: skip


def test_a_straggler_holds_nobody_up(monkeypatch):
    """One member of very many steps costs at most 1.3 times the steps of one by one.

    Oracle: a count of all steps that the compiled programs could take, by the sizes they run at.
    """
    paid, run, go_on = [], batch._run, batch._continue
    spent = lambda fits: int(jnp.max(fits.steps))

    def counted_run(members, steps, layout):
        fits = run(members, steps, layout)
        paid.append(len(members[1]) * spent(fits))
        return fits

    def counted_continue(fits, data, who, steps):
        new = go_on(fits, data, who, steps)
        paid.append(len(who) * (spent(new[0]) - spent(fits)))
        return new

    monkeypatch.setattr(batch, "_run", counted_run)
    monkeypatch.setattr(batch, "_continue", counted_continue)
    monkeypatch.setattr(batch, "SEGMENT", 2)
    # No clusters and no tolerance keep the straggler going; the others stop within a few steps.
    x = np.r_[np.random.default_rng(0).normal(size=(1, N, D)), X[1:]]
    tol = np.r_[np.zeros(1), np.full(B - 1, 1e-2)]
    close = MIXTURES.means.at[0].set(jnp.array([[0.0, 0.0], [1e-3, 0.0]]))
    fits = gmm.fit_many(MIXTURES._replace(means=close), x, tol=tol, max_steps=150, layout="vmap")
    alone = int(fits.steps.sum())
    assert fits.steps[0] > 10 * fits.steps[1:].max()
    assert sum(paid) <= 1.3 * alone


@pytest.mark.parametrize("layout", ["map", "vmap"])
def test_members_wait_until_there_is_room(layout, monkeypatch):
    """Oracle: all at a time; counted, how many of them are.  One member is the least that fits."""
    fit = lambda budget: gmm.fit_many(
        MIXTURES, X, max_steps=MOST, layout=layout, memory_budget=budget
    )
    with pytest.raises(ValueError, match=r"gmm.fit_many: memory_budget must be at least") as caught:
        fit(1)
    least = int(re.findall(r"at least (\d+) bytes, which one member", str(caught.value))[0])
    sizes = []
    for name in ("_in_chunks", "_in_segments"):
        drive = getattr(batch, name)
        look = lambda members, *a, drive=drive: (sizes.append(len(members[2])), drive(members, *a))
        monkeypatch.setattr(batch, name, lambda *a, look=look: look(*a)[1])
    expected = fit(None)
    for budget, times in ((least, [1] * B), (2**30, [B])):
        sizes.clear()
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10),
                     fit(budget), expected)  # fmt: skip
        assert sizes == times


def test_no_steps_only_evaluate():
    """C9: zero steps are allowed; oracle: the likelihood of the starts."""
    for layout in ("map", "vmap"):
        fits = gmm.fit_many(MIXTURES, X, max_steps=0, layout=layout)
        expected = [gmm.log_prob(take(MIXTURES, i), X[i]).mean() for i in range(B)]
        np.testing.assert_allclose(fits.log_lik, expected, rtol=1e-12)


many = lambda *a, **k: lambda: gmm.fit_many(*a, **k)
NONE = W * (np.arange(B) != 3)[:, None]
BAD = {
    "no mixtures": (many(None, X), TypeError, "mixtures must be a GMM, got NoneType"),
    "one data set": (many(MIXTURES, X[0]), ValueError, r"x must have shape \(any, any, any\)"),
    "one mixture": (many(take(MIXTURES, 0), X), ValueError, r"mixtures.means must.*\(4, any, 2\)"),
    "batches": (many(MIXTURES, X[:3]), ValueError, r"mixtures.means must have shape \(3, any, 2\)"),
    "leaf": (many(MIXTURES._replace(log_weights=jnp.zeros((3, K))), X), ValueError, "each leaf"),
    "A18": (many(MIXTURES, X[:, :0]), ValueError, "x must not be empty"),
    "A1": (many(MIXTURES, np.where(X > 2, np.nan, X)), ValueError, "x must be finite, got nan at"),
    "B8": (many(MIXTURES, X.astype(np.float32)), TypeError, "x must be float64 like the mixtures"),
    "C5": (many(MIXTURES, X[:, :1]), ValueError, "at least 2 rows for 2 components, got 1"),
    "C8": (many(MIXTURES, X, tol=-TOL), ValueError, "tol must be non-negative"),
    "C9": (many(MIXTURES, X, max_steps=2.5), TypeError, "max_steps must be a whole number"),
    "C10": (many(MIXTURES, X, ridge=RIDGE[:2]), ValueError, r"ridge must have shape \(4,\)"),
    "C20": (many(MIXTURES, X, sample_weight=-W), ValueError, "sample_weight must be non-negative"),
    "C22": (many(MIXTURES, X, sample_weight=NONE), ValueError, "zero everywhere, as for member 3"),
    "C23": (many(MIXTURES, X, sample_weight=W[0]), ValueError, r"must have shape \(4, 40\)"),
    "layout": (many(MIXTURES, X, layout="mup"), ValueError, "mean 'map'"),
    "I10": (many(MIXTURES, X, memory_budget="much"), ValueError, "memory_budget.*got 'much'"),
    "A34": (lambda: jax.jit(lambda x: gmm.fit_many(MIXTURES, x))(X), TypeError, "not be traced"),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    refused(*BAD[case], where="gmm.fit_many: ")
