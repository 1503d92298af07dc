"""Optimizers by name, built on optax.

`OPTIMIZERS` holds the nine of the lecture, plain SGD and AdamW.  A new one is one line.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
import optax

from jaxnn import checks
from jaxnn.types import Scalar

DECAYS = frozenset({"b1", "b2", "decay", "momentum", "rho"})  # of running averages, below 1
Factory = Callable[..., optax.GradientTransformation]

OPTIMIZERS: dict[str, Factory] = {
    "sgd": optax.sgd,
    "momentum": partial(optax.sgd, momentum=0.9),  # Polyak (1964)
    "nesterov": partial(optax.sgd, momentum=0.9, nesterov=True),  # Nesterov (1983)
    "adagrad": optax.adagrad,  # Duchi, Hazan and Singer (2011)
    "rmsprop": optax.rmsprop,  # Tieleman and Hinton (2012)
    "adadelta": optax.adadelta,  # Zeiler (2012)
    "adam": optax.adam,  # Kingma and Ba (2014)
    "adamax": optax.adamax,  # Kingma and Ba (2014), section 7.1
    "nadam": optax.nadam,  # Dozat (2016)
    "amsgrad": optax.amsgrad,  # Reddi, Kale and Kumar (2018)
    "adamw": optax.adamw,  # Loshchilov and Hutter (2017)
}


def optimizer(name: str, learning_rate: Scalar, **options: Scalar) -> optax.GradientTransformation:
    """Returns the optax transformation called `name`.

    Args:
        name: an entry of `OPTIMIZERS`.
        learning_rate: step length, a traced number; a sweep over it compiles once.
        **options: the optimizer's other numbers, as optax names them (`b1`, `momentum`, `eps`, …).
            Flags are static and make another optimizer: give it a line in `OPTIMIZERS`.

    Raises:
        ValueError: an unknown name, a negative number, or a decay of 1 or more.
        TypeError: an option that this optimizer does not have, or one that is no number.

    >>> transformation = optimizer("adam", 1e-3, b1=0.95)
    """
    where = "train.optimizer"
    checks.in_table(where, "optimizer", name, OPTIMIZERS)
    checks.non_negative(where, "learning_rate", learning_rate)
    for option, value in options.items():
        _check_option(where, option, value)
    try:
        return OPTIMIZERS[name](learning_rate, **options)
    except TypeError as error:
        raise TypeError(f"{where}: {name} does not take these options: {error}") from None


def _check_option(where: str, name: str, value: Any) -> None:
    if isinstance(value, bool) or not (isinstance(value, int | float) or hasattr(value, "dtype")):
        raise TypeError(
            f"{where}: {name} must be a number, got {value!r}; "
            "another flag or function makes another entry of OPTIMIZERS"
        )
    checks.non_negative(where, name, value)
    if name in DECAYS and checks.concrete(value) and not checks.holds(lambda: jnp.less(value, 1)):
        raise ValueError(f"{where}: {name} must be below 1, got {value}")
