"""What can be in a file: the classes of models, their static parts, and what must hold of them.

A new model is one entry of `KINDS`; its name stands in files, so it must never change.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxnn import gmm, kde, mdn, mlp, neuron, perceptron, rbm, train
from jaxnn.gmm.weights import Dirichlet, StickBreaking
from jaxnn.kde.bounded import Bounded, Shape
from jaxnn.kde.kernels import KERNELS, Kernel, product, student_t


class Rule(NamedTuple):
    """What must hold of an array: in words, and of its numbers with `lead` axes of a batch."""

    words: str
    holds: Callable[[np.ndarray, int], Any]


def _sums_to_one(logs: np.ndarray, lead: int) -> Any:
    # float32 weights of a million points add up to one within some 1e-4.
    total = np.sum(np.exp(np.minimum(logs, 1)), axis=-1, keepdims=True)
    return np.abs(total - 1) < 1e-3


def _cholesky(root: np.ndarray, lead: int) -> Any:
    diagonal = np.einsum("...ii->...i", root)
    return np.isfinite(root).all() and not np.triu(root, 1).any() and (diagonal > 0).all()


def _orthogonal(q: np.ndarray, lead: int) -> Any:
    return np.abs(q @ np.swapaxes(q, -1, -2) - np.eye(q.shape[-1])) < 1e-3


def _positive(a: np.ndarray, lead: int) -> Any:
    return np.isfinite(a) & (a > 0)


def _bandwidth(axes: int) -> Callable[[np.ndarray, int], Any]:
    """Returns the rule of bandwidths, which are matrices where they have `axes` axes."""

    def holds(h: np.ndarray, lead: int) -> Any:
        if h.ndim - lead < axes:
            return _positive(h, lead)
        symmetric = np.isfinite(h).all() and np.allclose(h, np.swapaxes(h, -1, -2), rtol=1e-3)
        return symmetric and (np.linalg.eigvalsh(h.astype(float)) > 0).all()

    return holds


FINITE = Rule("finite", lambda a, lead: np.isfinite(a))
POSITIVE = Rule("positive and finite", _positive)
SIMPLEX = Rule("logs of weights that sum to one", _sums_to_one)
CHOLESKY = Rule("lower triangular with a positive diagonal", _cholesky)
ORTHOGONAL = Rule("orthogonal", _orthogonal)
BOUND = Rule("a number or infinite", lambda a, lead: ~np.isnan(a))
BANDWIDTH = Rule("positive, or a positive definite matrix", _bandwidth(2))
BANDWIDTHS = Rule("positive, or positive definite matrices", _bandwidth(3))


class Kind(NamedTuple):
    """A class of models, and the rules of those of its arrays that are more than finite."""

    type: type
    rules: Mapping[str, Rule] = {}


KINDS: dict[str, Kind] = {
    "gmm.GMM": Kind(gmm.GMM, {"log_weights": SIMPLEX}),
    "gmm.Full": Kind(gmm.Full, {"scale_tril": CHOLESKY}),
    "gmm.Tied": Kind(gmm.Tied, {"scale_tril": CHOLESKY}),
    "gmm.Diag": Kind(gmm.Diag, {"scale": POSITIVE}),
    "gmm.Spherical": Kind(gmm.Spherical, {"scale": POSITIVE}),
    "gmm.Eigen": Kind(
        gmm.Eigen, {"volume": POSITIVE, "shape": POSITIVE, "orientation": ORTHOGONAL}
    ),
    "gmm.Ellipsoid": Kind(gmm.Ellipsoid, {"volume": POSITIVE, "scale_tril": CHOLESKY}),
    "gmm.Factors": Kind(gmm.Factors, {"noise": POSITIVE}),
    "gmm.Unconstrained": Kind(gmm.Unconstrained),
    "gmm.BayesGMM": Kind(gmm.BayesGMM, {"mean_precision": POSITIVE, "dof": POSITIVE}),
    "gmm.Dirichlet": Kind(Dirichlet, {"concentration": POSITIVE}),
    "gmm.StickBreaking": Kind(StickBreaking, {"taken": POSITIVE, "left": POSITIVE}),
    "kde.KDE": Kind(kde.KDE, {"log_weights": SIMPLEX, "factors": POSITIVE, "bandwidth": BANDWIDTH}),
    "kde.Bounded": Kind(Bounded, {"lower": BOUND, "upper": BOUND}),
    "kde.Classes": Kind(
        kde.Classes,
        {"log_weights": SIMPLEX, "log_prior": SIMPLEX, "bandwidth": BANDWIDTHS},
    ),
    "mdn.MDN": Kind(mdn.MDN),
    "mlp.Dense": Kind(mlp.Dense),
    "mlp.Maxout": Kind(mlp.Maxout),
    "mlp.Residual": Kind(mlp.Residual),
    "mlp.Stack": Kind(mlp.Stack),
    "neuron.Neuron": Kind(neuron.Neuron),
    "perceptron.Perceptron": Kind(perceptron.Perceptron),
    "rbm.Bernoulli": Kind(rbm.Bernoulli),
    "rbm.Gaussian": Kind(rbm.Gaussian),
    "train.Standardiser": Kind(train.Standardiser, {"scale": POSITIVE}),
}


class Static(NamedTuple):
    """A part of a model that is no array: to plain JSON and back; `read` raises ValueError."""

    type: type
    write: Callable[[Any], dict[str, Any]]
    read: Callable[[dict[str, Any]], Any]


def _write_kernel(kernel: Kernel) -> dict[str, Any]:
    described = {"name": kernel.name, "form": kernel.form}
    try:
        known = _read_kernel(described)
    except ValueError:
        known = None
    if known is None or known != kernel:
        raise ValueError(f"kernel {kernel.name!r} is none of KERNELS nor student_t(nu)")
    return described


@functools.cache
def _student(name: str) -> Kernel | None:
    nu = name.removeprefix("student_t(").removesuffix(")")
    return student_t(int(nu)) if nu.isdigit() and f"student_t({nu})" == name else None


def _read_kernel(described: dict[str, Any]) -> Kernel:
    name, form = described["name"], described["form"]
    kernel = KERNELS.get(name) or _student(name)
    if kernel is None or form not in ("radial", "product"):
        raise ValueError(f"unknown kernel {name!r} of form {form!r}")
    return kernel if form == "radial" else product(kernel)


def _read_support(described: dict[str, Any]) -> Shape:
    edges, cells = described["edges"], described["cells"]
    pairs = tuple((int(low), int(high)) for low, high in cells)
    return Shape(tuple(map(str, edges)), pairs)


STATICS: dict[str, Static] = {
    "kde.Kernel": Static(Kernel, _write_kernel, _read_kernel),
    "kde.Shape": Static(Shape, lambda s: {"edges": s.edges, "cells": s.cells}, _read_support),
}
