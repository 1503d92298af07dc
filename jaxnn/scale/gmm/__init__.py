"""Mixtures over any number of rows, devices and processes: `fit`, `fit_stepwise`."""

from jaxnn.scale.gmm.em import Climb, advance, begin, finish, fit
from jaxnn.scale.gmm.stepwise import fit_stepwise

__all__ = ["Climb", "advance", "begin", "finish", "fit", "fit_stepwise"]
