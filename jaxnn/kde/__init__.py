"""Kernel density estimation: one kernel on every data point (Rosenblatt, 1956; Parzen, 1962).

`fit` stores the data and picks a bandwidth, `log_prob` and `sample` use them.  The kernels are
the entries of `KERNELS`, the bandwidth rules those of `BANDWIDTHS`; `cross_validate` and
`maximise_leave_one_out` search, and `adaptive` gives each point a bandwidth of its own.
The rest is what people do with a density: probabilities, marginals and conditionals, regression,
modes, regions, classes and tests.
"""

from jaxnn.kde import bounded
from jaxnn.kde.adaptive import adaptive
from jaxnn.kde.bandwidths import BANDWIDTHS, normal_reference, scott, silverman
from jaxnn.kde.botev import improved_sheather_jones
from jaxnn.kde.characteristic import characteristic
from jaxnn.kde.classify import (
    Classes,
    class_conditional,
    class_log_prob,
    classify,
    log_density_ratio,
    posterior,
)
from jaxnn.kde.conditional import Conditional, condition, conditional_log_prob, marginal
from jaxnn.kde.cross_validation import (
    CrossValidation,
    cross_validate,
    least_squares,
    leave_one_out,
    likelihood,
)
from jaxnn.kde.debias import debias, laplace_corrected
from jaxnn.kde.grid import on_grid
from jaxnn.kde.kernels import KERNELS, Kernel, student_t
from jaxnn.kde.logsum import LogSum
from jaxnn.kde.maximise import Maximum, maximise_leave_one_out
from jaxnn.kde.model import KDE, as_mixture, fit, log_prob, sample
from jaxnn.kde.modes import MeanShift, Modes, mean_shift, modes, score
from jaxnn.kde.neighbours import nearest_neighbour
from jaxnn.kde.probabilities import box, cdf, quantile
from jaxnn.kde.regions import density_level, in_region
from jaxnn.kde.regression import Line, Mean, local_linear, nadaraya_watson
from jaxnn.kde.selection import Selection
from jaxnn.kde.sheather_jones import plug_in, sheather_jones
from jaxnn.kde.two_sample import TwoSample, two_sample

__all__ = [
    "BANDWIDTHS",
    "KDE",
    "KERNELS",
    "Classes",
    "Conditional",
    "CrossValidation",
    "Kernel",
    "Line",
    "LogSum",
    "Maximum",
    "Mean",
    "MeanShift",
    "Modes",
    "Selection",
    "TwoSample",
    "adaptive",
    "as_mixture",
    "bounded",
    "box",
    "cdf",
    "characteristic",
    "class_conditional",
    "class_log_prob",
    "classify",
    "condition",
    "conditional_log_prob",
    "cross_validate",
    "debias",
    "density_level",
    "fit",
    "improved_sheather_jones",
    "in_region",
    "laplace_corrected",
    "least_squares",
    "leave_one_out",
    "likelihood",
    "local_linear",
    "log_density_ratio",
    "log_prob",
    "marginal",
    "maximise_leave_one_out",
    "mean_shift",
    "modes",
    "nadaraya_watson",
    "nearest_neighbour",
    "normal_reference",
    "on_grid",
    "plug_in",
    "posterior",
    "quantile",
    "sample",
    "score",
    "scott",
    "sheather_jones",
    "silverman",
    "student_t",
    "two_sample",
]
