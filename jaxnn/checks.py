"""Bad input, answered at the door: the one place where error messages are written.

Shapes and dtypes are static, so those checks also run while JAX traces.  Values are looked at
only when they are concrete: under `jit`, `vmap` or `grad` the value checks pass silently, and
results carry flags instead.  Every message reads `where: what must hold, what was given`.
"""

import difflib
import math
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.typing import ArrayLike
from jaxtyping import Array


def concrete(x: Any) -> bool:
    """Returns whether the values of `x` can be looked at, that is, nothing is being traced."""
    return not isinstance(x, Tracer)


def holds(condition: Callable[[], ArrayLike]) -> bool:
    """Returns whether a condition on concrete values holds, also while JAX traces around them."""
    with jax.ensure_compile_time_eval():
        found = condition()
        return bool(found) if jnp.ndim(found) == 0 else bool(jnp.all(found))


# One program rather than one an operation: the first call of a function waits for each.
_all_finite = jax.jit(lambda x: jnp.all(jnp.isfinite(x)))
_any_above = jax.jit(lambda x, limit: jnp.any(jnp.abs(x) > limit))  # NaN is not
_all_weigh = jax.jit(lambda w: jnp.all((w >= 0) & jnp.isfinite(w)) & jnp.any(w > 0))
_all_labels = jax.jit(lambda y, low, end: jnp.all((y >= low) & (y < end)), static_argnums=(1, 2))


def _inside(x: Array, low: float, high: float, open_low: bool) -> Array:
    above = x > low if open_low else x >= low
    return above & (x <= high) & jnp.isfinite(x)


@partial(jax.jit, static_argnames=("low", "high", "open_low"))
def _all_inside(x: ArrayLike, low: float, high: float, open_low: bool) -> Array:
    return jnp.all(_inside(jnp.asarray(x), low, high, open_low))


def _why_no_numbers(x: Any) -> str:
    """Returns what stands in the way of making `x` an array of numbers, if it is a usual case."""
    if hasattr(x, "toarray"):
        return "sparse; x.toarray() makes it dense"
    if hasattr(x, "mask") and hasattr(x, "filled"):
        return "masked; drop or impute the masked cells, x.filled(value) gives plain numbers"
    if hasattr(x, "columns") and hasattr(x, "dtypes"):
        other = [
            str(name)
            for name, dtype in zip(x.columns, x.dtypes, strict=True)
            if getattr(dtype, "kind", "O") not in "biuf"
        ]
        return f"no numbers in column {', '.join(other)}" if other else "fill its missing values"
    if getattr(getattr(x, "dtype", None), "kind", "f") not in "biufc":
        return f"dtype {x.dtype}; x.astype(float) converts what can be converted"
    return ""


def floating(where: str, name: str, x: Any) -> Array:
    """Returns `x` as a JAX array; raises TypeError unless it holds floating-point numbers."""
    if not getattr(getattr(x, "dtype", None), "isnative", True):
        x = x.astype(x.dtype.newbyteorder("="))  # JAX takes no foreign byte order
    try:
        array = jnp.asarray(x)
    except (TypeError, ValueError, RuntimeError) as error:  # the last from frameworks' own arrays
        raise TypeError(
            f"{where}: {name} must be an array of floating-point numbers, "
            f"got {type(x).__name__} ({_why_no_numbers(x) or str(error).splitlines()[0]})"
        ) from None
    # Floats of a byte or less are for storage: JAX does not compute with them.
    if not jnp.issubdtype(array.dtype, jnp.floating) or array.dtype.itemsize < 2:
        raise TypeError(
            f"{where}: {name} must hold floating-point numbers, got {array.dtype}; "
            "convert it with jaxnn.train.as_float"
        )
    return array


def shape(where: str, name: str, x: Any, expected: tuple[int | None, ...]) -> None:
    """Raises ValueError unless `x.shape` is `expected`, in which None stands for any size."""
    given = jnp.shape(x)
    fits = len(given) == len(expected) and all(
        want is None or want == got for want, got in zip(expected, given, strict=True)
    )
    if fits:
        return
    words = ["any" if size is None else str(size) for size in expected]
    wanted = f"({words[0]},)" if len(words) == 1 else f"({', '.join(words)})"
    hint = ""
    if len(expected) == 2 and len(given) == 1:
        hint = "; x.reshape(-1, 1) makes rows of one feature, x[None, :] makes one row"
    raise ValueError(f"{where}: {name} must have shape {wanted}, got {given}{hint}")


def _first(x: Array, good: Callable[[Array], Array]) -> tuple[tuple[int, ...], float]:
    """Returns the first place at which concrete values are not good, and the value there."""
    with jax.ensure_compile_time_eval():
        place = tuple(int(i) for i in jnp.argwhere(~good(x))[0])
        return place, float(x[place])


def finite(where: str, name: str, x: Array, of_nan: str = "") -> None:
    """Raises ValueError, naming the first offending place, if `x` has a NaN or an infinity.

    `of_nan` is added where that is a NaN: what else the caller could do with it.
    """
    if not concrete(x) or holds(lambda: _all_finite(x)):
        return
    place, value = _first(x, jnp.isfinite)
    at = f" at {'row' if len(place) == 1 else 'row, column'} {', '.join(map(str, place))}"
    raise ValueError(
        f"{where}: {name} must be finite, got {value}{at if place else ''}; "
        f"drop or impute such entries (and mind the range of {x.dtype})"
        f"{of_nan if value != value else ''}"
    )


def data(
    where: str, name: str, x: ArrayLike, width: int | None = None, missing: bool | None = None
) -> Array:
    """Returns `x` as finite floating-point rows of shape (n, d), n and d at least 1.

    Raises TypeError for a dtype and ValueError for a rank, a width, emptiness or a NaN, which
    passes where `missing` is set: infinity never does.  None for a caller without that argument.
    Of a data frame only the numbers are kept: columns are known by their places.
    """
    array = floating(where, name, x)
    shape(where, name, array, (None, width))
    if 0 in array.shape:
        raise ValueError(f"{where}: {name} must not be empty, got shape {array.shape}")
    hint = "; missing=True takes NaN as missing" if missing is False else ""
    finite(where, name, jnp.where(jnp.isnan(array), 0, array) if missing else array, hint)
    return array


def upright(where: str, name: str, x: Array) -> None:
    """Warns if `x` has more columns than rows, as data has whose columns are the samples.

    One row is no table, and a tracer may stand for one of many data sets: both pass.
    """
    n, d = x.shape
    if concrete(x) and 1 < n < d:
        warnings.warn(
            f"{where}: rows of {name} are samples, got shape {x.shape} with more columns than "
            f"rows; if the columns are the samples, give {name}.T",
            UserWarning,
            stacklevel=3,  # the caller of the public function that calls this
        )


def precise(where: str, name: str, x: Array) -> None:
    """Raises TypeError for half precision, which holds no covariance and has no Cholesky."""
    if x.dtype not in (jnp.float32, jnp.float64):
        raise TypeError(f"{where}: {name} must be float32 or float64, got {x.dtype}; cast it")


def room(where: str, name: str, x: Array, power: int) -> None:
    """Raises ValueError for numbers of which sums of that power could overflow their dtype."""
    limit = float(jnp.finfo(x.dtype).max) ** (1 / power) / 1000
    if concrete(x) and holds(lambda: _any_above(x, limit)):
        raise ValueError(
            f"{where}: {name} must not exceed {limit:.0e} in size, so that "
            f"{'squares' if power == 2 else 'sums'} stay within {x.dtype}; scale the columns"
        )


def instance(where: str, name: str, x: Any, kind: type) -> None:
    """Raises TypeError unless `x` is a `kind`."""
    if not isinstance(x, kind):
        raise TypeError(f"{where}: {name} must be a {kind.__name__}, got {type(x).__name__}")


def scalar(where: str, name: str, x: Any) -> None:
    """Raises unless `x` is one number, finite and not negative (a tracer may be either)."""
    non_negative(where, name, x)
    shape(where, name, x, ())


def weights(where: str, name: str, w: ArrayLike, n: int) -> Array:
    """Returns `w` as n weights, finite, not negative, not all zero."""
    array = floating(where, name, w)
    shape(where, name, array, (n,))
    if not concrete(array) or holds(lambda: _all_weigh(array)):
        return array
    finite(where, name, array)
    wrong = f"negative, got {low}" if (low := min(array.tolist())) < 0 else "zero everywhere"
    raise ValueError(f"{where}: {name} must not be {wrong}")


def same_dtype(where: str, name: str, x: Any, like: str, dtype: Any) -> None:
    """Raises TypeError unless `x` has the dtype of `like`: nothing is promoted silently."""
    if x.dtype != dtype:
        raise TypeError(f"{where}: {name} must be {dtype} like {like}, got {x.dtype}; cast one")


def _number(where: str, name: str, x: ArrayLike, wanted: str, low: float, high: float,
            open_low: bool) -> None:  # fmt: skip
    if isinstance(x, str | bytes | None):
        raise TypeError(f"{where}: {name} must be {wanted}, got {x!r}")
    if not concrete(x):
        return
    if isinstance(x, int | float):
        good = (x > low if open_low else x >= low) and x <= high and math.isfinite(x)
    else:
        good = holds(lambda: _all_inside(x, low, high, open_low))
    if good:
        return
    given = str(x)
    if jnp.ndim(x) > 0:
        place, value = _first(jnp.asarray(x), lambda a: _inside(a, low, high, open_low))
        given = f"{value} at {', '.join(map(str, place))}"
    raise ValueError(f"{where}: {name} must be {wanted}, got {given}")


def positive(where: str, name: str, x: ArrayLike) -> None:
    """Raises unless every number of `x` is finite and above zero."""
    _number(where, name, x, "positive and finite", 0.0, float("inf"), True)


def non_negative(where: str, name: str, x: ArrayLike) -> None:
    """Raises unless every number of `x` is finite and at least zero."""
    _number(where, name, x, "non-negative and finite", 0.0, float("inf"), False)


def probability(where: str, name: str, x: ArrayLike) -> None:
    """Raises unless every number of `x` lies in (0, 1]."""
    _number(where, name, x, "in (0, 1]", 0.0, 1.0, True)


def count(where: str, name: str, x: Any, least: int = 1, most: int | None = None) -> int:
    """Returns the static whole number `x`; raises unless it lies in [least, most]."""
    if not concrete(x):
        raise TypeError(f"{where}: {name} must not be traced, since shapes depend on it; pass it "
                        "as a static argument of jit, or close over it")  # fmt: skip
    try:
        value = None if isinstance(x, bool) else x.__index__()
    except (AttributeError, TypeError):  # arrays have the method, and raise
        value = None
    if value is None:
        raise TypeError(f"{where}: {name} must be a whole number, got {x!r}")
    if value < least or (most is not None and value > most):
        span = f"at least {least}" if most is None else f"between {least} and {most}"
        raise ValueError(f"{where}: {name} must be {span}, got {value}")
    return value


def steps(where: str, name: str, x: Any, least: int = 0) -> Array:
    """Returns a number of steps, a traced one too, as a whole number of 32 bits."""
    if concrete(x):
        x = count(where, name, x, least)
        if x >= 2**31:
            raise ValueError(f"{where}: {name} must be below 2**31, got {x}")
    elif not jnp.issubdtype(x.dtype, jnp.integer):
        raise TypeError(f"{where}: {name} must be a whole number, got {x.dtype}")
    return jnp.asarray(x, jnp.int32)


def in_table(where: str, name: str, choice: Any, table: Iterable[str]) -> None:
    """Raises ValueError, listing the choices and the nearest one, unless `choice` is known."""
    names = list(table)
    if isinstance(choice, str) and choice in names:
        return
    near = difflib.get_close_matches(str(choice), names, n=1, cutoff=0.5)
    guess = f" (did you mean {near[0]!r}?)" if near else ""
    raise ValueError(f"{where}: unknown {name} {choice!r}{guess}; choose from {', '.join(names)}")


def labels(where: str, name: str, y: ArrayLike, n: int, n_classes: int, least: int = 0) -> Array:
    """Returns `y` as n class labels, whole numbers in [least, n_classes)."""
    array = jnp.asarray(y)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"{where}: {name} must hold whole numbers, got {array.dtype}")
    shape(where, name, array, (n,))
    if concrete(array) and not holds(lambda: _all_labels(array, least, n_classes)):
        raise ValueError(f"{where}: {name} must lie in [{least}, {n_classes}), got values from "
                         f"{min(array.tolist())} to {max(array.tolist())}")  # fmt: skip
    return array


def key(where: str, k: Any, name: str = "key") -> None:
    """Raises TypeError unless `k` is one PRNG key, typed or old-style."""
    dtype = getattr(k, "dtype", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if (typed and k.shape == ()) or (dtype == jnp.uint32 and k.shape == (2,)):
        return
    if typed:
        raise TypeError(f"{where}: {name} must be a single key, got keys of shape {k.shape}")
    raise TypeError(
        f"{where}: {name} must be a PRNG key such as jax.random.key(0), got {type(k).__name__}"
    )
