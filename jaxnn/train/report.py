"""What became of a training, in a sentence."""

import jax

from jaxnn import checks
from jaxnn.train.state import Trained


def describe(trained: Trained) -> str:
    """Returns a sentence that says how a run ended, and where it broke if it did.

    >>> import jax.numpy as jnp
    >>> from jaxnn import train
    >>> grow = lambda p, batch, key: (jnp.sum(p), jnp.where(p < 3, -jnp.ones(()), jnp.nan))
    >>> run = train.fit(jax.random.key(0), jnp.ones(()), train.Batch(x=jnp.ones(2)), grow,
    ...                 epochs=9, optimizer="sgd", learning_rate=1.0)
    >>> describe(run)
    'diverged in epoch 2, batch 0: params is not finite; the parameters are those before that step'

    Raises:
        TypeError: no `Trained`, or one of many members: take one of them.
    """
    where = "train.describe"
    checks.instance(where, "trained", trained, Trained)
    if jax.numpy.ndim(trained.epochs) != 0:
        raise TypeError(
            f"{where}: trained must be of one member, got {trained.epochs.shape}; take one with "
            "jax.tree.map(lambda a: a[i], trained)"
        )
    epochs, planned = int(trained.epochs), len(trained.history.loss)
    if not bool(trained.diverged):
        best = f"value {float(trained.value):.4g} of epoch {int(trained.best_epoch)}"
        how = "ran all" if epochs == planned else f"stopped after {epochs} of"
        return f"{how} {planned} epochs; {best}"
    leaf, what = int(trained.bad_leaf), "the loss"
    if leaf >= 0:
        path = jax.tree_util.tree_leaves_with_path(trained.params)[leaf][0]
        what = f"params{jax.tree_util.keystr(path)}"
    return (
        f"diverged in epoch {epochs - 1}, batch {int(trained.bad_batch)}: {what} is not finite; "
        "the parameters are those before that step"
    )
