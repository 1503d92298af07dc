"""Sweeps: hyperparameter spaces, and `run` for any pure fit over all of their members."""

from jaxnn.sweep.asking import Asked, ask, tell
from jaxnn.sweep.averages import Average, average
from jaxnn.sweep.axes import Choice, Distribution, Integers, LogUniform, Normal, Static, Uniform
from jaxnn.sweep.folds import Nested, cross_validate, k_fold, nested, stratified
from jaxnn.sweep.groups import run_groups
from jaxnn.sweep.halving import halving
from jaxnn.sweep.layouts import LAYOUTS
from jaxnn.sweep.options import Paused
from jaxnn.sweep.progress import Progress
from jaxnn.sweep.results import Results, collect
from jaxnn.sweep.rules import RULES
from jaxnn.sweep.run import Best, Sweep, best, member_keys, run
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
    "RULES",
    "Asked",
    "Average",
    "Best",
    "Choice",
    "Design",
    "Distribution",
    "Grid",
    "Integers",
    "LogUniform",
    "Nested",
    "Normal",
    "Paused",
    "Product",
    "Progress",
    "Results",
    "Static",
    "Sweep",
    "Uniform",
    "When",
    "Zip",
    "ask",
    "average",
    "best",
    "collect",
    "cross_validate",
    "from_json",
    "grid",
    "halving",
    "k_fold",
    "latin_hypercube",
    "member_keys",
    "nested",
    "random",
    "run",
    "run_groups",
    "sample",
    "sobol",
    "stratified",
    "tell",
    "to_json",
]
