"""What a search for a bandwidth answers, and how it says that it had to fall back."""

import warnings
from typing import NamedTuple

from jaxtyping import Array, Bool, Float

from jaxnn import checks


class Selection(NamedTuple):
    """What a search for a bandwidth has found.

    Attributes:
        bandwidth: in data units, (d,).
        found: whether the search itself succeeded, for each feature (d,) or for all of them ();
            where it did not, the bandwidth is the fallback that the search documents.
    """

    bandwidth: Float[Array, " d"]
    found: Bool[Array, "..."]


def told(where: str, selection: Selection, fallback: str) -> Selection:
    """Returns the selection, with a warning where its values are known and it is a fallback."""
    if checks.concrete(selection.found) and not checks.holds(lambda: selection.found):
        warnings.warn(f"{where}: {fallback}", UserWarning, stacklevel=3)
    return selection
