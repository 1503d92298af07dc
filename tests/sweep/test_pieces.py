"""Oracles: closed forms, the same pieces run one by one, and counting of what is run."""

import signal
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from refusals import refused

from jaxnn import sweep
from jaxnn.sweep import pieces
from jaxnn.sweep.options import Options
from jaxnn.sweep.rules import Rule
from jaxnn.types import Segments

KEY = jax.random.key(5)
N = 11
STOP = np.arange(N) % 5 + 1
HP = toys.members(N, stop=STOP)
SCALE = 0.9


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def is_key(a):
    return jnp.issubdtype(a.dtype, jax.dtypes.prng_key)


def close(a, b):
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-12, atol=1e-14), a, b)


@pytest.fixture(scope="module")
def alone():
    """Every member by itself: the toy's own functions, compiled for one member, in a loop."""
    step = jax.jit(toys.advance)
    results = []
    for i, key in enumerate(sweep.member_keys(KEY, HP)):
        state = toys.init({k: v[i] for k, v in HP.items()}, key, SCALE)
        while not bool(toys.halted(state)):
            state = step(state, SCALE)
        results.append(toys.result(state))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)


@pytest.mark.parametrize("layout", sweep.LAYOUTS)
@pytest.mark.parametrize("chunk", [None, 4], ids=str)
def test_every_member_is_the_fit_run_alone(alone, layout, chunk):
    """I4, I11. Oracles: a loop over members, bit for bit under `map`; and closed forms."""
    got = sweep.run(toys.TOY, HP, KEY, SCALE, layout=layout, chunk=chunk)
    (equal if layout == "map" else close)(got.results, alone)
    close(got.results, toys.alone(HP, sweep.member_keys(KEY, HP), SCALE, STOP))
    equal(got.pieces, STOP)
    equal(got.scores, got.results["w"])
    assert bool(got.done.all())
    assert not bool((got.failed | got.stopped).any())


def counted(calls):
    """The toy, which notes the rate of each member that is advanced."""

    def advance(state, scale):
        jax.debug.callback(lambda rate: calls.append(float(rate)), state.hp["rate"])
        return toys.advance(state, scale)

    return toys.TOY._replace(advance=advance)


@pytest.mark.parametrize("layout", sweep.LAYOUTS)
def test_members_that_are_done_cost_nothing(layout):
    """I9. Oracle: counting calls: a long member runs alone once the short ones have halted."""
    calls = []
    hp = toys.members(8, stop=[2] * 7 + [30])
    got = sweep.run(counted(calls), hp, KEY, SCALE, layout=layout)
    jax.effects_barrier()
    equal(got.pieces, hp["stop"])
    ran = Counter(calls)
    assert ran[0.5] == 30  # the long one
    assert len(calls) == 8 * 2 + 28


def test_a_batch_shrinks_by_halves():
    """Oracle: by hand: of 8 members one more halts each round; batches of 8, 8, …, 4, 4, 2, 2, 1
    rows, so that at most half of a batch is idle; in chunks of 3, full ones until fewer are left.
    """
    calls = []
    hp = toys.members(8, stop=np.arange(1, 9))
    protocol = counted(calls)
    sweep.run(protocol, hp, KEY, SCALE)
    jax.effects_barrier()
    assert len(calls) == 8 + 8 + 8 + 8 + 4 + 4 + 2 + 1
    calls.clear()
    sweep.run(protocol, hp, KEY, SCALE, chunk=3)
    jax.effects_barrier()
    assert len(calls) == 9 + 9 + 6 + 6 + 6 + 3 + 2 + 1


def test_a_member_that_turns_nan_is_flagged_and_leaves():
    """I8. Oracle: closed form for the others; its pieces end where it failed."""
    hp = toys.members(6, stop=5, nan_at=[0, 3, 0, 0, 1, 0])
    got = sweep.run(toys.TOY, hp, KEY, SCALE)
    equal(got.failed, [False, True, False, False, True, False])
    equal(got.pieces, [5, 3, 5, 5, 1, 5])
    assert bool(got.done.all())
    well = np.array([0, 2, 3, 5])
    want = toys.alone(hp, sweep.member_keys(KEY, hp), SCALE, got.pieces)
    np.testing.assert_allclose(got.results["w"][well], want["w"][well], rtol=1e-12)
    assert int(sweep.best(got, lambda r: r["w"]).member) == 5


def test_a_member_with_nothing_to_do_is_its_start():
    """I23. Oracle: the first state, after no piece at all."""
    got = sweep.run(toys.TOY, toys.members(3, stop=[0, 0, 0]), KEY, SCALE)
    equal(got.results["w"], np.ones(3))
    equal(got.pieces, np.zeros(3))
    assert bool(got.done.all())
    assert not bool(got.failed.any())


def test_rungs_keep_the_score_of_their_time():
    """By hand, rungs 1, 2 and 4: member 0 ends after three pieces, 1 fails in the second, 2 runs
    on: what a rung saw stays, and those above see the last score, or infinity.
    """
    rule = Rule("some", (), (1, 2, 4), lambda records: (records.racing, records.stopped))
    protocol = toys.TOY._replace(score=lambda state: -1.0 * state.t + 0 * state.w)
    hp = toys.members(3, stop=[3, 9, 4], nan_at=[0, 2, 0])
    options = Options(None, "vmap", None, None, None, None, None)
    keys = sweep.member_keys(KEY, hp)
    _, records, done = pieces.drive("here", protocol, hp, keys, (SCALE,), lambda k: rule, options)
    equal(records.rungs, [[-1, -2, -3], [-1, np.inf, np.inf], [-1, -2, -4]])
    assert done.all()


@pytest.mark.parametrize("layout", sweep.LAYOUTS)
def test_members_stop_where_the_fit_alone_stops(layout):
    """Oracle: closed form of the piece after which w is below 0.1, in float64."""
    protocol = toys.TOY._replace(halted=lambda state: state.w < 0.1)
    hp = toys.members(9)
    got = sweep.run(protocol, hp, KEY, SCALE, layout=layout, chunk=4)
    equal(got.pieces, np.ceil(np.log(0.1) / np.log(SCALE * (1 - np.asarray(hp["rate"])))))
    equal(got.results["t"], got.pieces)


def test_another_sweep_compiles_nothing():
    """I12. Oracle: counting: other numbers, keys and data of the same shapes; one program each."""
    traces = []

    def advance(state, scale):
        traces.append(None)
        return toys.advance(state, scale)

    protocol = toys.TOY._replace(advance=advance)
    sweep.run(protocol, HP, KEY, SCALE, layout="map")
    first = len(traces)
    again = HP | {"rate": HP["rate"] / 2}
    sweep.run(protocol, again, jax.random.key(1), 0.5, layout="map")
    assert len(traces) == first


def test_reports_say_how_far_it_is():
    """Oracle: counting, and the closed form of the best score."""
    seen = []
    got = sweep.run(toys.TOY, HP, KEY, SCALE, progress=seen.append)
    assert sum(report.new for report in seen) == N
    assert [report.done for report in seen] == [0] + [int(np.sum(k >= STOP)) for k in range(1, 6)]
    assert seen[-1].best == float(got.scores.min())
    assert seen[-1].left == 0 < seen[-1].seconds
    assert np.isnan(seen[0].left)


def test_ctrl_c_leaves_what_there_is():
    """Oracle: closed forms after two pieces; the handler is put back."""
    before = signal.getsignal(signal.SIGINT)
    rounds = []

    def press(report):
        rounds.append(report)
        if len(rounds) == 3:  # two rounds are done
            signal.raise_signal(signal.SIGINT)

    with pytest.warns(UserWarning, match=f"interrupted with 5 of {N} members done"):
        got = sweep.run(toys.TOY, HP, KEY, SCALE, progress=press)
    equal(got.done, STOP <= 2)
    equal(got.pieces, np.minimum(STOP, 2))
    close(got.results, toys.alone(HP, sweep.member_keys(KEY, HP), SCALE, got.pieces))
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("rule", [None, *sweep.RULES])
def test_a_saved_sweep_goes_on_as_if_nothing_had_happened(rule):
    """Invariant: resumed after any round, bit for bit the same; `save` is given copies."""
    if rule is None:
        run = lambda **o: sweep.run(toys.TOY, HP, KEY, SCALE, chunk=4, **o)
    else:
        run = lambda **o: sweep.halving(
            toys.TOY, HP, KEY, SCALE, chunk=4, most=4, eta=2, rule=rule, **o
        )
    saved = []
    whole = run(save=saved.append)
    assert len(saved) > 2
    for paused in (saved[0], saved[len(saved) // 2], saved[-1]):
        host = jax.tree.map(lambda a: a if is_key(a) else np.asarray(a), paused.arrays)
        equal(run(resume=paused._replace(arrays=host)), whole)


def test_inputs_survive_donation():
    """I17. Invariant: what the caller gave is still there, though states are updated in place."""
    hp = toys.members(4, stop=2)
    given = jnp.asarray(SCALE)
    keep = Segments(  # states that are nothing but the caller's own arrays
        init=lambda hp, key, scale: (hp, key, scale),
        advance=lambda state, scale: state,
        score=lambda state: state[2],
        halted=lambda state: state[0]["stop"] > 0,
        result=lambda state: state,
    )
    saved = []
    sweep.run(keep, hp, KEY, given, save=saved.append)
    sweep.run(toys.TOY, hp, KEY, given, save=saved.append)
    assert np.isfinite(sum(float(jnp.sum(a)) for a in (*hp.values(), given)))
    assert jax.random.key_data(KEY).shape == (2,)
    assert all(float(jnp.sum(p.arrays["states"].w)) > 0 for p in saved)


LIKE = toys.TOY._replace
BAD = {
    "no advance": (LIKE(advance=None), TypeError, "advance must be a function, got NoneType"),
    "no state": (LIKE(init=lambda hp, key, s: ()), ValueError, "init must return a state with at"),
    "other tree": (
        LIKE(advance=lambda s, scale: s.w),
        ValueError,
        "advance must return a state like that of init",
    ),
    "other shape": (
        LIKE(advance=lambda s, scale: s._replace(w=s.w[None])),
        ValueError,
        r"keep shapes and dtypes, got float64\(1,\) for float64\(\) at state.w",
    ),
    "other dtype": (
        LIKE(advance=lambda s, scale: s._replace(t=s.t * 1.0)),
        ValueError,
        r"got float64\(\) for int32\(\) at state.t",
    ),
    "two scores": (LIKE(score=lambda s: jnp.ones(2)), ValueError, "score must return one number"),
    "count": (LIKE(halted=lambda s: s.t), ValueError, "halted must return one bool"),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_functions_that_do_not_fit_get_one_clear_message(case):
    """Oracle: the message names the function, what it must return and what it did."""
    protocol, error, message = BAD[case]
    refused(lambda: sweep.run(protocol, HP, KEY, SCALE), error, message, "sweep.run: ")


@pytest.mark.usefixtures("unchecked_types")
def test_what_belongs_to_another_sweep_is_not_resumed():
    """Oracle: the message says what differs."""
    saved = []
    sweep.run(toys.TOY, HP, KEY, SCALE, save=saved.append)
    go = lambda hp=HP, key=KEY, paused=saved[0]: sweep.run(toys.TOY, hp, key, SCALE, resume=paused)
    few = {name: a[:4] for name, a in HP.items()}
    for call, message in (
        (lambda: go(hp=HP | {"rate": 2 * HP["rate"]}), "this sweep, got other hparams"),
        (lambda: go(key=jax.random.key(9)), "this sweep, got other keys"),
        (lambda: go(hp=few), "a sweep of {'members': 4, .*got {'members': 11"),
        (lambda: sweep.halving(toys.TOY, HP, KEY, SCALE, most=4, resume=saved[0]),
         "a sweep of .*'rule': 'halving'"),
        (lambda: go(paused=saved[0]._replace(arrays=saved[0].arrays | {"states": {}})),
         "must hold states as init returns them"),
    ):  # fmt: skip
        refused(call, ValueError, message, ("sweep.run: resume", "sweep.halving: resume"))


@pytest.mark.usefixtures("unchecked_types")
def test_pieces_are_not_traced():
    """Oracle: the message says what to do instead."""
    traced = jax.jit(lambda scale: sweep.run(toys.TOY, HP, KEY, scale))
    refused(lambda: traced(1.0), TypeError, "driven by a loop in Python.*init and advance", "sweep")
