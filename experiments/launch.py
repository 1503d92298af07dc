"""Starts an experiment in several processes of this machine, as a cluster would on several.

For trying out what will run on many machines: every process runs `python -m experiments run NAME`
with the variables that `jaxnn.scale.join` reads.  Process 0 writes the result; what the others
write is thrown away.
"""

import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments import kept


def launch(
    name: str,
    options: Sequence[str],
    processes: int,
    out: Path,
    tell: Callable[[str], None],
    restarts: int = 0,
) -> int:
    """Runs experiment `name` in `processes` processes; returns the exit code of the job.

    What breaks is started again as a whole, up to `restarts` times; see `scale.supervise`.
    """
    from jaxnn import scale

    scratch = Path(tempfile.mkdtemp(prefix="launch-"))
    try:
        place = lambda i: out if i == 0 else scratch / str(i)
        commands = [
            [sys.executable, "-m", "experiments", "run", name, *options, "--out", str(place(i))]
            for i in range(processes)
        ]

        def attempt(number: int) -> list[list[str]]:
            begun = number > 0 and kept.anything(kept.folder_of(out, name))
            return [[*command, *(["--resume"] if begun else [])] for command in commands]

        return scale.supervise(attempt, restarts=restarts, tell=tell)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
