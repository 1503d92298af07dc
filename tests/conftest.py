"""Shared by all tests: strict JAX, a compilation cache, and a switch for the shape checker."""

import gc
import os
import signal
from importlib.metadata import version
from pathlib import Path

# A cache for each worker: what one has half written, another must not read.
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "main")
CACHE = Path(__file__).parent.parent / ".cache" / "jax" / WORKER
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ.setdefault("MPLBACKEND", "agg")
# The suite compiles thousands of small programs once: what pays in a long run costs here.  Without
# the optimiser, with the old code generator and each program in one piece, XLA takes less than a
# quarter of the time.  The README's blocks are compiled as users compile them.
QUICKLY = "--xla_backend_optimization_level=0"
if version("jaxlib").startswith("0.10."):  # others may not know these flags, and would abort
    QUICKLY += " --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
os.environ.setdefault("XLA_FLAGS", QUICKLY)

import jax
import jaxtyping
import pytest
from jaxtyping import config as jaxtyping_config

# float64 is on, so that oracles are exact; that float32 stays float32 is a test of its own.
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")


decorate = jaxtyping.jaxtyped


def outer_only(*args, **kwargs):
    """As `jaxtyping.jaxtyped`, but for functions in functions, to be checked at each definition.

    A checker is compiled for each of them at each call: half of the suite's time.
    """
    check = decorate(*args, **kwargs)
    return lambda f: f if "<locals>" in f.__qualname__ else check(f)


jaxtyping.jaxtyped = outer_only  # what the import hook decorates with

# Traces are many small objects that live long: looking through them often costs a twentieth.
gc.set_threshold(200_000, 20, 100)

# A shell that starts the suite in the background has Ctrl-C ignored: tests of Ctrl-C want it back.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Programs that tests start in processes of their own, on eight devices or as a job.
collect_ignore = ["scale_devices.py", "scale_processes.py", "team_job.py", "resume_job.py",
                  "scale/job.py"]  # fmt: skip

MAPS = Path("/proc/self/maps")
MANY_MAPS = 15_000


@pytest.fixture(autouse=True, scope="module")
def room_for_programs():
    """Forgets compiled programs in time: each maps memory, and Linux allows 65,530 maps."""
    yield
    if MAPS.exists() and MAPS.read_bytes().count(b"\n") > MANY_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def unchecked_types():
    """Turns off the run-time shape checker: bad input must meet our own messages."""
    jaxtyping_config.update("jaxtyping_disable", True)
    yield
    jaxtyping_config.update("jaxtyping_disable", False)
