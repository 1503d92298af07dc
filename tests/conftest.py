"""Shared by all tests: strict JAX, a compilation cache, and a switch for the shape checker."""

import gc
import os
from pathlib import Path

# A cache for each worker: what one has half written, another must not read.
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "main")
CACHE = Path(__file__).parent.parent / ".cache" / "jax" / WORKER
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(CACHE)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ.setdefault("MPLBACKEND", "agg")
# The suite compiles thousands of small programs once: LLVM's optimiser would take a quarter of it.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax
import pytest
from jaxtyping import config as jaxtyping_config

# float64 is on, so that oracles are exact; that float32 stays float32 is a test of its own.
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")


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
