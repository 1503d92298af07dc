"""Oracles: the function on all rows at once, and the compiler's account of its program."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from training import compiled

from jaxnn import gmm, kde, memory, mlp, scale

X = np.random.default_rng(0).normal(size=(101, 3))
MIXTURE = gmm.init(jax.random.key(0), X[:50], 2)
DENSITY = kde.fit(X[:20])
NET = mlp.init(jax.random.key(0), (3, 4, 2), dtype=jnp.float64)


def both(model, x):
    """Log densities and posterior, with room for a matrix in between."""
    return {"log_prob": gmm.log_prob(model, x), "posterior": gmm.posterior(model, x)}


def wide(scale, x):
    """A row needs a kilobyte and more of its own for a moment, twice over."""
    return jnp.sum(jnp.sort(jnp.sin(scale * x[:, :1] * jnp.arange(128.0)[None])), axis=1)


def least(function, model):
    """The bytes that the message says one row needs."""
    with pytest.raises(ValueError, match="at least") as caught:
        scale.by_rows(function, model, X, memory_budget=1)
    return int(re.findall(r"at least (\d+) bytes, which one row on each", str(caught.value))[0])


CASES = {
    "mixture": (both, MIXTURE),
    "density": (kde.log_prob, DENSITY),
    "network": (mlp.apply, NET),
}


@pytest.mark.parametrize("case", CASES)
def test_rows_in_chunks_are_rows_at_once(case, tmp_path):
    """In memory, a memory map, a file, and batches of an unknown number of rows."""
    function, model = CASES[case]
    np.save(tmp_path / "x.npy", X)
    given = [X]
    if case == "mixture":
        given += [np.load(tmp_path / "x.npy", mmap_mode="r"), scale.npy(tmp_path / "x.npy"),
                  scale.batches([X[:60], X[60:]])]  # fmt: skip
    budget = least(function, model) + 2000
    for x in given:
        found = scale.by_rows(function, model, x, memory_budget=budget)
        assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(found))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), found, function(model, X)
        )


def test_chunks_are_as_large_as_the_budget_allows(caplog):
    """Oracle: the compiler's account for a row more; one size, and nothing compiled anew."""
    seen = []

    def watched(scale, x):
        seen.append(x.shape[0])
        return wide(scale, x)

    def account(rows):
        shape = jax.ShapeDtypeStruct((rows, 3), X.dtype)
        program = jax.jit(wide).lower(jnp.float64(2), shape).compile()
        return memory.needed(program) + 3 * rows * 24  # three more chunks on their way

    budget = account(40)
    run = lambda: scale.by_rows(watched, jnp.float64(2), X, memory_budget=budget)
    found = run()
    np.testing.assert_allclose(found, wide(2.0, X), rtol=1e-12)
    assert seen[-1] == 34  # 101 rows in three chunks
    assert account(51) > budget >= account(34)
    assert compiled(caplog, run, "each_alone") == 0
    one = least(wide, jnp.float64(2))
    scale.by_rows(wide, jnp.float64(2), X[:2], memory_budget=one)
    refused(
        lambda: scale.by_rows(wide, jnp.float64(2), X, memory_budget=one - 1),
        ValueError,
        f"memory_budget must be at least {one} bytes, which one row",
        "scale.by_rows",
    )


def first(model, x):
    return x[:, 0] + model


def test_no_rows_and_one_row():
    assert scale.by_rows(first, 1.0, X[:0]).shape == (0,)
    np.testing.assert_array_equal(scale.by_rows(first, 1.0, X[:1]), X[:1, 0] + 1)
    with jax.enable_x64(False):
        assert scale.by_rows(first, np.float32(1), X.astype(np.float32)).dtype == np.float32


@pytest.mark.usefixtures("unchecked_types")
def test_what_does_not_fit_is_refused():
    bad = X.copy()
    bad[77, 1] = np.nan
    run = lambda function=first, model=1.0, x=X, **more: (
        lambda: scale.by_rows(function, model, x, **more)
    )
    for call, error, message in [
        (run(function=3), TypeError, "function must be a function, got int"),
        (run(x=bad), ValueError, "x must be finite, got nan at row, column 77, 1"),
        (run(x=scale.batches([X[:60], bad[60:]])), ValueError, "at row, column 77, 1"),
        (run(x=X[0]), ValueError, r"must have shape \(n, d\)"),
        (run(model={"w": np.array([1, np.nan])}), ValueError, r"no NaN, got one in model\['w'\]"),
        (run(function=lambda m, x: x.sum()), ValueError, r"a row for each .*got \(\) for 2 rows"),
        (run(function=lambda m, x: ()), ValueError, "a row for each .*got none"),
        (run(x=scale.batches([X], rows=102)), ValueError, "the 102 rows .* tells of, got 101"),
        (run(x=scale.batches([X], rows=99)), ValueError, "the 99 rows .* tells of, got more"),
        (run(memory_budget="all"), ValueError, "a number of bytes or 'auto', got 'all'"),
        (run(mesh=8), TypeError, "mesh must be a Mesh"),
    ]:
        refused(call, error, message, "scale.by_rows")
