"""Data sets that need no network, split once by an explicit seed; one function each."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int32
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


class Rows(NamedTuple):
    """Features and the class of each row."""

    x: Float32[np.ndarray, "n d"]
    y: Int32[np.ndarray, " n"]


class Split(NamedTuple):
    """Learn from `train`, choose by `validation`, report `test`."""

    train: Rows
    validation: Rows
    test: Rows
    image_shape: tuple[int, int]  # a row of x is an image of this height and width
    n_classes: int


def digits(seed: int, *, validation: float = 0.2, test: float = 0.2) -> Split:
    """Returns the 1797 handwritten digits of scikit-learn: 8 x 8 pixels in [0, 1], 10 classes.

    `validation` and `test` are fractions of all rows; each part has the classes in proportion.
    """
    ink, target = load_digits(return_X_y=True)
    x = np.asarray(ink, np.float32) / 16  # whole numbers from 0 to 16
    y = np.asarray(target, np.int32)

    def part(rows: np.ndarray, fraction: float) -> Any:
        return train_test_split(rows, test_size=fraction, stratify=y[rows], random_state=seed)

    rest, last = part(np.arange(len(x)), test)
    first, middle = part(rest, validation / (1 - test))
    train_rows, validation_rows, test_rows = (Rows(x[i], y[i]) for i in (first, middle, last))
    return Split(
        train=train_rows,
        validation=validation_rows,
        test=test_rows,
        image_shape=(8, 8),
        n_classes=10,
    )


def faithful() -> Float32[np.ndarray, "n 2"]:
    """Returns 272 eruptions of Old Faithful: their length and the wait for the next, in minutes.

    Source and attribution stand in the first line of `data/faithful.csv`.
    """
    file = Path(__file__).parent / "data" / "faithful.csv"
    return np.loadtxt(file, np.float32, delimiter=",", skiprows=2)
