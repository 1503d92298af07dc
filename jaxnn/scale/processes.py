"""One job of many processes: how they find one another, and whether they mean the same.

A job is the same program started once for each process, on one machine or on many.  `join` comes
first in the program; JAX's own runtime does the rest.

Two machines: on each `JAX_COORDINATOR_ADDRESS=first:8476 JAX_NUM_PROCESSES=2 JAX_PROCESS_ID=i`
(i = 0 on `first`, 1 on the other) before the command.  Under Slurm, Open MPI, Kubernetes (with
`pip install jax[k8s]`) and on TPU pods JAX finds all three by itself: `join(cluster=True)`.
"""

import os
import socket
import sys
import threading
import time
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from jaxnn import checks

GRACE = 2.0  # seconds
WIDTH = 200  # bytes of a fact that are compared and shown
_MARKS: list[socket.socket] = []  # this process's number, while it has one
NAMES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


def join(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    *,
    cluster: bool = False,
    timeout: int = 60,
    heartbeat: int = 10,
) -> int:
    """Joins this process to its job and returns its number; alone it does nothing and returns 0.

    Comes before anything is computed.  What is not given is read from the environment variables
    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, as `python -m experiments launch`
    sets them.

    Args:
        coordinator: `host:port` of process 0, the same in every process.
        processes: how many there are.
        process: the number of this one, from 0.
        cluster: whether to let JAX find all that in its cluster (Slurm, Open MPI, Kubernetes, TPU).
        timeout: seconds to wait for the others.
        heartbeat: seconds of silence after which a process is taken for dead.

    Raises:
        TypeError, ValueError: some of the three missing; a number out of range, or one that another
            process has; an address without a port; a port that is taken.
        RuntimeError: JAX has computed already, or has joined before; process 0 cannot be reached.

    Where others are missing, JAX ends the process (SIGABRT) a few seconds after `timeout`; a line
    on stderr says why.  Where two machines have the same number, it ends one at once, with
    ALREADY_EXISTS; on one machine (Linux) the second gets a ValueError.
    """
    where = "scale.join"
    given = dict(zip(NAMES, (coordinator, processes, process), strict=True))
    found = {n: os.environ.get(n) if value is None else value for n, value in given.items()}
    if not cluster and all(value is None for value in found.values()):
        return 0
    if jax.distributed.is_initialized():
        raise RuntimeError(f"{where}: must be called once, got a second call: this is process "
                           f"{jax.process_index()} of {jax.process_count()} already")  # fmt: skip
    timeout = checks.count(where, "timeout", timeout)
    heartbeat = checks.count(where, "heartbeat", heartbeat)
    options: dict[str, Any] = {}
    late = "the cluster's processes did not all come"
    if not cluster:
        options = _numbers(where, found)
        late = _late(where, timeout, **options)
        _take(where, **options)
        try:
            if options["process_id"] == 0:
                _free(where, options["coordinator_address"])
            else:
                _reach(late, options["coordinator_address"], timeout)
        except BaseException:
            _give_back()
            raise
    # JAX aborts the process when others are missing, before Python can say why.
    explain = threading.Timer(timeout, lambda: sys.stderr.write(f"{late}\n"))
    explain.daemon = True
    explain.start()
    try:
        jax.distributed.initialize(
            **options,
            initialization_timeout=timeout,
            heartbeat_timeout_seconds=heartbeat,
            shutdown_timeout_seconds=heartbeat,
        )
    except (RuntimeError, ValueError) as error:
        why = str(error).splitlines()[0] if str(error) else "the runtime did not start"
        if "before any JAX" in why:
            why = ("must be called before anything is computed, got JAX at work already; "
                   "call it first in the program")  # fmt: skip
        _give_back()
        raise RuntimeError(f"{where}: {why}") from None
    finally:
        explain.cancel()
    return jax.process_index()


def leave() -> None:
    """Waits for all processes of the job at the end of the program; alone it does nothing.

    Only needed where JAX_ENABLE_RECOVERABILITY is set, as `python -m experiments launch` does, so
    that one process that dies does not take the others along: then JAX does not wait by itself.
    """
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("scale.leave")
        if jax.process_index() == 0:
            time.sleep(GRACE)  # the others take their leave of the service that runs here
        jax.distributed.shutdown()
        _give_back()


def _numbers(where: str, found: dict[str, Any]) -> dict[str, Any]:
    address, processes, process = found.values()
    missing = [name for name, value in found.items() if value is None]
    if missing:
        raise ValueError(f"{where}: coordinator, processes and process must all be given, or all "
                         f"be set in the environment, got no {', '.join(missing)}")  # fmt: skip
    host, colon, port = str(address).rpartition(":")
    if not (host and colon and port.isdecimal() and 0 < int(port) < 2**16):
        raise ValueError(f"{where}: coordinator must be host:port, got {address!r}")
    numbers = {}
    for name, value in (("processes", processes), ("process", process)):
        try:
            numbers[name] = int(value)
        except (TypeError, ValueError):
            raise TypeError(f"{where}: {name} must be a whole number, got {value!r}") from None
    checks.count(where, "processes", numbers["processes"])
    checks.count(where, "process", numbers["process"], least=0, most=numbers["processes"] - 1)
    return {
        "coordinator_address": str(address),
        "num_processes": numbers["processes"],
        "process_id": numbers["process"],
    }


def _take(where: str, coordinator_address: str, num_processes: int, process_id: int) -> None:
    """Raises ValueError if another process of this machine has the same number in the same job.

    By a name that Linux lets one process have at a time, and takes back when it ends.
    """
    if sys.platform != "linux":
        return
    mark = socket.socket(socket.AF_UNIX)
    try:
        mark.bind(f"\0jaxnn {coordinator_address} {process_id}")
    except OSError:
        mark.close()
        raise ValueError(
            f"{where}: process must be a number of its own, from 0 to {num_processes - 1}, but "
            f"another process on this machine is {process_id} of the job at {coordinator_address}"
        ) from None
    _give_back()
    _MARKS.append(mark)


def _give_back() -> None:
    while _MARKS:
        _MARKS.pop().close()


def _free(where: str, address: str) -> None:
    """Raises ValueError if the port at which process 0 shall listen is taken."""
    port = int(address.rpartition(":")[2])
    with socket.socket() as probe:
        # As the coordinator binds: a port that was left a moment ago is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise ValueError(f"{where}: coordinator must name a free port, got {address} "
                             f"({error.strerror})") from None  # fmt: skip


def _late(
    where: str, timeout: int, coordinator_address: str, num_processes: int, process_id: int
) -> str:
    """Returns what is to be said if the processes do not meet."""
    proxies = sorted(name for name in os.environ if name.lower().endswith("_proxy"))
    hint = f" ({', '.join(proxies)} is set, which may be in the way)" if proxies else ""
    return (
        f"{where}: all {num_processes} processes must meet at {coordinator_address} within "
        f"{timeout} s, which process {process_id} did not see{hint}; are all of them started, each "
        "with a number of its own, and with the same address and number of processes?"
    )


def _reach(late: str, address: str, timeout: int) -> None:
    """Waits until process 0 listens; raises RuntimeError if it does not in time."""
    host, _, port = address.rpartition(":")
    end = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise RuntimeError(late) from None
        time.sleep(0.05)


def agree(where: str, facts: dict[str, Any]) -> None:
    """Raises ValueError, in every process, unless all processes have the same facts.

    A fact is compared by its words; arrays by theirs, and by all their bits.
    """
    if jax.process_count() == 1:
        return
    names = sorted(facts)
    words = [_words(facts[name]) for name in names]
    table = np.zeros((len(names), WIDTH), np.uint8)
    for row, text in zip(table, words, strict=True):
        raw = text.encode()[:WIDTH]
        row[: len(raw)] = np.frombuffer(raw, np.uint8)
    everyone = gathered(table)
    for i, name in enumerate(names):
        said = [bytes(row[i]).rstrip(b"\0").decode(errors="replace") for row in everyone]
        if len(set(said)) > 1:
            told = ", ".join(f"{text} in process {p}" for p, text in enumerate(said))
            raise ValueError(f"{where}: {name} must be the same in every process, got {told}")


def _words(fact: Any) -> str:
    """Returns a few words that differ where facts do."""
    leaves, structure = jax.tree.flatten(fact)
    if len(leaves) == 1 and isinstance(leaves[0], str | int | float | bool):
        return str(leaves[0])
    import hashlib

    digest = hashlib.sha256(str(structure).encode())
    for leaf in leaves:
        array = np.asarray(leaf)
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    shapes = ", ".join(f"{np.asarray(leaf).dtype}{list(np.shape(leaf))}" for leaf in leaves[:3])
    return f"{shapes or fact} (digest {digest.hexdigest()[:8]})"


def gathered(array: np.ndarray) -> np.ndarray:
    """Returns the arrays of all processes, with a leading axis of processes."""
    if jax.process_count() == 1:
        return array[None]
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array))


def on_host(tree: PyTree) -> PyTree:
    """Returns arrays that every device has a copy of, as NumPy arrays."""
    copy = lambda a: np.asarray(a.addressable_data(0)) if isinstance(a, jax.Array) else a
    return jax.tree.map(copy, tree)
