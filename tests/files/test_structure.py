"""Models as JSON and named arrays: every class of the library, and what is refused."""

import json
import re
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import gmm, kde, mdn, mlp, perceptron, rbm, train
from jaxnn.files import structure
from jaxnn.files.kinds import KINDS

X = np.random.default_rng(0).normal(size=(30, 2))
KEY = jax.random.key(0)


def mixture(family, k=3):
    return gmm.init(KEY, jnp.asarray(X), k, family=family)


def belief():
    prior = gmm.bayes_prior(X, 3, concentration=0.5)
    return gmm.fit_bayes(mixture("diag"), X, prior=prior, max_steps=1).posterior


MODELS = {
    **{f"gmm {family}": (lambda f=family: mixture(f)) for family in gmm.COVARIANCES},
    "gmm factors": lambda: mixture(gmm.factors(1)),
    "belief": belief,
    "kde": lambda: kde.fit(X),
    "kde matrix": lambda: kde.fit(X, bandwidth=np.array([[0.5, 0.1], [0.1, 0.4]])),
    "kde product": lambda: kde.fit(
        X, bandwidth=np.array([0.5, 0.3]), kernel="epanechnikov", form="product"
    ),
    "kde student": lambda: kde.fit(X, kernel=kde.student_t(5), bandwidth=0.5),
    "kde adaptive": lambda: kde.fit(X, bandwidth=0.4, factors=np.linspace(0.5, 1.5, 30)),
    "kde bounded": lambda: kde.bounded.fit(X, lower=-5.0, bandwidth=0.3),
    "classes": lambda: kde.class_conditional(X, np.arange(30) % 2, 2, bandwidth=0.5),
    "mlp": lambda: mlp.init(KEY, (2, 3, 1)),
    "mlp no bias": lambda: mlp.init(KEY, (2, 3, 1), bias=False, dtype=jnp.float64),
    "mlp stacked": lambda: mlp.init(KEY, (2, 3, 3, 3, 1), residual=True, stacked=True),
    "maxout": lambda: mlp.init(KEY, (2, 3, 1), activation="identity", pieces=2),
    "mdn": lambda: mdn.init(KEY, mixture("full"), 2, (3,)),
    "perceptron": lambda: perceptron.Perceptron(jnp.ones((1, 2)), None),
    "dbn": lambda: tuple(
        kind(jnp.ones((2, 2)), jnp.zeros(2), jnp.zeros(2)) for kind in rbm.VISIBLE.values()
    ),
    "dict": lambda: {"scale": train.Standardiser.of(X), "net": mlp.init(KEY, (2, 1))},
    "array": lambda: jnp.arange(6.0).reshape(2, 3),
}


def through_json(model):
    described, arrays = structure.take_apart("f", "model", model)
    described = json.loads(json.dumps(described))
    assert sorted(structure.names("f", described)) == sorted(arrays)
    return structure.put_together("f", described, arrays)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_comes_back_as_it_was(name):
    model = MODELS[name]()
    structure.check("f", "model", model)
    back = through_json(model)
    assert jax.tree.structure(back) == jax.tree.structure(model)  # static parts, too
    for a, b in zip(jax.tree.leaves(model), jax.tree.leaves(back), strict=True):
        assert a is b or (a.dtype == b.dtype and np.array_equal(a, b))


def test_every_class_that_holds_parameters_can_be_saved():
    """Oracle: the tables of the library, of which a new entry must come here, too."""
    covs = {type(mixture(family).cov) for family in gmm.COVARIANCES}
    layers = set(typing.get_args(mlp.Layer))
    assert covs | layers | set(rbm.VISIBLE.values()) <= {kind.type for kind in KINDS.values()}


@pytest.mark.parametrize("name", ["gmm full", "gmm EEV", "kde matrix", "classes"])
def test_a_batch_is_a_model_with_a_leading_axis(name):
    model = jax.tree.map(lambda a: jnp.stack([a, a]), MODELS[name]())
    structure.check("f", "model", model)
    broken = model._replace(log_weights=model.log_weights[:1])
    with pytest.raises(ValueError, match="must have shape"):
        structure.check("f", "model", broken)


def wrong():
    """Models that are none, and what is said of each."""
    mix, line, turned = mixture("full"), kde.fit(X, bandwidth=np.array([0.3, 0.4])), mixture("EEV")
    short = (mlp.Dense(jnp.ones((2, 3)), jnp.ones(3)),)
    return {
        "K31 nan": (mix._replace(means=mix.means * np.nan), "model.means must be finite"),
        "K32 not positive definite": (
            mix._replace(cov=gmm.Full(-mix.cov.scale_tril)),
            "model.cov.scale_tril must be lower triangular with a positive diagonal"),
        "upper part": (
            mix._replace(cov=gmm.Full(mix.cov.scale_tril + 1)), "must be lower triangular"),
        "K33 weights": (
            mix._replace(log_weights=mix.log_weights + 0.1),
            "model.log_weights must be logs of weights that sum to one"),
        "shape": (
            mix._replace(means=mix.means[:2]), "model.means must have shape (3, d), got (2, 2)"),
        "scale": (
            mixture("diag")._replace(cov=gmm.Diag(0 * mix.means)), "model.cov.scale must be pos"),
        "turn": (
            turned._replace(cov=turned.cov._replace(orientation=jnp.ones((3, 2, 2)))),
            "model.cov.orientation must be orthogonal"),
        "bandwidth": (line._replace(bandwidth=-line.bandwidth), "model.bandwidth must be positive"),
        "matrix": (
            line._replace(bandwidth=jnp.array([[1.0, 2.0], [2.0, 1.0]])),
            "a positive definite matrix"),
        "layer": (short, "model[0].bias must have shape (2,)"),
        "layer inside": (
            MODELS["mdn"]()._replace(layers=short), "model.layers[0].bias must have shape (2,)"),
        "in a dict": ({"a": jnp.array([np.inf])}, "model['a'] must be finite"),
    }  # fmt: skip


def test_numbers_that_are_no_models_are_refused():
    for model, message in wrong().values():
        with pytest.raises(ValueError, match=re.escape(message)):
            structure.check("f", "model", model)


def test_what_cannot_be_saved_is_named():
    with pytest.raises(TypeError, match=r"net.*must be a model of jaxnn, an array, .* got list"):
        structure.take_apart("f", "model", {"net": [1]})
    with pytest.raises(TypeError, match="must not be traced"):
        jax.jit(lambda x: structure.take_apart("f", "model", x))(jnp.ones(2))
    own = kde.fit(X)
    mine = own._replace(kernel=kde.Kernel(**{**vars(own.kernel), "name": "mine"}))
    with pytest.raises(TypeError, match="kernel 'mine' is none of KERNELS"):
        structure.take_apart("f", "model", mine)
    with jax.enable_x64(False), pytest.raises(TypeError, match="float64, which needs x64"):
        structure.take_apart("f", "model", np.ones(2))


@pytest.mark.parametrize(
    "node",
    [
        {"kind": "gmm.GMM", "fields": {}},
        {"kind": "os.system", "fields": {}},
        {"kind": "mlp.Dense", "fields": {"weight": "array", "bias": "array", "more": "array"}},
        {"static": "kde.Nothing", "value": {}},
        {"tuple": "array"},
        {"dict": []},
        {"tuple": [], "dict": {}},
        [],
        1,
        {},
        "arrays",
    ],
    ids=str,
)
def test_structures_that_are_none_are_refused(node):
    with pytest.raises(ValueError, match=r"structure of the model|unknown kind"):
        structure.names("f", node)


def test_endless_structures_are_refused():
    node = "array"
    for _ in range(50):
        node = {"tuple": [node]}
    with pytest.raises(ValueError, match="not understood"):
        structure.names("f", node)


@pytest.mark.parametrize(
    ("name", "form"),
    [("none", "radial"), ("gaussian", "cubic"), ("student_t(0)", "radial"), (3, "radial")],
)
def test_static_parts_that_are_none_are_refused(name, form):
    node = {"kind": "kde.KDE", "fields": dict.fromkeys(kde.KDE._fields, "array")}
    node["fields"]["kernel"] = {"static": "kde.Kernel", "value": {"name": name, "form": form}}
    arrays = dict.fromkeys(structure.names("f", node), jnp.ones(1))
    with pytest.raises(ValueError, match=r"kernel is no kde\.Kernel"):
        structure.put_together("f", node, arrays)
