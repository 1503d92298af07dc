"""Oracle: `train.fit` on the same rows in memory."""

import jax
import numpy as np
from training import CLASSES, DESCEND, HELD_OUT, KEY, NET, equal

from jaxnn import mlp, train

SETTINGS = {"epochs": 3, "batch_size": 4, "learning_rate": 0.05}


def chunks(batch, size):
    """Host rows in chunks, the last one smaller."""
    host = jax.tree.map(np.asarray, batch)
    return [jax.tree.map(lambda a: a[i : i + size], host) for i in range(0, len(host.x), size)]


def test_one_chunk_is_the_training_in_memory():
    """Bit for bit, with dropout, validation, metrics and patience."""
    score = lambda params, batch: mlp.mean_loss(params, batch, None, activation="tanh")
    settings = SETTINGS | {
        "validation": HELD_OUT, "validate_every": 2, "patience": 5, "metrics": {"loss": score},
    }  # fmt: skip
    seen = []
    streamed = train.fit_stream(
        KEY, NET, chunks(CLASSES, 99), DESCEND, **settings, progress=seen.append
    )
    equal(streamed, train.fit(KEY, NET, CLASSES, DESCEND, **settings))
    assert seen == [1, 1, 1]
