"""One job of many processes on this machine, started again as a whole when one of them breaks.

When a process of a job dies or hangs, JAX ends the others or leaves them waiting, and no Python in
them is certain to run: so who watches stands outside.  With checkpoints nothing is lost but what
came after the last one.  On many machines the scheduler does the same (Slurm's --requeue, a Job of
Kubernetes); exit code 75 asks for it.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from jaxnn import checks
from jaxnn.signals import Noted

WHERE = "scale.supervise"
POLITE = 5.0  # seconds that processes have to end by themselves once one of them has failed
PATIENT = 60.0  # seconds that they have to save and end when they are asked to, or one of them was
SAVED = (75, 128 + signal.SIGINT)  # exit codes of one that was asked to stop, as `scale.run` has it
REFUSED = 2  # exit code for what would be refused again
# A process that does nothing but wait for the end of a pipe that the supervisor holds open, which
# comes whatever happens to it.  Then it kills those whose numbers came through, and not since with
# a minus, and what they have started.  Any command is served so, and one that hangs.
KEEPER = """
import os, sys
kept = set()
for line in sys.stdin:
    number = int(line)
    (kept.add if number > 0 else kept.discard)(abs(number))
for number in kept:
    try:
        getattr(os, "killpg", os.kill)(number, 9)
    except OSError:
        pass
"""


def supervise(
    commands: Callable[[int], Sequence[Sequence[str]]],
    *,
    restarts: int = 0,
    tell: Callable[[str], None] = lambda line: None,
) -> int:
    """Runs a job, one command a process, and returns its exit code: 0 if all ended well.

    Once one process has failed the others have a few seconds to end, and are killed.  Then all
    start again, at a new port, until the job is done or was started again `restarts` times; not
    after exit code 2, which stands for a mistake in the command.  If this process itself is
    killed, they are, too: nobody goes on without one that watches.

    Args:
        commands: `attempt -> commands`; attempts count from 0, and those after it shall go on from
            the checkpoints.  Each command gets the variables that `scale.join` reads.
        restarts: how often.
        tell: called with every line that a process prints, its number before it, and with what
            happens to the job.

    Returns:
        0, or the exit code of the first process that failed; 128 + s for a death by signal s.  75
        after a SIGTERM to this process, which is passed on: what the processes save stays.

    Raises:
        KeyboardInterrupt: Ctrl-C, passed on as SIGTERM, once all processes have saved and ended.
        ValueError: `restarts` below 0.
    """
    restarts = checks.count(WHERE, "restarts", restarts, least=0)
    code = 0
    with Noted(signal.SIGTERM, signal.SIGINT) as asked:
        for attempt in range(restarts + 1):
            job = _Job(commands(attempt), tell)
            try:
                code = job.end(asked)
            finally:
                job.kill()
            if asked.first == signal.SIGINT:
                raise KeyboardInterrupt("the job was told to stop")
            if asked.first is not None or code in (0, REFUSED):
                return code
            if attempt < restarts:
                tell(f"the job is started again, {attempt + 1} of {restarts}: {job.why}")
            else:
                tell(f"the job ends with exit code {code}: {job.why}")
    return code


class _Job:
    """The processes of one attempt."""

    def __init__(self, commands: Sequence[Sequence[str]], tell: Callable[[str], None]):
        self.why = ""
        self.children: list[subprocess.Popen[str]] = []
        self._readers: list[threading.Thread] = []
        self._kept: set[int] = set()
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", KEEPER], text=True, stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        port = free_port()
        try:
            for i, command in enumerate(commands):
                self._start(command, environment(i, len(commands), port), f"[{i}] ", tell)
        except BaseException:
            self.kill()
            raise

    def _start(
        self, command: Sequence[str], variables: dict[str, str], name: str,
        tell: Callable[[str], None],
    ) -> None:  # fmt: skip
        # In a session of its own: Ctrl-C reaches it through the supervisor alone.
        child = subprocess.Popen(
            command, env=variables, text=True, errors="replace", stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self.children.append(child)
        self._keep(child.pid, True)
        reader = threading.Thread(target=_pass_on, args=(child.stdout, name, tell), daemon=True)
        reader.start()
        self._readers.append(reader)

    def _keep(self, number: int, alive: bool) -> None:
        """Tells the keeper of a process; of one that has ended, whose number is free again, too."""
        if alive == (number in self._kept):
            return
        (self._kept.add if alive else self._kept.discard)(number)
        with contextlib.suppress(OSError):  # it may have been killed as well
            assert self._keeper.stdin is not None
            self._keeper.stdin.write(f"{number if alive else -number}\n")
            self._keeper.stdin.flush()

    def end(self, asked: Noted) -> int:
        """Waits until all have ended, or one has failed and the others have had their time."""
        code, until = 0, float("inf")
        passed_on = False
        while time.monotonic() < until:
            codes = [child.poll() for child in self.children]
            for child, found in zip(self.children, codes, strict=True):
                self._keep(child.pid, found is None)
            failed = [i for i, found in enumerate(codes) if found]
            if failed and not self.why:
                first = failed[0]
                found = codes[first] or 0
                code = found if found > 0 else 128 - found
                how = f"exit code {found}" if found > 0 else signal.Signals(-found).name
                self.why = f"process {first} ended with {how}"
                saving = asked.first is not None or code in SAVED
                until = min(until, time.monotonic() + (PATIENT if saving else POLITE))
            if asked.first is not None and not passed_on:
                passed_on = True
                until = time.monotonic() + PATIENT
                for child in self.children:
                    if child.poll() is None:
                        child.send_signal(signal.SIGTERM)
            if None not in codes:
                break
            time.sleep(0.05)
        return code

    def kill(self) -> None:
        """Ends what has not ended, stopped or not, and passes on what it has said."""
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.wait()
        self._keeper.kill()  # before it sees the end of its pipe
        self._keeper.communicate()
        for child, reader in zip(self.children, self._readers, strict=True):
            reader.join(POLITE)
            if child.stdout is not None and not reader.is_alive():
                child.stdout.close()


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
        # One that hangs must be missed by the others, where recoverable ones are waited for.
        "JAX_ENABLE_RECOVERABILITY": "0",
        "PYTHONUNBUFFERED": "1",
    }


def _pass_on(stream: Iterable[str], prefix: str, tell: Callable[[str], None]) -> None:
    for line in stream:
        tell(f"{prefix}{line.rstrip()}")
