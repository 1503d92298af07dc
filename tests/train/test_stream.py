"""Oracle: `train.fit` on the same rows in memory, and a loop over the chunks by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from training import CLASSES, DESCEND, HELD_OUT, KEY, LINE, NET, START, close, equal, squares

from jaxnn import mlp, train

SETTINGS = {"epochs": 3, "batch_size": 4, "learning_rate": 0.05}


def chunks(batch, size):
    """Host rows in chunks, the last one smaller."""
    host = jax.tree.map(np.asarray, batch)
    part = lambda i: jax.tree.map(lambda a: a[i : i + size], host)
    return [part(i) for i in range(0, len(host.x), size)]


def loss(params, batch):
    return mlp.mean_loss(params, batch, None, activation="tanh")


class Reader:
    """Chunks from one buffer that is filled again and again, as readers of files do."""

    def __init__(self, parts):
        self.parts = parts

    def __iter__(self):
        buffer = jax.tree.map(np.empty_like, self.parts[0])
        for part in self.parts:
            n = len(part.x)
            for into, values in zip(jax.tree.leaves(buffer), jax.tree.leaves(part), strict=True):
                into[:] = np.nan if into.dtype.kind == "f" else 0
                into[:n] = values
            yield jax.tree.map(lambda a, n=n: a[:n], buffer)


def test_one_chunk_is_the_training_in_memory():
    """Bit for bit, with dropout, validation, metrics and patience."""
    settings = SETTINGS | {
        "validation": HELD_OUT, "validate_every": 2, "patience": 5, "metrics": {"loss": loss},
    }  # fmt: skip
    seen = []
    streamed = train.fit_stream(
        KEY, NET, chunks(CLASSES, 99), DESCEND, **settings, progress=seen.append
    )
    equal(streamed, train.fit(KEY, NET, CLASSES, DESCEND, **settings))
    assert seen == [1, 1, 1]


def test_chunks_one_after_another_are_trainings_one_after_another():
    """F20.  Oracle: full-batch descent by hand on 4, 4 and 2 rows, the last filled; one buffer."""
    parts = chunks(LINE, 4)
    streamed = train.fit_stream(
        KEY, START, Reader(parts), squares, epochs=2, optimizer="sgd", learning_rate=0.1,
        batch_size=99,
    )  # fmt: skip
    params, losses = START, []
    for _ in range(2):
        values = []
        for part in parts:
            rows = part._replace(weight=np.ones(len(part.x)))
            value, gradient = squares(params, rows, None)
            params = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
            values.append(value * len(part.x))
        losses.append(sum(values) / 10)
    close(streamed.params, params)
    close(streamed.history.loss, np.array(losses))


@pytest.mark.usefixtures("unchecked_types")  # the checker reads one at random
def test_a_sequence_is_read_in_a_new_order_each_epoch():
    """Invariant: each chunk once an epoch, in an order that the key draws; the same key, again."""
    parts = chunks(LINE, 2)

    class Watched(list):
        def __getitem__(self, i):
            read.append(i)
            return super().__getitem__(i)

    orders = []
    for _ in range(2):
        read = []
        train.fit_stream(KEY, START, Watched(parts), squares, epochs=4)
        orders.append([tuple(read[i : i + 5]) for i in range(len(read) - 20, len(read), 5)])
    assert orders[0] == orders[1]
    assert all(sorted(order) == [0, 1, 2, 3, 4] for order in orders[0])
    assert len(set(orders[0])) > 1
    read = []
    train.fit_stream(KEY, START, Watched(parts), squares, epochs=1, shuffle=False)
    assert read[-5:] == [0, 1, 2, 3, 4]


def test_a_stream_that_breaks_says_where():
    """G16: the third step of the first epoch is of the second chunk; nothing after it is read."""
    broken = [part._replace(y=part.y.copy()) for part in chunks(LINE, 4)]
    broken[1].y[:] = np.nan
    run = train.fit_stream(KEY, START, Reader(broken), squares, epochs=3, batch_size=2)
    assert (int(run.epochs), int(run.bad_batch), bool(run.diverged)) == (1, 2, True)
    first = train.fit_stream(KEY, START, Reader(broken[:1]), squares, epochs=1, batch_size=2)
    equal(run.params, first.params)


@pytest.mark.usefixtures("unchecked_types")  # ours meets what is no Midway
def test_it_is_gone_on_with_after_any_chunk():
    """Oracle: the run that nobody broke off, bit for bit; the chunks before are not trained on."""
    settings = SETTINGS | {"validation": HELD_OUT, "patience": 5}
    parts = chunks(CLASSES, 4)
    for source in (parts, Reader(parts)):
        run = partial(train.fit_stream, KEY, NET, source, DESCEND, **settings)
        saved, rest = [], []
        whole = run()
        equal(run(save=saved.append), whole)
        assert [(int(m.state.epoch), int(m.chunks)) for m in saved] == [
            (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (3, 0)
        ]  # fmt: skip
        for i in (0, 2, 4, 8):
            rest.clear()
            equal(run(resume=saved[i], save=rest.append), whole)
            assert len(rest) == 8 - i
    with pytest.raises(ValueError, match="source must give the chunks that it gave before"):
        train.fit_stream(KEY, NET, parts[:1], DESCEND, resume=saved[1], **settings)
    for other in (saved[0]._replace(chunks=jnp.zeros(2)), saved):
        refused(
            lambda other=other: run(resume=other), ValueError, "resume must be what save", "train."
        )


def test_a_callback_that_had_stopped_the_run_stops_it_again():
    """Oracle: the run that was stopped; the state is that of before the callback was asked."""
    stop = lambda trained: int(trained.epochs) == 2
    run = partial(train.fit_stream, KEY, START, chunks(LINE, 4), squares, epochs=4)
    saved = []
    stopped = run(callback=stop, save=saved.append)
    equal(run(callback=stop, resume=saved[-1]), stopped)
    assert int(stopped.epochs) == 2


def test_every_step_has_a_key_of_its_own():
    """Invariant: over chunks, too."""
    seen = []

    def value_and_grad(params, batch, key):
        jax.debug.callback(lambda k: seen.append(tuple(k.tolist())), jax.random.key_data(key))
        return squares(params, batch, key)

    train.fit_stream(KEY, START, chunks(LINE, 4), value_and_grad, epochs=2, batch_size=2)
    jax.effects_barrier()
    assert len(set(seen)) == len(seen) == 2 * 6


PARTS = chunks(CLASSES, 4)
BAD = {
    "one batch": (CLASSES, {}, TypeError, "iterable of train.Batch, got Batch"),
    "number": (3, {}, TypeError, "iterable of train.Batch, got int"),
    "iterator": (iter(PARTS), {}, TypeError, "once an epoch, got an iterator"),
    "A18 nothing": ([], {}, ValueError, "at least one chunk, got none"),
    "tuples": ([(1, 2)], {}, TypeError, "batch must be a train.Batch, got tuple"),
    "tuple later": ([PARTS[0], (1, 2)], {"shuffle": False}, TypeError, "chunk 1 must be a train"),
    "larger": ([PARTS[2], PARTS[0]], {}, ValueError, "at most the 2 rows of the first, got 4"),
    "A22 width": (
        [PARTS[0], PARTS[1]._replace(x=PARTS[1].x[:, :2])],
        {},
        ValueError,
        r"chunk 1 must hold arrays like the first",
    ),
    "F8 label": (
        [PARTS[0], PARTS[1]._replace(y=PARTS[1].y + 5)],
        {},
        ValueError,
        r"y must lie in \[0, 2\)",
    ),
    "sampling": (PARTS, {"sampling": jnp.ones(4)}, ValueError, "sampling needs all rows at once"),
    "G12 schedule": (
        Reader(PARTS),
        {"learning_rate": train.schedule("cosine", 0.1)},
        ValueError,
        "learning_rate must say its steps",
    ),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_message(case):
    """Oracle: the message names what was given."""
    source, settings, error, message = BAD[case]
    call = lambda: train.fit_stream(KEY, NET, source, DESCEND, epochs=2, **settings)
    refused(call, error, message, ("train.", "mlp."))
