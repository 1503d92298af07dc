"""The kernel density: a mixture of one kernel on each data point.

    p(x) = Σ_i w_i K((x - x_i) / (h λ_i)) / Π_j h_j λ_i

with a division by the bandwidth of *every* feature, so that p is a density: it integrates to one.
(Slides often print one factor 1/h for any number of features, which is right for d = 1 only.)
The bandwidth may be a matrix (see `scaling`); the factors λ_i of the points are 1 unless given.

Shapes: n points, d features, m queries.  Log densities are nats; bandwidths are in data units.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxnn import checks, gmm, memory
from jaxnn.kde import scaling
from jaxnn.kde.bandwidths import BANDWIDTHS
from jaxnn.kde.kernels import Kernel, in_form
from jaxnn.kde.logsum import log_kernel_sum
from jaxnn.kde.near import Grid, log_gaussian_sum_near, plan
from jaxnn.types import Data, Key, Scalar, Weights


class KDE(NamedTuple):
    """A kernel density.  `kernel` is static; the arrays are traced, and may carry a leading axis.

    Attributes:
        points: the data, one kernel on each row.
        bandwidth: h in data units, one for all features () or one for each (d,), or a matrix in
            data units squared (d, d); see `scaling`.
        log_weights: logs of the weights of the points, which add up to one; -inf for none.
        kernel: an entry of `KERNELS`, in one of its forms.
        factors: factors λ_i of the bandwidth at the points, or None where all are one.
    """

    points: Float[Array, "n d"]
    bandwidth: scaling.Bandwidth
    log_weights: Float[Array, " n"]
    kernel: Kernel
    factors: Float[Array, " n"] | None = None


def fit(
    x: Data,
    *,
    bandwidth: str | Scalar | Float[ArrayLike, " d"] | Float[ArrayLike, "d d"] = "scott",
    kernel: str | Kernel = "gaussian",
    form: str = "radial",
    sample_weight: Weights | None = None,
    factors: Float[ArrayLike, " n"] | None = None,
) -> KDE:
    """Returns the kernel density of `x`: stores the data and picks the bandwidth.

    Args:
        x: data, (n, d); float32 stays float32.
        bandwidth: h in data units: a positive number, one for each feature (d,), a symmetric
            positive definite matrix in data units *squared* (d, d), which is the covariance of a
            Gaussian kernel, or the name of a rule in `BANDWIDTHS`.  It is traced: sweeping it
            compiles once, and `jax.vmap` over bandwidths works.  The rules are made for the
            Gaussian kernel; the same h is a narrower kernel for those with a compact support
            (see `Kernel.variance`).
        kernel: a name in `KERNELS`, or a `Kernel` such as `student_t(5)`.
        form: "radial", a function of the distance, or "product", one factor for each feature.
        sample_weight: weights of the rows, (n,), not negative, of any sum.  A row of weight zero
            is as good as absent, and the gradient with respect to it is zero.
        factors: factor λ_i of the bandwidth at each row, (n,), positive: see `adaptive`, and
            `nearest_neighbour` for bandwidths of the points (then `bandwidth` is a multiple).

    Raises:
        ValueError: for bad shapes or values, unknown names, or a rule on data that do not vary.
            A rule on more columns than rows warns: they look like data the wrong way round.
        TypeError: for arguments that do not hold floating-point numbers.

    >>> import jax.numpy as jnp
    >>> model = fit(jnp.array([[0.0], [1.0]]), bandwidth=0.5, kernel="tophat")
    >>> [round(float(p), 3) for p in jnp.exp(log_prob(model, jnp.array([[0.2], [0.5], [3.0]])))]
    [0.5, 0.0, 0.0]
    >>> round(float(fit(jnp.array([[0.0], [1.0]]), bandwidth="silverman").bandwidth[0]), 3)
    0.652
    """
    where = "kde.fit"
    x = checks.data(where, "x", x)
    checks.precise(where, "x", x)
    shape = in_form(where, kernel, form)
    n = x.shape[0]
    if sample_weight is None:
        log_weights = jnp.full(n, -math.log(n), x.dtype)
    else:
        sample_weight = checks.weights(where, "sample_weight", sample_weight, n)
        # By the largest first, in their own dtype: sums overflow, and a cast may leave zeros.
        weights = (sample_weight / jax.lax.stop_gradient(jnp.max(sample_weight))).astype(x.dtype)
        weights = weights / jnp.sum(weights)
        some = weights > 0
        log_weights = jnp.where(some, jnp.log(jnp.where(some, weights, 1.0)), -jnp.inf)
    if isinstance(bandwidth, str):
        checks.in_table(where, "bandwidth", bandwidth, BANDWIDTHS)
        checks.upright(where, "x", x)
        width = BANDWIDTHS[bandwidth](x, sample_weight)
    else:
        width = scaling.given(where, "bandwidth", bandwidth, x.shape[1]).astype(x.dtype)
    if factors is not None:
        factors = checks.floating(where, "factors", factors).astype(x.dtype)
        checks.shape(where, "factors", factors, (n,))
        checks.positive(where, "factors", factors)
    return KDE(x, bandwidth=width, log_weights=log_weights, kernel=shape, factors=factors)


@memory.budgeted
def log_prob(
    model: KDE,
    x: Data,
    *,
    method: str = "auto",
    tolerance: Scalar = 0.0,
    memory_budget: memory.Budget = None,
) -> Float[Array, " n"]:
    """Returns the log density of each row of `x`, in nats.

    Evaluated in tiles with a running log-sum-exp: the memory is O((n + m) d) and one tile, for
    the gradient as well.  Kernels with infinite support give finite values however far `x` is;
    compact ones give -inf where no kernel reaches, and a gradient of zero there.

    The exact sum has, in float64, a relative error of some 1e-13.  In float32 rounding of the rows
    in units of the bandwidth costs about eps times (distance to the nearest points) times (spread
    of the data), both in bandwidths: some 1e-5 nats for ordinary data.  For the other kernels and
    beyond 8 features squared distances come from a matrix product (see `linalg.square_distances`),
    whose rounding error grows with (spread / bandwidth)²: at a ratio of 10 and d = 16 log densities
    are off by some 1e-4 nats; those of the kernels with a cusp, exponential and linear, by some
    1e-2 on top of a point.

    For many points in up to 3 dimensions the fast method reads the density of a Gaussian kernel
    off a grid (`jaxnn.kde.near`), which is over a hundred times less work for 100,000 queries of
    100,000 points, and sums exactly where the density is too low for that.  Its grid, whose size
    is part of the program, is made from the data: so it cannot be used on traced data.

    Args:
        model: what `fit` returns.
        x: queries, (m, d).
        method: "exact", "fast", or "auto" for the fast method where it keeps the tolerance, can
            be used, and pays.
        tolerance: largest error in nats of a log density that the fast method may make; with 0
            "auto" is exact.
        memory_budget: bytes on top of the arguments, or "auto"; see `jaxnn.memory`.

    Raises:
        ValueError: for bad shapes or values, or "fast" where it cannot be used.
        TypeError: unless `x` holds floating-point numbers.

    >>> import jax.numpy as jnp
    >>> model = fit(jnp.array([[0.0, 0.0]]), bandwidth=jnp.array([1.0, 2.0]))
    >>> [round(float(v), 3) for v in log_prob(model, jnp.array([[0.0, 0.0], [1.0, 2.0]]))]
    [-2.531, -3.531]
    """
    where = "kde.log_prob"
    check_model(where, model)
    x = checks.data(where, "x", x, width=model.points.shape[1])
    plain = model.kernel.name == "gaussian" and one_width_per_feature(model)
    widths = jnp.broadcast_to(model.bandwidth, model.points.shape[1:]) if plain else model.points[0]
    grid = plan(where, method, tolerance, model.points, widths, x.shape[0], plain)
    return _log_prob(model, x, jnp.asarray(tolerance, x.dtype), grid)


@functools.partial(jax.jit, static_argnames="grid")
def _log_prob(
    model: KDE, x: Float[Array, "m d"], tolerance: Float[Array, ""], grid: Grid | None
) -> Float[Array, " m"]:
    d = x.shape[1]
    units, _ = scaling.in_units(model.bandwidth, model.points, model.log_weights, model.factors, x)
    dtype = units.queries.dtype
    rows = units.queries, units.points, units.log_weights
    if grid is None:
        log_sum = log_kernel_sum(model.kernel, *rows, units.inverse_squares)
    else:
        log_sum = log_gaussian_sum_near(grid, *rows, jnp.asarray(tolerance, dtype))
    log_volume = scaling.log_det(model.bandwidth.astype(dtype), d)
    log_density = log_sum - model.kernel.log_norm(d) - log_volume
    # Under a trace NaN cannot be refused at the door; outside a compact support it would be lost.
    return jnp.where(jnp.any(jnp.isnan(x), axis=1), jnp.nan, log_density)


def sample(key: Key, model: KDE, n: int) -> Float[Array, "n d"]:
    """Returns n draws: a point picked by its weight, plus h times a draw of the kernel.

    Args:
        key: PRNG key, typed or old-style.
        model: what `fit` returns.
        n: how many rows, static, at least 1.

    Raises:
        TypeError: for a key or a number that is none.
        ValueError: for n below 1.

    >>> import jax
    >>> model = fit(jax.numpy.zeros((1, 3)), bandwidth=0.1, kernel="linear")
    >>> rows = sample(jax.random.key(0), model, 5)
    >>> rows.shape, bool((rows**2).sum(axis=1).max() < 0.01)
    ((5, 3), True)
    """
    where = "kde.sample"
    checks.key(where, key)
    check_model(where, model)
    return _sample(key, model, checks.count(where, "n", n))


@functools.partial(jax.jit, static_argnames="n")
def _sample(key: Key, model: KDE, n: int) -> Float[Array, "n d"]:
    key_point, key_kernel = jax.random.split(key)
    rows, d = model.points.shape
    # By the inverse of the cumulative weights: Gumbel noise would be of size n times all points.
    weights = jax.lax.stop_gradient(jnp.exp(model.log_weights))
    chosen = jax.random.choice(key_point, rows, (n,), p=weights)
    steps = model.kernel.draw(key_kernel, n, d, model.points.dtype)
    if model.factors is not None:
        steps = model.factors[chosen][:, None] * steps
    return model.points[chosen] + scaling.colour(model.bandwidth, steps)


def as_mixture(model: KDE) -> gmm.GMM:
    """Returns the Gaussian mixture that a Gaussian kernel density is: a component on each point.

    The components are spherical for one bandwidth and diagonal for one bandwidth per feature; a
    matrix is tied, or full where the points have factors.

    Raises:
        ValueError: for another kernel than the Gaussian.

    >>> import jax.numpy as jnp
    >>> mixture = as_mixture(fit(jnp.array([[0.0], [1.0]]), bandwidth=0.5))
    >>> mixture.means.shape, mixture.cov.scale.tolist()
    ((2, 1), [0.5, 0.5])
    """
    where = "kde.as_mixture"
    check_model(where, model)
    if model.kernel.name != "gaussian":
        raise ValueError(
            f"{where}: only a Gaussian kernel makes a Gaussian mixture, "
            f"got {model.kernel.name!r}; fit with kernel='gaussian'"
        )
    n = model.points.shape[0]
    h, factors = model.bandwidth, model.factors
    if h.ndim == 2:
        tril = jnp.linalg.cholesky(h)
        if factors is None:
            cov = gmm.Tied(scale_tril=tril)
        else:
            cov = gmm.Full(scale_tril=factors[:, None, None] * tril[None])
    else:
        factors = jnp.ones(n, h.dtype) if factors is None else factors
        if h.ndim == 0:
            cov = gmm.Spherical(scale=h * factors)
        else:
            cov = gmm.Diag(scale=h[None, :] * factors[:, None])
    return gmm.GMM(log_weights=model.log_weights, means=model.points, cov=cov)


def one_width_per_feature(model: KDE) -> bool:
    """Returns whether all points have one bandwidth for each feature: no matrix, no factors."""
    return model.factors is None and jnp.ndim(model.bandwidth) < 2


def check_model(where: str, model: KDE) -> None:
    """Raises unless `model` is one kernel density with arrays of fitting shapes."""
    if not isinstance(model, KDE):
        raise TypeError(f"{where}: model must be a KDE as kde.fit returns, got {type(model)}")
    checks.shape(where, "model.points", model.points, (None, None))
    n, d = model.points.shape
    checks.shape(where, "model.log_weights", model.log_weights, (n,))
    scaling.check_shape(where, "model.bandwidth", model.bandwidth, d)
    if jnp.ndim(model.bandwidth) < 2:
        checks.positive(where, "model.bandwidth", model.bandwidth)
    if model.factors is not None:
        checks.shape(where, "model.factors", model.factors, (n,))
