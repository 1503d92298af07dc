"""A training in equal pieces, one member of many: the trainer's `types.Segments`."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from jaxnn import checks
from jaxnn.train import door
from jaxnn.train import epochs as core
from jaxnn.train.data import Batch
from jaxnn.train.state import Trained, TrainState
from jaxnn.types import Key, Segments, ValueAndGrad

HParams = dict[str, Array]
Network = Callable[[HParams, Key], tuple[PyTree, ValueAndGrad, dict[str, Any]]]
WHERE = "train.segments"


class Member(NamedTuple):
    """What a piece hands to the next: the numbers and the key of `network`, and the run."""

    hparams: HParams
    key: Key
    run: TrainState


def segments(network: Network, *, epochs: int, every: int = 1, **settings: Any) -> Segments:
    """Returns a training of `epochs` in pieces of `every`, to be `vmap`ped over members.

    Args:
        network: `(hparams, key) -> (params, value_and_grad, numbers)`: parameters to start from,
            the function to descend, and keyword arguments of `fit` that are numbers of the member
            (`learning_rate`, `l2`, `patience`, `min_gain`, `stop_at`, `order_key`, those of the
            optimizer).
        epochs: as in `fit`; members with a `stop_at` of their own halt there.
        every: epochs per piece, rounded up to a multiple of `validate_every`.
        **settings: the other keyword arguments of `fit`, common to all members, but for
            `validation` and `sampling`: these are shared data.

    Returns:
        Pure functions; the shared data are `batch, validation=None, sampling=None`. The member's
        key is split in two: `network` takes the first, the training the second. `result` is what

            key_network, key_fit = jax.random.split(key)
            params, value_and_grad, numbers = network(hparams, key_network)
            train.fit(key_fit, params, batch, value_and_grad, epochs=epochs, validation=validation,
                      sampling=sampling, **settings, **numbers)

        returns. `score` is the value of that, the best so far with a validation set and the last
        training loss without, and NaN where the member diverged. Build it once: other function
        objects are other programs to JAX.

    Raises:
        TypeError, ValueError: what `fit` says, from `init`.

    >>> from jaxnn import mlp, train
    >>> def network(hparams, key):
    ...     params = mlp.init(key, (2, 3, 2))
    ...     return params, mlp.value_and_grad(), {"learning_rate": hparams["learning_rate"]}
    >>> pieces = train.segments(network, epochs=4, every=2)
    >>> rows = train.Batch(x=jnp.ones((5, 2), jnp.float32), y=jnp.array([0, 1, 0, 1, 1]))
    >>> member = jax.jit(pieces.init)({"learning_rate": jnp.array(0.1)}, jax.random.key(0), rows)
    >>> advance = jax.jit(pieces.advance)
    >>> member = advance(advance(member, rows), rows)
    >>> bool(pieces.halted(member)), int(pieces.result(member).epochs)
    (True, 4)
    """
    every = checks.count(WHERE, "every", every)

    def prepare(
        hparams: HParams,
        key: Key,
        batch: Batch,
        validation: Batch | None = None,
        sampling: Float[Array, " n"] | None = None,
    ) -> door.Job:
        params, value_and_grad, numbers = network(hparams, key)
        shared = {"validation": validation, "sampling": sampling, "epochs": epochs}
        return door.prepare(
            WHERE, key, params, batch, value_and_grad, **shared, **(settings | numbers)
        )

    def init(hparams: HParams, key: Key, *shared: Any) -> Member:
        key_network, key_run = jax.random.split(key)
        job = prepare(hparams, key_network, *shared)
        return Member(hparams, key_network, core.start(key_run, *job))

    def advance(member: Member, *shared: Any) -> Member:
        _, rows, plan, choices = prepare(member.hparams, member.key, *shared)
        length = core.rounded(every, choices)
        run = core.segment(member.run, rows, plan, choices=choices, epochs=length)
        return member._replace(run=run)

    def result(member: Member) -> Trained:
        return core.finish(member.run)

    def score(member: Member) -> Float[Array, ""]:
        return jnp.where(member.run.diverged, jnp.nan, result(member).value)

    def halted(member: Member) -> Bool[Array, ""]:
        return member.run.halted

    return Segments(init=init, advance=advance, score=score, halted=halted, result=result)
