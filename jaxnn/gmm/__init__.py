"""Gaussian mixtures: `init`, `fit`, `log_prob`, `sample` and what goes with them."""

from jaxnn.gmm.batch import fit_many
from jaxnn.gmm.bayes import bayes_step, fit_bayes
from jaxnn.gmm.bayes_priors import BayesPrior, bayes_prior
from jaxnn.gmm.belief import BayesGMM, surrogate
from jaxnn.gmm.conditional import Regression, condition, marginal, regress
from jaxnn.gmm.covariances import Diag, Full, Spherical, Tied
from jaxnn.gmm.criteria import aic, bic, icl, n_parameters
from jaxnn.gmm.divergence import Bounds, Estimate, entropy_bounds, kl
from jaxnn.gmm.eigen import Eigen
from jaxnn.gmm.ellipsoid import Ellipsoid
from jaxnn.gmm.em import fit, m_step
from jaxnn.gmm.expectation import e_step
from jaxnn.gmm.factors import Factors, factors
from jaxnn.gmm.families import COVARIANCES
from jaxnn.gmm.family import Covariances
from jaxnn.gmm.implicit import FixedPoint, fit_implicit
from jaxnn.gmm.impute import impute, sample_missing
from jaxnn.gmm.kmeans import KMeans, k_means
from jaxnn.gmm.mean_shift import Modes, modes
from jaxnn.gmm.model import (
    GMM,
    from_covariances,
    log_joint,
    log_prob,
    posterior,
    predict,
    sample,
)
from jaxnn.gmm.moments import Moments
from jaxnn.gmm.outcome import BayesFit, Fit, Status, describe
from jaxnn.gmm.predictive import expected_mixture, predictive_log_prob, prune
from jaxnn.gmm.priors import Prior, default_prior, log_prior
from jaxnn.gmm.reduction import Reduction, merge, reduce
from jaxnn.gmm.restarts import BestFit, fit_best
from jaxnn.gmm.segments import EMState, segments
from jaxnn.gmm.selection import select
from jaxnn.gmm.starts import STARTS, from_labels, init
from jaxnn.gmm.stepwise import (
    Stepwise,
    StepwiseFit,
    fit_stepwise,
    stepwise_init,
    stepwise_step,
)
from jaxnn.gmm.summary import cdf, covariance, mean, quantile
from jaxnn.gmm.table import Selection, Table
from jaxnn.gmm.unconstrained import (
    Unconstrained,
    constrain,
    negative_log_likelihood,
    unconstrain,
)
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
    "Bounds",
    "Covariances",
    "Diag",
    "Dirichlet",
    "EMState",
    "Eigen",
    "Ellipsoid",
    "Estimate",
    "Factors",
    "Fit",
    "FixedPoint",
    "Full",
    "KMeans",
    "Modes",
    "Moments",
    "Prior",
    "Reduction",
    "Regression",
    "Selection",
    "Spherical",
    "Status",
    "Stepwise",
    "StepwiseFit",
    "StickBreaking",
    "Table",
    "Tied",
    "Unconstrained",
    "aic",
    "bayes_prior",
    "bayes_step",
    "bic",
    "cdf",
    "condition",
    "constrain",
    "covariance",
    "default_prior",
    "describe",
    "e_step",
    "entropy_bounds",
    "expected_mixture",
    "factors",
    "fit",
    "fit_bayes",
    "fit_best",
    "fit_implicit",
    "fit_many",
    "fit_stepwise",
    "from_covariances",
    "from_labels",
    "icl",
    "impute",
    "init",
    "k_means",
    "kl",
    "log_joint",
    "log_prior",
    "log_prob",
    "m_step",
    "marginal",
    "mean",
    "merge",
    "modes",
    "n_parameters",
    "negative_log_likelihood",
    "posterior",
    "predict",
    "predictive_log_prob",
    "prune",
    "quantile",
    "reduce",
    "regress",
    "sample",
    "sample_missing",
    "segments",
    "select",
    "stepwise_init",
    "stepwise_step",
    "surrogate",
    "unconstrain",
]
