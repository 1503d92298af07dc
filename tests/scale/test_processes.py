"""Two and four real processes on the loopback interface; and what one process can be told."""

import socket
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from children import environment, free_port, names, results, start
from refusals import refused
from toys import TOY, members

from jaxnn import scale, sweep
from jaxnn.scale import processes
from jaxnn.scale.leaves import digest

PROGRAM = "scale_processes.py"
WHERE = "scale.join"


def job(count: int, folder: Path) -> list[dict[str, str]]:
    shared = {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free_port()}",
        "JAX_NUM_PROCESSES": str(count),
    }
    who = [{"JAX_PROCESS_ID": str(i), **shared} for i in range(count)]
    children = [start(PROGRAM, str(folder), **one) for one in who]
    return results(children, timeout=300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("job")


@pytest.fixture(scope="module")
def jobs(folder):
    return {count: job(count, folder) for count in (2, 4)}


@pytest.mark.parametrize("name", names(PROGRAM))
def test_in_processes(name, jobs):
    """In two processes all, in four those that are about many."""
    assert [one[name] for one in jobs[2]] == [""] * 2
    assert [one.get(name, "") for one in jobs[4]] == [""] * 4
    assert len(jobs[4][0]) == 2


@pytest.mark.usefixtures("jobs")
def test_one_process_goes_on_with_a_sweep_that_two_were_told_to_stop(folder):
    """Oracle: the bits of the sweep that was never broken off."""
    given, turns = (TOY, members(4, stop=14), jax.random.key(0), np.float64(0.9)), []
    found = scale.sweep(
        *given, saving=scale.Saving(folder / "ctrl-c", resume=True), layout="map",
        progress=turns.append,
    )  # fmt: skip
    assert digest(found) == digest(sweep.run(*given, layout="map"))
    assert len(turns) < 15 - 2


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    for name in processes.NAMES:
        monkeypatch.delenv(name, raising=False)


def test_alone_there_is_nothing_to_join():
    assert scale.join() == 0
    processes.agree("test", {"x": 1})
    np.testing.assert_array_equal(processes.gathered(np.arange(3)), [[0, 1, 2]])


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (("a:1", 2, 2), ValueError, "process must be between 0 and 1, got 2"),  # J7
        (("a:1", 2, -1), ValueError, "process must be between 0 and 1, got -1"),
        (("a:1", 0, 0), ValueError, "processes must be at least 1, got 0"),
        (("a:1", "two", 0), TypeError, "processes must be a whole number, got 'two'"),
        (("a", 2, 0), ValueError, "coordinator must be host:port, got 'a'"),
        (("a:70000", 2, 0), ValueError, "coordinator must be host:port"),
        (("a:1", 2, None), ValueError, "must all be given.*got no JAX_PROCESS_ID"),
    ],
)
def test_bad_numbers_are_refused(given, error, message):
    refused(lambda: scale.join(*given), error, message, WHERE)


def test_the_environment_is_read(monkeypatch):
    for name, value in zip(processes.NAMES, ("a:1", "2", "7"), strict=True):
        monkeypatch.setenv(name, value)
    refused(scale.join, ValueError, "process must be between 0 and 1, got 7", WHERE)


def test_a_taken_port_is_refused():
    """J3."""
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        refused(lambda: scale.join(address, 2, 0), ValueError, "free port, got .*in use", WHERE)


def test_a_coordinator_out_of_reach_is_told_in_time(monkeypatch):
    """J4, and J8: a proxy is named, since it may be in the way."""
    monkeypatch.setenv("HTTPS_PROXY", "http://nowhere")
    address = f"127.0.0.1:{free_port()}"
    message = f"all 2 processes must meet at {address} within 1 s, which process 1 .*HTTPS_PROXY"
    refused(lambda: scale.join(address, 2, 1, timeout=1), RuntimeError, message, WHERE)


def test_too_few_processes_end_with_a_line_that_says_why():
    """J5: JAX aborts; Python can only say why before."""
    import subprocess

    code = f"from jaxnn import scale; scale.join('127.0.0.1:{free_port()}', 2, 0, timeout=1)"
    ended = subprocess.run([sys.executable, "-c", code], env=environment(), text=True,
                           capture_output=True, timeout=120, check=False)  # fmt: skip
    assert ended.returncode != 0
    assert "scale.join: all 2 processes must meet at" in ended.stderr
