"""Kernel density estimation: one kernel on every data point (Rosenblatt, 1956; Parzen, 1962).

`fit` stores the data and picks a bandwidth, `log_prob` and `sample` use them.  The kernels are
the entries of `KERNELS`, the bandwidth rules those of `BANDWIDTHS`; `cross_validate` and
`maximise_leave_one_out` search, and `adaptive` gives each point a bandwidth of its own.
"""

from jaxnn.kde.adaptive import adaptive
from jaxnn.kde.bandwidths import BANDWIDTHS, normal_reference, scott, silverman
from jaxnn.kde.botev import improved_sheather_jones
from jaxnn.kde.characteristic import characteristic
from jaxnn.kde.cross_validation import CrossValidation, cross_validate, least_squares, likelihood
from jaxnn.kde.grid import on_grid
from jaxnn.kde.kernels import KERNELS, Kernel, student_t
from jaxnn.kde.leave_one_out import leave_one_out
from jaxnn.kde.logsum import LogSum
from jaxnn.kde.maximise import Maximum, maximise_leave_one_out
from jaxnn.kde.model import KDE, as_mixture, fit, log_prob, sample
from jaxnn.kde.neighbours import nearest_neighbour
from jaxnn.kde.selection import Selection
from jaxnn.kde.sheather_jones import plug_in, sheather_jones

__all__ = [
    "BANDWIDTHS",
    "KDE",
    "KERNELS",
    "CrossValidation",
    "Kernel",
    "LogSum",
    "Maximum",
    "Selection",
    "adaptive",
    "as_mixture",
    "characteristic",
    "cross_validate",
    "fit",
    "improved_sheather_jones",
    "least_squares",
    "leave_one_out",
    "likelihood",
    "log_prob",
    "maximise_leave_one_out",
    "nearest_neighbour",
    "normal_reference",
    "on_grid",
    "plug_in",
    "sample",
    "scott",
    "sheather_jones",
    "silverman",
    "student_t",
]
