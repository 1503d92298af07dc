"""Oracle: the message names the argument, what was given and what is expected."""

import signal

import jax
import pytest
import toys
from refusals import refused

from jaxnn import sweep
from jaxnn.signals import Noted
from jaxnn.sweep.options import Options

KEY = jax.random.key(0)
BAD = {
    "I10 budget 0": ({"memory_budget": 0}, ValueError, "memory_budget must be at least 1, got 0"),
    "budget word": ({"memory_budget": "all"}, ValueError, "number of bytes or 'auto', got 'all'"),
    "budget 1.5": ({"memory_budget": 1.5}, TypeError, "memory_budget must be a whole number"),
    "chunk 0": ({"chunk": 0}, ValueError, "chunk must be at least 1, got 0"),
    "layout": ({"layout": "mapp"}, ValueError, r"unknown layout 'mapp' \(did you mean 'map'"),
    "mesh": ({"mesh": jax.devices}, TypeError, "mesh must be a jax.sharding.Mesh"),
    "resume": ({"resume": {}}, TypeError, "resume must be a Paused, got dict"),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_options_get_one_clear_message(case):
    """For fits in pieces; those of whole fits are in `test_run`."""
    options, error, message = BAD[case]
    for call, more in ((sweep.run, {}), (sweep.halving, {"most": 2})):
        refused(
            lambda call=call, more=more: call(
                toys.TOY, toys.members(3), KEY, 1.0, **more, **options
            ),
            error, message, "sweep.",
        )  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
def test_options_that_belong_to_the_other_kind_of_fit():
    """Oracle: the message says to which."""
    paused = sweep.Paused(arrays={}, facts={})
    fit_one, hp = (lambda hp, key: hp["rate"]), toys.members(2)
    for call, message in (
        (lambda: sweep.run(toys.TOY, hp, KEY, 1.0, score=toys.score), "score belongs to a func"),
        (lambda: jax.jit(lambda k: sweep.run(fit_one, hp, k, save=print))(KEY), "cannot trace"),
        (lambda: sweep.run(lambda hp, key: key, hp, KEY, save=print), "must hold no keys"),
    ):
        refused(call, TypeError, message, "sweep.run: ")
    for call, message in (
        (lambda: sweep.run(fit_one, hp, KEY, resume=paused), "must belong to a sweep of"),
    ):
        refused(call, ValueError, message, "sweep.run: ")


def test_a_sweep_is_stopped_by_its_own_loop_or_that_of_several():
    """By hand."""
    alone, own, outer = Options(*[None] * 7), Noted(), Noted()
    among = alone._replace(keyboard=outer)
    assert not alone.stopped(own)
    assert not among.stopped(own)
    outer.first = signal.SIGINT
    assert among.stopped(own)
    assert not alone.stopped(own)
    own.first = signal.SIGINT
    assert alone.stopped(own)
