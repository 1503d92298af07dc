"""Storage rules against loops in NumPy, projections, and fixed points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import hopfield

D = 40
rng = np.random.default_rng(0)
FEW = rng.choice([-1.0, 1.0], (3, D))
MANY = rng.choice([-1.0, 1.0], (30, D))
RULES = list(hopfield.RULES)


def loop_hebb(patterns):
    d = patterns.shape[1]
    w = np.zeros((d, d))
    for i in range(d):
        for j in range(d):
            if i != j:
                w[i, j] = sum(row[i] * row[j] for row in patterns) / d
    return w


def loop_pseudo_inverse(patterns):
    """By the overlap matrix, which has an inverse for independent patterns."""
    inverse = np.linalg.inv(patterns @ patterns.T)
    w = patterns.T @ inverse @ patterns
    return w - np.diag(np.diag(w))


def loop_storkey(patterns):
    """Literally as printed: the local field of each pair of units, term by term."""
    d = patterns.shape[1]
    w = np.zeros((d, d))
    for row in patterns:
        field = lambda i, j, w=w, row=row: sum(
            w[i, k] * row[k] for k in range(d) if k not in (i, j)
        )
        new = w.copy()
        for i in range(d):
            for j in range(d):
                if i != j:
                    change = row[i] * row[j] - row[i] * field(j, i) - field(i, j) * row[j]
                    new[i, j] += change / d
        w = new
    return w


LOOPS = {"hebb": loop_hebb, "pseudo-inverse": loop_pseudo_inverse, "storkey": loop_storkey}


@pytest.mark.parametrize("rule", RULES)
def test_rule_is_the_loop(rule):
    np.testing.assert_allclose(
        hopfield.store(FEW, rule=rule), LOOPS[rule](FEW), rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize("rule", RULES)
def test_weights_are_symmetric_without_diagonal(rule):
    weights = np.asarray(hopfield.store(MANY, rule=rule))
    np.testing.assert_allclose(weights, weights.T, atol=1e-14)
    assert not np.diag(weights).any()


@pytest.mark.parametrize("rule", RULES)
def test_patterns_at_low_load_are_fixed_points(rule):
    weights = np.asarray(hopfield.store(FEW, rule=rule))
    np.testing.assert_array_equal(np.sign(FEW @ weights), FEW)


def test_pseudo_inverse_keeps_patterns_at_high_load():
    """At load 30/40 every field is 1 - Q_ii > 0 of its pattern (Kanter and Sompolinsky, 1987)."""
    weights = np.asarray(hopfield.store(MANY, rule="pseudo-inverse"))
    projection = np.linalg.pinv(MANY) @ MANY
    np.testing.assert_allclose(
        MANY @ weights, MANY * (1 - np.diag(projection)), rtol=1e-9, atol=1e-12
    )
    assert (np.diag(projection) < 1).all()
    hebb = np.asarray(hopfield.store(MANY))
    assert (np.sign(MANY @ hebb) != MANY).any(), "the load is beyond Hebb's rule"


def test_pseudo_inverse_takes_dependent_patterns():
    twice = np.concatenate([FEW, FEW, -FEW])
    once, again = (hopfield.store(x, rule="pseudo-inverse") for x in (FEW, twice))
    np.testing.assert_allclose(once, again, atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_active_rows_are_a_slice(rule):
    """Also under a trace, where the number of patterns is not known."""
    by_slice = hopfield.store(MANY[:7], rule=rule)
    traced = jax.jit(lambda n: hopfield.store(MANY, rule=rule, active=n))(7)
    np.testing.assert_allclose(traced, by_slice, atol=1e-13)


@pytest.mark.parametrize("rule", RULES)
def test_flipping_a_unit_flips_its_weights(rule):
    """Gauge invariance: signs of units are names only."""
    flip = np.where(np.arange(D) % 3 == 0, -1.0, 1.0)
    flipped = hopfield.store(FEW * flip, rule=rule)
    expected = np.asarray(hopfield.store(FEW, rule=rule)) * np.outer(flip, flip)
    np.testing.assert_allclose(flipped, expected, atol=1e-13)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: hopfield.store(np.zeros((0, 4))), ValueError, "must not be empty"),
        (lambda: hopfield.store(FEW[0]), ValueError, r"shape \(any, any\)"),
        (lambda: hopfield.store((FEW + 1) / 2), ValueError, r"-1 or \+1, got 0.0 at 0, "),
        (lambda: hopfield.store(FEW * np.nan), ValueError, "finite"),
        (lambda: hopfield.store(FEW.astype(int)), TypeError, "floating-point"),
        (lambda: hopfield.store(FEW.astype(np.float16)), TypeError, "float32 or float64"),
        (lambda: hopfield.store(FEW, rule="heb"), ValueError, "did you mean 'hebb'"),
        (lambda: hopfield.store(FEW, active=0), ValueError, "active must be positive"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=f"hopfield.store: .*{message}"):
        call()


def test_float32_keeps_its_type_and_its_patterns():
    single = jnp.asarray(MANY[:15], jnp.float32)
    for rule in ("pseudo-inverse", "storkey"):
        weights = hopfield.store(single, rule=rule)
        assert weights.dtype == jnp.float32
    weights = hopfield.store(single, rule="pseudo-inverse")
    np.testing.assert_array_equal(jnp.sign(single @ weights), single)
