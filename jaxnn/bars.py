"""Progress bars, drawn by tqdm, for the functions of jaxnn that take `progress`."""

import importlib
from typing import Any

WHERE = "bars.Bar"


class Bar:
    """A bar to be given as `progress`, in a terminal or a notebook: `progress=bars.Bar()`.

    It moves by what is done since the last time: members of a sweep or of `gmm.fit_many`, epochs
    of a training.  A sweep says by itself how many there are; its bar shows the best score so far.
    A bar that is full closes itself; `with` closes it after an interruption, too.

        with bars.Bar("networks") as bar:
            nets = sweep.run(network, grid, key, learn, validate, chunk=64, progress=bar)

    Args:
        title: stands before the bar.
        total: of how many; None where a sweep will tell, or where nobody knows.
        options: further arguments of `tqdm.tqdm`, such as `leave` or `file`.

    Raises:
        ImportError: without tqdm (`pip install "jaxnn-functional[bars]"`).
    """

    def __init__(self, title: str = "", total: int | None = None, **options: Any):
        try:
            tqdm = importlib.import_module("tqdm.auto").tqdm
        except ImportError as error:
            raise ImportError(
                f'{WHERE} needs tqdm: pip install "jaxnn-functional[bars]"'
            ) from error
        self._bar = tqdm(total=total, desc=title or None, **options)

    def __call__(self, new: Any, *_: object) -> None:
        """Moves on by a number, or by what a sweep reports (`sweep.Progress`)."""
        if hasattr(new, "members"):
            self._bar.total = new.members
            if new.best == new.best:  # NaN while there is none
                self._bar.set_postfix(best=f"{new.best:.4g}", refresh=False)
            new = new.new
        self._bar.update(new)
        if self._bar.total is not None and self._bar.n >= self._bar.total:
            self.close()

    def close(self) -> None:
        """Leaves the bar as it is, and the cursor on a new line."""
        self._bar.refresh()
        self._bar.close()

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
