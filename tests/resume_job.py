"""Experiments in a process of their own, which sends itself a signal in the middle of each.

    python tests/resume_job.py [[SIGNAL, REPORTS, ARGUMENTS], ...]

Each is broken off at that many reports of progress.  Prints a line for each that the process has
outlived: its exit code, and what it said last.
"""

import json
import os
import sys

from click.testing import CliRunner

from experiments import runner
from experiments.__main__ import cli

SWEEP = runner.Progress.sweep


def breaking(number: int, reports: int):
    """Returns `Progress.sweep` with a signal at so many reports, over all sweeps."""
    seen = []

    def report(new):
        seen.append(new)
        if len(seen) == reports:
            os.kill(os.getpid(), number)

    return lambda self, *args, **options: SWEEP(self, *args, **options | {"progress": report})


def main(runs: str) -> None:
    """Runs them one after another."""
    for number, reports, arguments in json.loads(runs):
        runner.Progress.sweep = breaking(number, reports)
        ended = CliRunner().invoke(cli, arguments)
        said = ended.stderr.splitlines() or [""]
        sys.stdout.write(json.dumps([ended.exit_code, said[-1]]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
