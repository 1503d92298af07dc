"""What model choice found, as arrays and as text.  Shapes: r candidates."""

from typing import Any, NamedTuple

from jaxtyping import Array, Float, Int

from jaxnn.gmm.model import GMM
from jaxnn.gmm.outcome import Fit, Status


class Table(NamedTuple):
    """One row for each family and number of components; `log_lik` and criteria are nats.

    `held_out` is the log-likelihood per row of data that the fit has not seen (NaN where it was
    not asked for).  `status` (a `Status` as a number) and `steps` are those of the best start: one
    that is degenerate has a likelihood that says nothing.
    """

    family: tuple[str, ...]
    n_components: Int[Array, " r"]
    n_parameters: Int[Array, " r"]
    log_lik: Float[Array, " r"]
    bic: Float[Array, " r"]
    aic: Float[Array, " r"]
    icl: Float[Array, " r"]
    held_out: Float[Array, " r"]
    status: Int[Array, " r"]
    steps: Int[Array, " r"]

    def __str__(self) -> str:
        """Returns the table as text, one line a row."""
        shown = self._asdict() | {"status": [Status(int(s)).name.lower() for s in self.status]}
        columns = [[name, *map(_text, column)] for name, column in shown.items()]
        widths = [max(map(len, column)) for column in columns]
        return "\n".join(
            "  ".join(word.rjust(width) for word, width in zip(line, widths, strict=True))
            for line in zip(*columns, strict=True)
        )


def _text(value: Any) -> str:
    value = value if isinstance(value, str) else value.item()
    return f"{value:.2f}" if isinstance(value, float) else str(value)


class Selection(NamedTuple):
    """All candidates, and the best of them by `criterion`: row `row` of `table`.

    `best` has no components that are switched off. `fits` holds the best start of every
    candidate, for each family with a leading axis of numbers of components, masked.
    """

    best: GMM
    row: int
    criterion: str
    table: Table
    fits: dict[str, Fit]

    def __str__(self) -> str:
        """Returns the table and its winner as text."""
        winner = f"{self.table.family[self.row]}, {self.table.n_components[self.row]} components"
        return f"{self.table}\nbest {self.criterion}: {winner}"
