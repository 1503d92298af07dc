"""Oracles: SciPy's entropies, NumPy's moments, and loops of `mlp.apply`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from scipy.special import softmax
from scipy.stats import entropy

from jaxnn import mlp

rng = np.random.default_rng(0)
M, N, D, O = 3, 5, 2, 4
X = rng.normal(size=(N, D))
KEY = jax.random.key(0)
NETS = jax.vmap(lambda k: mlp.init(k, (D, 6, O), dtype=jnp.float64))(jax.random.split(KEY, M))
NET = jax.tree.map(lambda leaf: leaf[0], NETS)
OUTPUTS = 2 * rng.normal(size=(M, N, O))


def test_outputs_of_an_ensemble_are_those_of_its_members():
    found = mlp.ensemble_outputs(NETS, X, activation="tanh", keep_prob=0.5, convention="classic")
    for j in range(M):
        member = jax.tree.map(lambda leaf, j=j: leaf[j], NETS)
        alone = mlp.apply(member, X, activation="tanh", keep_prob=0.5, convention="classic")
        np.testing.assert_allclose(found[j], alone, rtol=1e-12)


def test_outputs_under_dropout_are_those_of_each_key():
    found = mlp.dropout_outputs(KEY, NET, X, M, keep_prob=0.6, output_activation="tanh")
    for j, key in enumerate(jax.random.split(KEY, M)):
        alone = mlp.apply(NET, X, keep_prob=0.6, key=key, output_activation="tanh")
        np.testing.assert_allclose(found[j], alone, rtol=1e-12)
    assert not np.allclose(found[0], found[1])


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_classes(temperature):
    found = jax.jit(lambda h, t: mlp.class_uncertainty(h, temperature=t))(OUTPUTS, temperature)
    each = softmax(OUTPUTS / temperature, axis=2)
    np.testing.assert_allclose(found.probabilities, each.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.entropy, entropy(each.mean(0), axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.expected_entropy, entropy(each, axis=2).mean(0), rtol=1e-12)
    # The mean divergence of members from their mean (Houlsby et al., 2011).
    divergence = entropy(each, np.broadcast_to(each.mean(0), each.shape), axis=2).mean(0)
    np.testing.assert_allclose(found.mutual_information, divergence, rtol=1e-10)


classes = jax.jit(mlp.class_uncertainty)


def test_members_that_agree_know_and_members_that_are_sure_and_differ_do_not():
    """Closed forms: no information; log 2 of it, in float32, where probabilities are 0 and 1."""
    same = classes(np.repeat(OUTPUTS[:1], M, axis=0))
    np.testing.assert_allclose(same.mutual_information, np.zeros(N), atol=1e-14)
    sure = np.array([[[200.0, 0.0]], [[0.0, 200.0]]], np.float32)
    apart = classes(sure)
    np.testing.assert_allclose(apart.mutual_information, [np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(apart.expected_entropy, [0], atol=1e-6)
    one = classes(np.array([[[-200.0]], [[200.0]]], np.float32))
    np.testing.assert_allclose(one.probabilities, [[0.5, 0.5]])


def test_values_by_the_law_of_total_variance():
    """Oracle: the variance of draws from all members, as a population of 2 points a member."""
    variances = rng.uniform(size=(M, N, O))
    found = mlp.value_uncertainty(OUTPUTS, variances)
    points = np.concatenate([OUTPUTS - np.sqrt(variances), OUTPUTS + np.sqrt(variances)])
    np.testing.assert_allclose(found.mean, points.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.noise + found.spread, points.var(0), rtol=1e-12)
    np.testing.assert_allclose(found.spread, OUTPUTS.var(0), rtol=1e-12)
    assert not np.any(mlp.value_uncertainty(OUTPUTS).noise)


BAD = {
    "one member": (lambda: mlp.ensemble_outputs((mlp.Dense(NETS[0].weight, None), NET[1]), X),
                   ValueError, "params must have the same leading axis"),
    "members": (lambda: mlp.dropout_outputs(KEY, NET, X, 0, keep_prob=0.5), ValueError,
                "members must be at least 1"),
    "keep": (lambda: mlp.dropout_outputs(KEY, NET, X, 2, keep_prob=1.7), ValueError, "keep_prob"),
    "key": (lambda: mlp.dropout_outputs(3, NET, X, 2, keep_prob=0.5), TypeError, "key must be"),
    "no key": (lambda: mlp.dropout_outputs(None, NET, X, 2, keep_prob=0.5), TypeError,
               "key must be a PRNG key"),
    "shape": (lambda: mlp.class_uncertainty(OUTPUTS[0]), ValueError, "logits must have shape"),
    "empty": (lambda: mlp.class_uncertainty(OUTPUTS[:0]), ValueError, "must not be empty"),
    "nan": (lambda: mlp.class_uncertainty(OUTPUTS * np.nan), ValueError, "logits must be finite"),
    "cold": (lambda: mlp.class_uncertainty(OUTPUTS, temperature=-1.0), ValueError, "positive"),
    "below": (lambda: mlp.value_uncertainty(OUTPUTS, -np.abs(OUTPUTS)), ValueError,
              "variances must be non-negative"),
    "apart": (lambda: mlp.value_uncertainty(OUTPUTS, OUTPUTS[:2] ** 2), ValueError,
              r"variances must have shape \(3, 5, 4\)"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    refused(*BAD[case], "mlp.")
