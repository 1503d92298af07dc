"""Sweeps: hyperparameter spaces, and `run` for any pure fit over all of their members."""

from jaxnn.sweep.run import LAYOUTS, Best, Sweep, best, member_keys, run
from jaxnn.sweep.spaces import Choice, Distribution, Integers, LogUniform, Uniform, grid, random

__all__ = [
    "LAYOUTS",
    "Best",
    "Choice",
    "Distribution",
    "Integers",
    "LogUniform",
    "Sweep",
    "Uniform",
    "best",
    "grid",
    "member_keys",
    "random",
    "run",
]
