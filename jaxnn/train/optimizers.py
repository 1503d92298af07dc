"""Optimizers by name, built on optax.

`OPTIMIZERS` holds the nine of the lecture, plain SGD and AdamW.  A new one is one line.
"""

from collections.abc import Callable
from functools import partial

import optax

from jaxnn import checks
from jaxnn.types import Scalar

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

    Raises:
        ValueError: an unknown name, or a negative learning rate.
        TypeError: an option that this optimizer does not have.

    >>> transformation = optimizer("adam", 1e-3, b1=0.95)
    """
    checks.in_table("train.optimizer", "optimizer", name, OPTIMIZERS)
    checks.non_negative("train.optimizer", "learning_rate", learning_rate)
    try:
        return OPTIMIZERS[name](learning_rate, **options)
    except TypeError as error:
        raise TypeError(f"train.optimizer: {name} does not take these options: {error}") from None
