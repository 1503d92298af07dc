"""What a result must say of where it came from: compile time, versions, machine, commit."""

import contextlib
import datetime
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import experiments

STAGES = {
    "/jax/core/compile/jaxpr_trace_duration": "tracing",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lowering",
    "/jax/core/compile/backend_compile_duration": "backend",
}
CACHE_HIT = "/jax/compilation_cache/cache_retrieval_time_sec"


@contextlib.contextmanager
def compile_clock() -> Iterator[dict[str, float]]:
    """Yields seconds per stage, and how many programs were compiled or came from the cache."""
    from jax import monitoring

    spent: dict[str, float] = dict.fromkeys(STAGES.values(), 0.0)
    spent |= {"programs": 0, "from_cache": 0}

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event in STAGES:
            spent[STAGES[event]] += duration_secs
        spent["programs"] += STAGES.get(event) == "backend"
        spent["from_cache"] += event == CACHE_HIT

    monitoring.register_event_duration_secs_listener(listen)
    try:
        yield spent
    finally:
        monitoring.unregister_event_duration_listener(listen)


def machine() -> dict[str, Any]:
    """Returns what ran here and on what; no path and no name of a host or a person."""
    import jax

    import jaxnn

    versions = {"python": platform.python_version(), "jaxnn": jaxnn.__version__}
    for library in ("jax", "jaxlib", "numpy", "optax", "scikit-learn"):
        versions[library] = importlib.metadata.version(library)
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "versions": versions,
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "platform": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "x64": bool(jax.config.read("jax_enable_x64")),
    }


def code() -> dict[str, str]:
    """Returns what results come from: a digest of all our sources, and the version of JAX."""
    import jaxnn

    total = hashlib.sha256()
    for package in (jaxnn, experiments):
        for file in sorted(Path(str(package.__file__)).parent.rglob("*.py")):
            total.update(file.read_bytes())
    version = importlib.metadata.version("jax")
    return {"code of jaxnn": total.hexdigest()[:12], "version of jax": version}


def _commit() -> str | None:
    """Returns the hash of the commit, with -dirty if files differ from it; None without git."""
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(describe, cwd=Path(__file__).parent, capture_output=True, text=True)
    except OSError:
        return None
    return answer.stdout.strip() or None
