"""Associative memories (Hopfield, 1982) and their continuous successor (Ramsauer et al., 2020).

`store` keeps patterns of -1 and +1 in weights by one of `RULES`, and `recall` updates a state until
it stays.  The modern network keeps the patterns themselves: `modern_recall`.

Shapes: n patterns (rows), d units.  The literature's N and P are d and n here; the load is n / d.
A state is one row, (d,); `vmap` over states, weights or keys for many.
"""

from jaxnn.hopfield.dynamics import UPDATES, Recall, Update, energy, overlap, recall
from jaxnn.hopfield.modern import modern_energy, modern_recall, modern_update
from jaxnn.hopfield.rules import RULES, store

__all__ = [
    "RULES",
    "UPDATES",
    "Recall",
    "Update",
    "energy",
    "modern_energy",
    "modern_recall",
    "modern_update",
    "overlap",
    "recall",
    "store",
]
