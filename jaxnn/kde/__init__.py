"""Kernel density estimation: one kernel on every data point (Rosenblatt, 1956; Parzen, 1962).

`fit` stores the data and picks a bandwidth, `log_prob` and `sample` use them.  The kernels are
the entries of `KERNELS`, the bandwidth rules those of `BANDWIDTHS`.
"""

from jaxnn.kde.bandwidths import BANDWIDTHS, scott, silverman
from jaxnn.kde.kernels import KERNELS, Kernel
from jaxnn.kde.leave_one_out import leave_one_out
from jaxnn.kde.logsum import LogSum
from jaxnn.kde.model import KDE, as_mixture, fit, log_prob, on_grid, sample

__all__ = [
    "BANDWIDTHS",
    "KDE",
    "KERNELS",
    "Kernel",
    "LogSum",
    "as_mixture",
    "fit",
    "leave_one_out",
    "log_prob",
    "on_grid",
    "sample",
    "scott",
    "silverman",
]
