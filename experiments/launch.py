"""Starts an experiment in several processes of this machine, as a cluster would on several.

For trying out what will run on many machines: every process runs `python -m experiments run NAME`
with the variables that `jaxnn.scale.join` reads.  Process 0 writes the result; what the others
write is thrown away.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

POLITE = 5.0  # seconds that processes have to end by themselves once one of them has failed


def free_port() -> int:
    """Returns a port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(process: int, processes: int, port: int) -> dict[str, str]:
    """Returns the variables of one process of a job."""
    return {
        **os.environ,
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": str(processes),
        "JAX_PROCESS_ID": str(process),
        # One that dies takes the others along, else, after a wait of up to 100 s.
        "JAX_ENABLE_RECOVERABILITY": "1",
        "PYTHONUNBUFFERED": "1",
    }


def worst(codes: Sequence[int]) -> int:
    """Returns the exit code of a job: that of the first process which did not end well.

    A death by signal s counts as 128 + s, as in a shell, and only where no process failed by
    itself: those that are ended because another one failed are not to blame.
    """
    failed = [code for code in codes if code > 0]
    killed = [128 - code for code in codes if code < 0]
    return (failed or killed or [0])[0]


def _pass_on(stream: IO[str], prefix: str, tell: Callable[[str], None]) -> None:
    with stream:
        for line in stream:
            tell(f"{prefix}{line.rstrip()}")


def run(commands: Sequence[Sequence[str]], tell: Callable[[str], None]) -> int:
    """Runs one command a process, all at once, and returns the exit code of the job.

    Every line that a process prints is told with its number before it.  Once one process has
    failed, or on Ctrl-C, the others have a few seconds to end, and then are killed.
    """
    port = free_port()
    children = [
        subprocess.Popen(
            command, env=environment(i, len(commands), port), text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for i, command in enumerate(commands)
    ]  # fmt: skip
    readers = [
        threading.Thread(target=_pass_on, args=(child.stdout, f"[{i}] ", tell), daemon=True)
        for i, child in enumerate(children)
    ]
    for reader in readers:
        reader.start()
    try:
        while any(child.poll() is None for child in children):
            if any(child.poll() for child in children):
                break
            time.sleep(0.1)
    except KeyboardInterrupt:
        for child in children:
            if child.poll() is None:
                child.send_signal(signal.SIGINT)
        _end(children)
        raise
    _end(children)
    for reader in readers:
        reader.join()
    return worst([child.returncode for child in children])


def _end(children: Sequence[subprocess.Popen]) -> None:
    """Waits a little for all processes to end, and kills those that do not."""
    end = time.monotonic() + POLITE
    while any(child.poll() is None for child in children) and time.monotonic() < end:
        time.sleep(0.05)
    for child in children:
        if child.poll() is None:
            child.kill()
        child.wait()


def launch(
    name: str, options: Sequence[str], processes: int, out: Path, tell: Callable[[str], None]
) -> int:
    """Runs experiment `name` in `processes` processes; returns the exit code of the job."""
    scratch = Path(tempfile.mkdtemp(prefix="launch-"))
    try:
        place = lambda i: out if i == 0 else scratch / str(i)
        commands = [
            [sys.executable, "-m", "experiments", "run", name, *options, "--out", str(place(i))]
            for i in range(processes)
        ]
        return run(commands, tell)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
