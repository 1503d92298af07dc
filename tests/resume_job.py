"""Experiments in a process of their own, which sends itself a signal in the middle of each.

    python tests/resume_job.py [[SIGNAL, REPORTS, ARGUMENTS], ...]

Each is broken off after so many reports of progress, all but the last by a signal that leaves the
process alive.  Prints a line for each: its exit code and what it said last.
"""

import json
import os
import sys

import click.testing

from experiments import runner
from experiments.__main__ import cli

plain = runner.Progress.sweep


def main(runs: str) -> None:
    """Runs them one after another."""
    for number, reports, arguments in json.loads(runs):
        left = [reports]

        def sweep(self, *args, number=number, left=left, **options):
            def report(seen):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), number)

            return plain(self, *args, **options | {"progress": report})

        runner.Progress.sweep = sweep
        ended = click.testing.CliRunner().invoke(cli, arguments)
        said = ended.stderr.splitlines() or [""]
        sys.stdout.write(json.dumps([ended.exit_code, said[-1]]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
