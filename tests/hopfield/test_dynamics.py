"""Energy and recall against loops, exhaustive search, and the energy that never rises."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import hopfield
from jaxnn.hopfield import dynamics

D, M = 16, 64
KEY = jax.random.key(0)
rng = np.random.default_rng(1)
PATTERNS = rng.choice([-1.0, 1.0], (3, D))
WEIGHTS = hopfield.store(PATTERNS)
STATES = rng.choice([-1.0, 1.0], (M, D))


def random_weights(seed):
    root = np.random.default_rng(seed).normal(size=(D, D))
    return (root + root.T) * (1 - np.eye(D))


def test_energy_is_the_sum_over_pairs():
    w, s = random_weights(0), STATES[0]
    pairs = sum(w[i, j] * s[i] * s[j] for i, j in itertools.combinations(range(D), 2))
    np.testing.assert_allclose(hopfield.energy(w, s), -pairs, rtol=1e-12)


def test_overlap_closed_form():
    assert hopfield.overlap(STATES[0], STATES[0]) == 1
    np.testing.assert_allclose(hopfield.overlap(STATES[0], STATES[1]), STATES[0] @ STATES[1] / D)


def test_energy_never_rises_update_by_update():
    """Every single move of a sweep in a known order, on random symmetric weights."""
    weights = random_weights(2)
    for s in STATES[:8]:
        state, before = s.copy(), float(hopfield.energy(weights, s))
        for unit in rng.permutation(D):
            field = weights[unit] @ state
            state[unit] = np.sign(field) if field else state[unit]
            after = float(hopfield.energy(weights, state))
            assert after <= before + 1e-12
            before = after


@pytest.mark.parametrize("rule", [*hopfield.RULES, "random"])
def test_energy_never_rises_under_asynchronous_recall(rule):
    """64 starts, step by step: the energy falls, and the end is a fixed point."""
    weights = (
        jnp.asarray(random_weights(3)) if rule == "random" else hopfield.store(PATTERNS, rule=rule)
    )
    keys = jax.random.split(KEY, M)

    def end(key, state, steps):
        run = hopfield.recall(weights, state, key=key, max_steps=steps)
        return hopfield.energy(weights, run.state), run

    steps = jnp.arange(20)
    path = jax.vmap(lambda key, state: jax.vmap(lambda n: end(key, state, n))(steps))
    energies, runs = jax.jit(path)(keys, STATES)
    assert (np.diff(energies, axis=1) <= 1e-12).all()
    last = jax.tree.map(lambda a: a[:, -1], runs)
    assert last.converged.all()
    assert not last.cycle.any()
    field = np.asarray(last.state) @ np.asarray(weights)
    assert (field * np.asarray(last.state) >= -1e-12).all()


def test_asynchronous_sweep_is_the_loop():
    """The order is that of the key; each unit sees what the ones before it did."""
    weights = random_weights(4)
    state = STATES[3].copy()
    for unit in np.asarray(jax.random.permutation(KEY, D)):
        state[unit] = np.sign(weights[unit] @ state)
    np.testing.assert_array_equal(
        dynamics.asynchronous(jnp.asarray(weights), jnp.asarray(STATES[3]), KEY), state
    )


def test_asynchronous_order_depends_on_the_key_and_on_the_step():
    weights = jnp.asarray(random_weights(4))
    ends = jax.jit(jax.vmap(lambda k: hopfield.recall(weights, STATES[0], key=k).state))(
        jax.random.split(KEY, 32)
    )
    assert len(np.unique(ends, axis=0)) > 1
    again = hopfield.recall(weights, STATES[0], key=KEY)
    np.testing.assert_array_equal(again.state, hopfield.recall(weights, STATES[0], key=KEY).state)


def test_synchronous_recall_finds_fixed_points_and_cycles():
    """Against a loop in NumPy that remembers every state it has seen."""
    weights = random_weights(5)
    together = jax.vmap(lambda s: hopfield.recall(weights, s, update="synchronous"))
    runs = jax.jit(together)(STATES)
    for i, s in enumerate(STATES):
        seen = [s]
        while True:
            new = np.sign(weights @ seen[-1])
            period = next((p for p in (1, 2) if len(seen) >= p and (new == seen[-p]).all()), 0)
            seen.append(new)
            if period:
                break
        np.testing.assert_array_equal(runs.state[i], new)
        assert (bool(runs.converged[i]), bool(runs.cycle[i])) == (period == 1, period == 2)
        assert runs.steps[i] == len(seen) - 1
    assert 0 < runs.cycle.sum() < M, "both ends occur"


def test_two_units_that_inhibit_each_other_alternate():
    weights, state = -np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([1.0, 1.0])
    together = hopfield.recall(weights, state, update="synchronous")
    assert (bool(together.cycle), bool(together.converged), int(together.steps)) == (True, False, 2)
    in_turn = hopfield.recall(weights, state, key=KEY)
    assert in_turn.converged
    assert in_turn.state.sum() == 0


@pytest.mark.parametrize("update", hopfield.UPDATES)
def test_stored_patterns_stay_and_are_repaired(update):
    key = KEY if hopfield.UPDATES[update].draws else None
    for pattern in PATTERNS:
        kept = hopfield.recall(WEIGHTS, pattern, update=update, key=key)
        assert kept.converged
        assert kept.steps == 1
        np.testing.assert_array_equal(kept.state, pattern)
    single = hopfield.store(PATTERNS[:1])
    damaged = PATTERNS[0] * np.where(np.arange(D) < D // 2 - 1, -1.0, 1.0)
    repaired = hopfield.recall(single, damaged, update=update, key=key)
    np.testing.assert_array_equal(repaired.state, PATTERNS[0])


def test_one_pattern_and_its_mirror_are_the_deepest_states():
    """Brute force over 2^10 states: one stored pattern and its mirror are the deepest."""
    pattern = PATTERNS[0, :10]
    weights = hopfield.store(pattern[None])
    states = np.array(list(itertools.product([-1.0, 1.0], repeat=10)))
    energies = jax.vmap(lambda s: hopfield.energy(weights, s))(states)
    lowest = states[np.isclose(energies, energies.min())]
    assert {tuple(s) for s in lowest} == {tuple(pattern), tuple(-pattern)}


def test_a_unit_without_a_field_keeps_its_state():
    weights = jnp.zeros((3, 3))
    for update, key in (("asynchronous", KEY), ("synchronous", None)):
        end = hopfield.recall(weights, np.array([1.0, -1.0, -1.0]), update=update, key=key)
        np.testing.assert_array_equal(end.state, [1.0, -1.0, -1.0])


def test_too_few_steps_are_no_convergence():
    end = hopfield.recall(random_weights(3), STATES[0], key=KEY, max_steps=0)
    assert not end.converged
    assert end.steps == 0


S = STATES[0]
LOPSIDED = np.triu(random_weights(0))


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: hopfield.energy(WEIGHTS, S * 2), ValueError, r"-1 or \+1, got -?2.0 at 0"),
        (lambda: hopfield.energy(WEIGHTS, (S + 1) / 2), ValueError, "2 \\* x - 1"),
        (lambda: hopfield.energy(WEIGHTS, S[:5]), ValueError, r"state must have shape \(16,\)"),
        (lambda: hopfield.energy(LOPSIDED, S), ValueError, "symmetric"),
        (lambda: hopfield.energy(WEIGHTS[:5], S), ValueError, r"weights must have shape \(5, 5\)"),
        (lambda: hopfield.energy(WEIGHTS * np.nan, S), ValueError, "finite"),
        (lambda: hopfield.energy(WEIGHTS, S.astype(np.float32)), TypeError, "float64"),
        (lambda: hopfield.overlap(S, S[:5]), ValueError, "pattern must have shape"),
        (lambda: hopfield.recall(LOPSIDED, S, key=KEY), ValueError, "symmetric"),
        (lambda: hopfield.recall(WEIGHTS, S * 0, key=KEY), ValueError, r"-1 or \+1, got -?0.0"),
        (lambda: hopfield.recall(WEIGHTS, S), TypeError, "key must be a PRNG key"),
        (lambda: hopfield.recall(WEIGHTS, S, update="synchronous", key=KEY), ValueError, "None"),
        (lambda: hopfield.recall(WEIGHTS, S, update="sync"), ValueError, "'synchronous'"),
        (lambda: hopfield.recall(WEIGHTS, S, key=KEY, max_steps=-1), ValueError, "max_steps"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
