"""Changes of a batch that teach a network more than its rows say, by name.

A rule is a NamedTuple of traced numbers, called as `rule(key, batch) -> batch` in each step.
Shapes: n rows.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxnn import checks
from jaxnn.train import rules
from jaxnn.train.data import Batch
from jaxnn.types import Key, Scalar


class Noise(NamedTuple):
    """Gaussian noise of standard deviation `scale` on the inputs (Bishop, 1995).

    For small noise, the penalty scale²/2·‖∂output/∂input‖² in squared loss. In the units of the
    data: standardise first.
    """

    scale: Scalar

    def __call__(self, key: Key, batch: Batch) -> Batch:
        """Returns the batch with other inputs."""
        leaves, rebuild = jax.tree.flatten(batch.x)
        keys = jax.random.split(key, len(leaves))
        noisy = [
            x + jnp.asarray(self.scale, x.dtype) * jax.random.normal(k, x.shape, x.dtype)
            for k, x in zip(keys, leaves, strict=True)
        ]
        return batch._replace(x=jax.tree.unflatten(rebuild, noisy))


class Mixup(NamedTuple):
    """Each row mixed with another, and its target alike (Zhang et al., 2018, eq. 1).

    Rows become λ row + (1-λ) partner, λ ~ Beta(alpha, alpha) for each row; alpha 0 leaves them.
    Partners are drawn in proportion to their weights, so that a row of weight 2 is two rows and
    filling is never mixed in; each row keeps its own weight.
    """

    alpha: Scalar

    def __call__(self, key: Key, batch: Batch) -> Batch:
        """Returns the batch with other inputs and targets."""
        key_partner, key_part = jax.random.split(key)
        n = len(jax.tree.leaves(batch.x)[0])
        partner = jax.random.choice(key_partner, n, (n,), p=batch.weight)
        # Beta(alpha, alpha) tends to a fair coin as alpha falls to 0, where every row is another.
        alpha = jnp.asarray(self.alpha, jnp.result_type(*jax.tree.leaves(batch.x)))
        some = jnp.where(alpha > 0, alpha, 1)
        part = jnp.where(alpha > 0, jax.random.beta(key_part, some, some, (n,), alpha.dtype), 1)

        def mix(rows: Array) -> Array:
            share = part.astype(rows.dtype).reshape(-1, *(1,) * (rows.ndim - 1))
            return share * rows + (1 - share) * rows[partner]

        return batch._replace(x=jax.tree.map(mix, batch.x), y=jax.tree.map(mix, batch.y))


Augmentation = Callable[[Key, Batch], Batch]
AUGMENTATIONS: dict[str, Callable[..., Augmentation]] = {"noise": Noise, "mixup": Mixup}
RANGES = {"scale": checks.non_negative, "alpha": checks.non_negative}


def augmentation(name: str, **numbers: Scalar) -> Augmentation:
    """Returns the rule called `name` by which batches are changed, a pytree of numbers.

    Args:
        name: an entry of `AUGMENTATIONS`.
        **numbers: `noise`: scale, in the units of the inputs. `mixup`: alpha, 0.1 to 0.4 usually;
            its targets must be floating-point, one-hot for classes.

    Raises:
        ValueError: an unknown name, or a number out of its range.
        TypeError: a number that this rule does not have or that is missing, or no number.

    >>> rule = augmentation("noise", scale=0.1)
    """
    where = "train.augmentation"
    rule = rules.make(where, "augmentation", name, AUGMENTATIONS, **numbers)
    rules.within(where, rule, RANGES)
    return rule


def check(where: str, rule: Any, batch: Batch) -> None:
    """Raises unless the arrays that a rule changes hold floating-point numbers."""
    _floating(where, "x", batch.x)
    if isinstance(rule, Mixup):
        _floating(where, "y", batch.y)


def _floating(where: str, name: str, tree: PyTree) -> None:
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(
                f"{where}: batch.{name}{jax.tree_util.keystr(path)} must hold floating-point "
                f"numbers to be mixed or noisy, got {leaf.dtype}; labels as jax.nn.one_hot"
            )
