"""Restricted Boltzmann machines: energies, Gibbs sampling, learning, and the partition function.

`init` makes the parameters, whose type says what the visible units are (`Bernoulli`, `Gaussian`).
`contrastive_divergence` is what a trainer descends, `fit_persistent` learns from chains that live
on, and `log_prob` needs the logarithm of the partition function: exact from `log_partition` where
one layer is small, else estimated by `annealed_log_partition`.
"""

from jaxnn.rbm.learning import (
    Persistent,
    contrastive_divergence,
    fit_persistent,
    persistent_divergence,
)
from jaxnn.rbm.model import (
    RBM,
    VISIBLE,
    Bernoulli,
    Gaussian,
    energy,
    free_energy,
    gibbs,
    hidden_given_visible,
    init,
    visible_given_hidden,
)
from jaxnn.rbm.partition import Annealed, annealed_log_partition, log_partition, log_prob

__all__ = [
    "RBM",
    "VISIBLE",
    "Annealed",
    "Bernoulli",
    "Gaussian",
    "Persistent",
    "annealed_log_partition",
    "contrastive_divergence",
    "energy",
    "fit_persistent",
    "free_energy",
    "gibbs",
    "hidden_given_visible",
    "init",
    "log_partition",
    "log_prob",
    "persistent_divergence",
    "visible_given_hidden",
]
