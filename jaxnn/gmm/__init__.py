"""Gaussian mixtures: `init`, `fit`, `log_prob`, `sample` and what goes with them."""

from jaxnn.gmm.covariances import COVARIANCES, Diag, Full, Spherical, Tied
from jaxnn.gmm.em import fit, m_step
from jaxnn.gmm.family import Covariances
from jaxnn.gmm.model import (
    GMM,
    aic,
    bic,
    from_covariances,
    log_joint,
    log_prob,
    n_parameters,
    posterior,
    predict,
    sample,
)
from jaxnn.gmm.moments import Moments, e_step
from jaxnn.gmm.outcome import Fit, Status, describe
from jaxnn.gmm.priors import Prior, default_prior, log_prior
from jaxnn.gmm.starts import STARTS, init

__all__ = [
    "COVARIANCES",
    "GMM",
    "STARTS",
    "Covariances",
    "Diag",
    "Fit",
    "Full",
    "Moments",
    "Prior",
    "Spherical",
    "Status",
    "Tied",
    "aic",
    "bic",
    "default_prior",
    "describe",
    "e_step",
    "fit",
    "from_covariances",
    "init",
    "log_joint",
    "log_prior",
    "log_prob",
    "m_step",
    "n_parameters",
    "posterior",
    "predict",
    "sample",
]
