"""Sweeps: hyperparameter spaces, and `run` for any pure fit over all of their members."""

from jaxnn.sweep.axes import Choice, Distribution, Integers, LogUniform, Normal, Static, Uniform
from jaxnn.sweep.groups import run_groups
from jaxnn.sweep.run import LAYOUTS, Best, Sweep, best, member_keys, run
from jaxnn.sweep.saved import from_json, to_json
from jaxnn.sweep.spaces import (
    DESIGNS,
    Design,
    Grid,
    Product,
    Zip,
    grid,
    latin_hypercube,
    random,
    sample,
    sobol,
)
from jaxnn.sweep.tables import When

__all__ = [
    "DESIGNS",
    "LAYOUTS",
    "Best",
    "Choice",
    "Design",
    "Distribution",
    "Grid",
    "Integers",
    "LogUniform",
    "Normal",
    "Product",
    "Static",
    "Sweep",
    "Uniform",
    "When",
    "Zip",
    "best",
    "from_json",
    "grid",
    "latin_hypercube",
    "member_keys",
    "random",
    "run",
    "run_groups",
    "sample",
    "sobol",
    "to_json",
]
