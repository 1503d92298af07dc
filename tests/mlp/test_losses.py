"""Oracles: optax and closed forms for the values, jax.grad for the gradients."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn.mlp import LOSSES

N, O = 6, 4
KEYS = jax.random.split(jax.random.key(0), 3)
OUTPUTS = 3 * jax.random.normal(KEYS[0], (N, O))
LABELS = jnp.array([0, 3, 1, 2, 2, 0])
SOFT = jax.nn.softmax(jax.random.normal(KEYS[1], (N, O)), axis=1)
UNIT = jax.random.uniform(KEYS[2], (N, O))

CASES = {
    "squared": (LOSSES["squared"], UNIT, lambda h, y: optax.squared_error(h, y).sum(1)),
    "labels": (
        LOSSES["softmax_cross_entropy"],
        LABELS,
        optax.softmax_cross_entropy_with_integer_labels,
    ),
    "soft": (LOSSES["softmax_cross_entropy"], SOFT, optax.softmax_cross_entropy),
    "sigmoid": (
        LOSSES["sigmoid_cross_entropy"],
        UNIT,
        lambda h, y: optax.sigmoid_binary_cross_entropy(h, y).sum(1),
    ),
}


@cache
def program(case):
    """The value, the gradient by hand, that of JAX and the value of the oracle, in one program."""
    loss, targets, oracle = CASES[case]
    by_jax = jax.grad(lambda h: loss.value(h, targets).sum())
    return jax.jit(
        lambda h: (loss.value(h, targets), loss.gradient(h, targets), by_jax(h), oracle(h, targets))
    )


def test_every_loss_has_a_case():
    assert {id(case[0]) for case in CASES.values()} == {id(loss) for loss in LOSSES.values()}


@pytest.mark.parametrize("case", CASES)
def test_value_is_that_of_optax(case):
    value, _, _, oracle = program(case)(OUTPUTS)
    np.testing.assert_allclose(value, oracle, rtol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_gradient_is_that_of_jax_and_of_differences(case):
    _, by_hand, by_jax, _ = program(case)(OUTPUTS)
    np.testing.assert_allclose(by_hand, by_jax, rtol=1e-12, atol=1e-14)
    step = 1e-5 * (np.arange(O) == 2)
    up, down = (np.asarray(program(case)(np.asarray(OUTPUTS) + s)[0]) for s in (step, -step))
    rises = up - down
    np.testing.assert_allclose(by_hand[:, 2], rises / 2e-5, rtol=1e-7, atol=1e-9)


def test_labels_and_one_hot_rows_are_the_same_targets():
    loss = LOSSES["softmax_cross_entropy"]
    hot = jax.nn.one_hot(LABELS, O, dtype=OUTPUTS.dtype)
    np.testing.assert_array_equal(loss.value(OUTPUTS, LABELS), loss.value(OUTPUTS, hot))
    np.testing.assert_array_equal(loss.gradient(OUTPUTS, LABELS), loss.gradient(OUTPUTS, hot))


@pytest.mark.parametrize("name", ["softmax_cross_entropy", "sigmoid_cross_entropy"])
@pytest.mark.parametrize("size", [1e4, 1e38])
def test_entropies_of_huge_logits_are_finite(name, size):
    logits = jnp.array([[size, -size], [-size, size], [-size, size]], jnp.float32)
    targets = jnp.array([[1, 0], [1, 0], [0.5, 0.5]], jnp.float32)
    loss = LOSSES[name]
    by_jax = jax.grad(lambda h: loss.value(h, targets).sum())
    value, gradient, by_jax = jax.jit(
        lambda h: (loss.value(h, targets), loss.gradient(h, targets), by_jax(h))
    )(logits)
    # The first row is right, without loss; the second is as wrong as it can be; F16, F18.
    np.testing.assert_allclose(value, np.array([0, 2, 1], np.float32) * size, rtol=1e-6)
    np.testing.assert_allclose(gradient, [[0, 0], [-1, 1], [-0.5, 0.5]], atol=1e-7)
    np.testing.assert_allclose(by_jax, gradient, atol=1e-6)


def test_the_loss_of_a_sure_and_right_answer_survives_float32():
    sure = jnp.array([[30.0]], jnp.float32)
    value = LOSSES["sigmoid_cross_entropy"].value(sure, jnp.ones_like(sure))
    assert float(value[0]) == pytest.approx(np.exp(-30), rel=1e-5)


@pytest.mark.parametrize("label", [-1, O, 99])
def test_a_label_that_is_no_class_is_nan_under_jit_and_never_another_class(label):
    loss = LOSSES["softmax_cross_entropy"]
    targets = LABELS.at[2].set(label)
    lost = jnp.isnan(jax.jit(loss.value)(OUTPUTS, targets))
    assert lost.tolist() == [False, False, True, False, False, False]
    rows = jnp.isnan(jax.jit(loss.gradient)(OUTPUTS, targets)).all(axis=1)
    assert rows.tolist() == lost.tolist()


@pytest.mark.parametrize("case", CASES)
def test_float32_stays_float32(case):
    loss, targets, _ = CASES[case]
    h = OUTPUTS.astype(jnp.float32)
    targets = loss.targets("here", targets, h)
    assert jax.eval_shape(loss.value, h, targets).dtype == jnp.float32
    assert jax.eval_shape(loss.gradient, h, targets).dtype == jnp.float32


BAD = [
    ("squared", UNIT[:, 0], ValueError, r"y must have shape \(6, 4\), got \(6,\)"),
    ("squared", UNIT[:5], ValueError, r"y must have shape \(6, 4\), got \(5, 4\)"),
    ("squared", UNIT[:, :1], ValueError, r"y must have shape \(6, 4\), got \(6, 1\)"),
    ("squared", UNIT.at[1, 2].set(jnp.nan), ValueError, r"y must be finite, got nan at .* 1, 2"),
    ("squared", LABELS, TypeError, "y must hold floating-point numbers, got int64"),
    ("squared", "abc", TypeError, "y must be an array of floating-point numbers"),
    ("softmax_cross_entropy", LABELS.at[0].set(-1), ValueError, r"y must lie in \[0, 4\).* -1 to"),
    ("softmax_cross_entropy", LABELS.at[0].set(4), ValueError, r"y must lie in \[0, 4\).* to 4"),
    ("softmax_cross_entropy", 1.0 * LABELS, TypeError, "y must hold whole numbers, got float64"),
    ("softmax_cross_entropy", LABELS == 1, TypeError, "y must hold whole numbers, got bool"),
    ("softmax_cross_entropy", LABELS[:5], ValueError, r"y must have shape \(6,\), got \(5,\)"),
    ("softmax_cross_entropy", LABELS[:, None], ValueError, r"y must have shape \(6,\), got \(6, 1"),
    ("softmax_cross_entropy", SOFT[:, :3], ValueError, r"y must have shape \(6, 4\), got \(6, 3\)"),
    ("softmax_cross_entropy", SOFT / 2, ValueError, "every row of y must sum to one, got 0.5"),
    ("softmax_cross_entropy", -SOFT, ValueError, r"y must lie in \[0, 1\]"),
    ("sigmoid_cross_entropy", UNIT + 1, ValueError, r"y must lie in \[0, 1\], got values from 1"),
    ("sigmoid_cross_entropy", UNIT[:, 0], ValueError, r"y must have shape \(6, 4\), got \(6,\)"),
]


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(("name", "targets", "error", "message"), BAD)
def test_bad_targets(name, targets, error, message):
    with pytest.raises(error, match="here: " + message):
        LOSSES[name].targets("here", targets, OUTPUTS)


@pytest.mark.parametrize("case", ["soft", "sigmoid", "labels"])
def test_targets_closed_over_are_checked_under_jit_too(case):
    loss, targets, _ = CASES[case]
    jax.jit(lambda h: loss.value(h, loss.targets("here", targets, h)))(OUTPUTS)
    below = targets - 1
    with pytest.raises(ValueError, match="here: y must lie in"):
        jax.jit(lambda h: loss.targets("here", below, h))(OUTPUTS)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("name", LOSSES)
def test_shapes_of_targets_are_checked_under_jit(name):
    with pytest.raises(ValueError, match=r"here: y must have shape \(6"):
        jax.jit(lambda h: LOSSES[name].targets("here", h[:5], h))(OUTPUTS)
