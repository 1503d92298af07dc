"""Gaussian mixtures: `init`, `fit`, `log_prob`, `sample` and what goes with them."""

from jaxnn.gmm.batch import fit_many
from jaxnn.gmm.bayes import BayesFit, BayesGMM, bayes_step, fit_bayes, surrogate
from jaxnn.gmm.bayes_priors import BayesPrior, bayes_prior
from jaxnn.gmm.covariances import Diag, Full, Spherical, Tied
from jaxnn.gmm.criteria import aic, bic, icl, n_parameters
from jaxnn.gmm.eigen import Eigen
from jaxnn.gmm.ellipsoid import Ellipsoid
from jaxnn.gmm.em import fit, m_step
from jaxnn.gmm.factors import Factors, factors
from jaxnn.gmm.families import COVARIANCES
from jaxnn.gmm.family import Covariances
from jaxnn.gmm.impute import impute, sample_missing
from jaxnn.gmm.kmeans import KMeans, k_means
from jaxnn.gmm.model import (
    GMM,
    from_covariances,
    log_joint,
    log_prob,
    posterior,
    predict,
    sample,
)
from jaxnn.gmm.moments import Moments, e_step
from jaxnn.gmm.outcome import Fit, Status, describe
from jaxnn.gmm.predictive import expected_mixture, predictive_log_prob, prune
from jaxnn.gmm.priors import Prior, default_prior, log_prior
from jaxnn.gmm.restarts import BestFit, fit_best
from jaxnn.gmm.selection import select
from jaxnn.gmm.starts import STARTS, from_labels, init
from jaxnn.gmm.table import Selection, Table
from jaxnn.gmm.weights import WEIGHT_PRIORS, Dirichlet, StickBreaking

__all__ = [
    "COVARIANCES",
    "GMM",
    "STARTS",
    "WEIGHT_PRIORS",
    "BayesFit",
    "BayesGMM",
    "BayesPrior",
    "BestFit",
    "Covariances",
    "Diag",
    "Dirichlet",
    "Eigen",
    "Ellipsoid",
    "Factors",
    "Fit",
    "Full",
    "KMeans",
    "Moments",
    "Prior",
    "Selection",
    "Spherical",
    "Status",
    "StickBreaking",
    "Table",
    "Tied",
    "aic",
    "bayes_prior",
    "bayes_step",
    "bic",
    "default_prior",
    "describe",
    "e_step",
    "expected_mixture",
    "factors",
    "fit",
    "fit_bayes",
    "fit_best",
    "fit_many",
    "from_covariances",
    "from_labels",
    "icl",
    "impute",
    "init",
    "k_means",
    "log_joint",
    "log_prior",
    "log_prob",
    "m_step",
    "n_parameters",
    "posterior",
    "predict",
    "predictive_log_prob",
    "prune",
    "sample",
    "sample_missing",
    "select",
    "surrogate",
]
