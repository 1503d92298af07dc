"""A guard against jaxlib releases that add up wrongly on CPU.

In the releases of `WRONG_SUMS` XLA's CPU compiler hands fused products and reductions to a library
that returns wrong sums, silently, once a program reduces more than 32,768 short float32 rows
(16,384 in float64): jax-ml/jax#39103.  A log-density was off by 14 nats here.  A flag keeps
reductions from that library.  XLA reads it when the first computation starts a backend: import
jaxnn before.
"""

import os
from collections.abc import MutableMapping
from importlib.metadata import version

WRONG_SUMS = {"0.10.2", "0.11.0"}
FLAG = "--xla_cpu_experimental_ynn_fusion_type"
WITHOUT = "-reduce"  # reductions are what goes wrong; without the products too EM is half as fast


def guard(environment: MutableMapping[str, str] | None = None, jaxlib: str | None = None) -> None:
    """Adds the flag to XLA_FLAGS if this jaxlib needs it and nobody has set it.

    Args:
        environment: whose XLA_FLAGS to change; that of the process by default.
        jaxlib: the release; the installed one by default.
    """
    environment = os.environ if environment is None else environment
    flags = environment.get("XLA_FLAGS", "")
    # Other releases may not know the flag, and XLA aborts on flags that it does not know.
    if (jaxlib or version("jaxlib")) in WRONG_SUMS and FLAG not in flags:
        environment["XLA_FLAGS"] = f"{flags} {FLAG}={WITHOUT}".strip()
