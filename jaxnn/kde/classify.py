"""Classes as densities: one kernel density a class, in one call, and the posterior of Bayes.

Shapes: n points, m queries, d features, C classes.  All classes share the points; a class has its
own weights, zero at the points of the others, and its own bandwidth.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from jaxnn import checks, memory
from jaxnn.kde.averages import door
from jaxnn.kde.bandwidths import BANDWIDTHS
from jaxnn.kde.kernels import Kernel, in_form
from jaxnn.kde.model import KDE, log_prob
from jaxnn.types import Data, Weights


class Classes(NamedTuple):
    """Densities of classes.

    Attributes:
        points: the data of all classes.
        bandwidth: of each class, (C,), (C, d) or (C, d, d), as `KDE` has one.
        log_weights: of the points in each class, which add up to one; -inf for those of others.
        kernel: an entry of `KERNELS`, in one of its forms.
        log_prior: logs of the classes' shares of the weight of the data.
    """

    points: Float[Array, "n d"]
    bandwidth: Float[Array, "C *d"]
    log_weights: Float[Array, "C n"]
    kernel: Kernel
    log_prior: Float[Array, " C"]


def class_conditional(
    x: Data,
    labels: Int[ArrayLike, " n"],
    n_classes: int,
    *,
    bandwidth: str | Float[ArrayLike, "C *d"] | float = "scott",
    kernel: str | Kernel = "gaussian",
    form: str = "radial",
    sample_weight: Weights | None = None,
) -> Classes:
    """Returns the densities of all classes.

    Args:
        x: data, (n, d).
        labels: the class of each row, whole numbers in [0, n_classes), (n,).
        n_classes: how many classes, static; each must have a row of positive weight.
        bandwidth: the name of a rule in `BANDWIDTHS`, used on each class by itself; or numbers in
            data units: one, or for each class one (C,) or one for each feature (C, d).
        kernel: as in `fit`.
        form: as in `fit`.
        sample_weight: weights of the rows, (n,), not negative.

    Raises:
        ValueError: for labels out of range, an empty class, bad shapes or values, unknown names.
        TypeError: for arguments of wrong types.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([[0.0], [1.0], [5.0], [6.0]])
    >>> classes = class_conditional(x, jnp.array([0, 0, 1, 1]), 2, bandwidth=1.0)
    >>> classify(classes, jnp.array([[0.4], [5.1]])).tolist()
    [0, 1]
    """
    where = "kde.class_conditional"
    x = checks.data(where, "x", x)
    checks.precise(where, "x", x)
    n, d = x.shape
    n_classes = checks.count(where, "n_classes", n_classes)
    labels = checks.labels(where, "labels", labels, n, n_classes)
    shape = in_form(where, kernel, form)
    weights = jnp.ones(n, x.dtype)
    if sample_weight is not None:
        weights = checks.weights(where, "sample_weight", sample_weight, n)
        weights = (weights / lax.stop_gradient(jnp.max(weights))).astype(x.dtype)
    log_weights, log_prior, shares = _weights(labels, weights, jnp.arange(n_classes))
    if checks.concrete(log_prior) and not checks.holds(lambda: jnp.isfinite(log_prior)):
        empty = [c for c, prior in enumerate(log_prior.tolist()) if prior == float("-inf")]
        raise ValueError(
            f"{where}: every class must have a row of positive weight, "
            f"got none with labels {empty}; count only the classes that occur"
        )
    if isinstance(bandwidth, str):
        checks.in_table(where, "bandwidth", bandwidth, BANDWIDTHS)
        rule = BANDWIDTHS[bandwidth]
        width = jnp.stack([rule(x, share) for share in shares])
    else:
        width = jnp.asarray(float(bandwidth) if isinstance(bandwidth, int) else bandwidth)
        width = checks.floating(where, "bandwidth", width).astype(x.dtype)
        if width.ndim == 0:
            width = jnp.broadcast_to(width, (n_classes,))
        expected = (n_classes,) if width.ndim < 2 else (n_classes, d)
        checks.shape(where, "bandwidth", width, expected)
        checks.positive(where, "bandwidth", width)
    return Classes(x, width, log_weights, shape, log_prior)


@jax.jit
def _weights(
    labels: Int[Array, " n"], weights: Float[Array, " n"], classes: Int[Array, " C"]
) -> tuple[Float[Array, "C n"], Float[Array, " C"], Float[Array, "C n"]]:
    """Returns log-weights in each class, log-shares of the classes, and the weights themselves."""
    shares = jnp.where(labels[None, :] == classes[:, None], weights[None, :], 0.0)
    log = lambda w: jnp.where(w > 0, jnp.log(jnp.where(w > 0, w, 1.0)), -jnp.inf)
    totals = jnp.sum(shares, axis=1)
    log_totals = log(totals)
    finite = jnp.where(totals > 0, log_totals, 0.0)
    return log(shares) - finite[:, None], log_totals - jnp.log(jnp.sum(weights)), shares


@memory.budgeted
def class_log_prob(
    classes: Classes, x: Data, *, memory_budget: memory.Budget = None
) -> Float[Array, "m C"]:
    """Returns the log density of each row of `x` in each class, in nats.

    Args:
        classes: what `class_conditional` returns.
        x: queries, (m, d).
        memory_budget: bytes on top of the arguments, or "auto"; see `jaxnn.memory`.

    Raises:
        ValueError: for bad shapes or values; TypeError for arguments of wrong types.

    >>> import jax.numpy as jnp
    >>> classes = class_conditional(jnp.zeros((1, 1)), jnp.array([0]), 1, bandwidth=1.0)
    >>> round(float(class_log_prob(classes, jnp.array([[1.0]]))[0, 0]), 3)
    -1.419
    """
    return _class_log_prob(classes, _rows("kde.class_log_prob", classes, x))


def _rows(where: str, classes: Classes, x: Data) -> Array:
    checks.instance(where, "classes", classes, Classes)
    checks.shape(where, "classes.points", classes.points, (None, None))
    return checks.data(where, "x", x, width=classes.points.shape[1])


@jax.jit
def _class_log_prob(classes: Classes, x: Float[Array, "m d"]) -> Float[Array, "m C"]:
    def one(of_class: tuple[Array, Array]) -> Float[Array, " m"]:
        h, log_weights = of_class
        return log_prob(KDE(classes.points, h, log_weights, classes.kernel), x)

    return lax.map(one, (classes.bandwidth, classes.log_weights)).T


@memory.budgeted
def posterior(
    classes: Classes,
    x: Data,
    *,
    log_prior: Float[ArrayLike, " C"] | None = None,
    memory_budget: memory.Budget = None,
) -> Float[Array, "m C"]:
    """Returns the log probabilities of the classes given each row of `x`.

    log π_c + log p_c(x) minus the log of the sum; where the kernels of no class reach, the prior.

    Args:
        classes: what `class_conditional` returns.
        x: queries, (m, d).
        log_prior: logs of the classes' weights before x is seen, of any sum, (C,); None for their
            shares of the data.
        memory_budget: bytes on top of the arguments, or "auto"; see `jaxnn.memory`.

    Raises:
        ValueError: for bad shapes or values; TypeError for arguments of wrong types.

    >>> import jax.numpy as jnp
    >>> x = jnp.array([[0.0], [2.0]])
    >>> classes = class_conditional(x, jnp.array([0, 1]), 2, bandwidth=1.0)
    >>> jnp.exp(posterior(classes, jnp.array([[1.0]]))).tolist()
    [[0.5, 0.5]]
    """
    where = "kde.posterior"
    x = _rows(where, classes, x)
    prior = classes.log_prior
    if log_prior is not None:
        prior = checks.floating(where, "log_prior", log_prior).astype(x.dtype)
        checks.shape(where, "log_prior", prior, classes.log_prior.shape)
        if checks.concrete(prior) and not checks.holds(
            lambda: ~jnp.isnan(prior) & (prior < jnp.inf) & jnp.any(prior > -jnp.inf)
        ):
            raise ValueError(
                f"{where}: log_prior must be below infinity and not -inf everywhere, "
                f"got {prior.tolist()}"
            )
    return _posterior(prior, _class_log_prob(classes, x))


@jax.jit
def _posterior(log_prior: Float[Array, " C"], heights: Float[Array, "m C"]) -> Float[Array, "m C"]:
    joint = heights + log_prior[None, :]
    reached = jnp.any(joint > -jnp.inf, axis=1, keepdims=True)
    return jax.nn.log_softmax(jnp.where(reached, joint, log_prior[None, :]), axis=1)


@memory.budgeted
def classify(
    classes: Classes,
    x: Data,
    *,
    log_prior: Float[ArrayLike, " C"] | None = None,
    memory_budget: memory.Budget = None,
) -> Int[Array, " m"]:
    """Returns the most probable class of each row of `x`: see `posterior`.

    Args:
        classes: what `class_conditional` returns.
        x: queries, (m, d).
        log_prior: as in `posterior`.
        memory_budget: bytes on top of the arguments, or "auto"; see `jaxnn.memory`.

    Raises:
        ValueError: for bad shapes or values; TypeError for arguments of wrong types.
    """
    return jnp.argmax(posterior(classes, x, log_prior=log_prior), axis=1)


@memory.budgeted
def log_density_ratio(
    above: KDE, below: KDE, x: Data, *, memory_budget: memory.Budget = None
) -> Float[Array, " m"]:
    """Returns log p(x) - log q(x) at each row of `x`, in nats.

    Finite wherever both kernels are infinite; for compact ones inf or -inf where only one
    density is zero, and 0 where both are: nothing tells them apart there.

    Args:
        above: the density p, what `fit` returns.
        below: the density q.
        x: queries, (m, d).
        memory_budget: bytes on top of the arguments, or "auto"; see `jaxnn.memory`.

    Raises:
        ValueError: for bad shapes or values; TypeError for arguments of wrong types.

    >>> import jax.numpy as jnp
    >>> from jaxnn import kde
    >>> p, q = (kde.fit(jnp.array([[at]]), bandwidth=1.0) for at in (1.0, 0.0))
    >>> [round(float(r), 4) for r in log_density_ratio(p, q, jnp.array([[1.0], [0.5]]))]
    [0.5, 0.0]
    """
    where = "kde.log_density_ratio"
    x = door(where, above, x)
    door(where, below, x)
    p, q = log_prob(above, x), log_prob(below, x)
    neither = jnp.isneginf(p) & jnp.isneginf(q)
    return jnp.where(neither, 0.0, jnp.where(neither, 0.0, p) - jnp.where(neither, 0.0, q))
