"""What losses take and what they refuse; cases have the names of the catalogue of bad inputs.

Oracles: scikit-learn for balanced weights, closed forms, and finite numbers where there is no more
to say.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from sklearn.utils.class_weight import compute_class_weight

from jaxnn import mlp, train

N, O = 6, 4
OUTPUTS = 3 * jax.random.normal(jax.random.key(0), (N, O))
LABELS = jnp.array([0, 3, 1, 2, 2, 0])
SOFT = jax.nn.softmax(jax.random.normal(jax.random.key(1), (N, O)), axis=1)
UNIT = jax.random.uniform(jax.random.key(2), (N, O))
NAMES = np.array(["cat", "dog", "eel", "dog", "cat", "fox"])

SOFTMAX, SIGMOID = "softmax_cross_entropy", "sigmoid_cross_entropy"
BAD = {
    "F7 -1": (SOFTMAX, LABELS.at[0].set(-1), ValueError, r"y must lie in \[0, 4\).* -1 to"),
    "F7 -1 hinge": ("hinge", LABELS.at[0].set(-1), ValueError, r"y must lie in \[0, 4\).* -1 to"),
    "F8 too large": (SOFTMAX, LABELS.at[0].set(4), ValueError, r"y must lie in \[0, 4\).* to 4"),
    "F9 floats": (SOFTMAX, 1.0 * LABELS, TypeError,
                  r"whole numbers, got float64; y.astype\(int\) makes labels"),
    "F9 bool": (SOFTMAX, LABELS == 1, TypeError, "y must hold whole numbers, got bool"),
    "F9 none": (SOFTMAX, None, TypeError, "y must hold whole numbers, got NoneType"),
    "F10 sums": (SOFTMAX, SOFT.at[2].multiply(0.5), ValueError,
                 r"every row of y must sum to one, got 0.5\d* in row 2; divide"),
    "F10 negative": (SOFTMAX, -SOFT, ValueError, r"y must lie in \[0, 1\], got values from -"),
    "F10 width": (SOFTMAX, SOFT[:, :3], ValueError, r"y must have shape \(6, 4\), got \(6, 3\)"),
    "F10 unit": (SIGMOID, UNIT + 1, ValueError, r"y must lie in \[0, 1\], got values from 1"),
    "F13 labels": (SOFTMAX, LABELS[:5], ValueError, r"y must have shape \(6,\), got \(5,\)"),
    "F13 column": (SOFTMAX, LABELS[:, None], ValueError, r"must have shape \(6,\), got \(6, 1"),
    "F13 real": ("squared", UNIT[:5], ValueError, r"y must have shape \(6, 4\), got \(5, 4\)"),
    "F13 1-D": ("squared", UNIT[:, 0], ValueError, r"y must have shape \(6, 4\), got \(6,\)"),
    "F13 unit": (SIGMOID, UNIT[:, 0], ValueError, r"y must have shape \(6, 4\), got \(6,\)"),
    "F13 half": ("gaussian", UNIT, ValueError, r"y must have shape \(6, 2\), got \(6, 4\)"),
    **{f"F14 NaN {loss}": (loss, UNIT.at[1, 1].set(jnp.nan)[:, : 2 if loss == "gaussian" else O],
                           ValueError, r"y must be .*finite, got nan at .*1, 1")
       for loss in ("squared", "absolute", "huber", "poisson", "gaussian")},
    "F14 real": ("squared", LABELS, TypeError, "y must hold floating-point numbers, got int64"),
    "F14 negative": ("poisson", -UNIT, ValueError, "y must be non-negative and finite, got -"),
    "F15 strings": (SOFTMAX, NAMES, TypeError, r"got <U3; encode .* numpy.unique\(y, return_inv"),
    "F15 objects": ("hinge", NAMES.astype(object), TypeError, "got object; encode names"),
    "F15 list": (SOFTMAX, NAMES.tolist(), TypeError, "got list; encode names"),
    "F15 real": ("squared", NAMES, TypeError, "must be an array of floating-point numbers"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_targets(case):
    name, targets, error, message = BAD[case]
    refused(lambda: mlp.LOSSES[name].targets("here", targets, OUTPUTS), error, message, "here: y"
            if "every row" not in message else "here: every row of y")  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("name", "width", "message"),
    [("gaussian", 3, "outputs must come in pairs, means first, got 3"),
     (SOFTMAX, 1, "outputs must be one for each class, got 1; sigmoid_cross_entropy")],
)  # fmt: skip
def test_outputs_that_do_not_fit_a_loss(name, width, message):
    y = jnp.array([0, 1, 1, 0, 1, 0])
    refused(lambda: mlp.LOSSES[name].targets("here", y, OUTPUTS[:, :width]), ValueError, message,
            "here: outputs")  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
def test_lengths_that_differ_are_named_where_a_network_is_trained():
    """F13 at the trainer's door."""
    batch = train.Batch(OUTPUTS, LABELS[:5])
    refused(lambda: fit(batch), ValueError, r"batch.x \(6, 4\), batch.y \(5,\)", "train.fit")


def test_counts_may_be_integers():
    counts = mlp.LOSSES["poisson"].targets("here", jnp.arange(24).reshape(N, O), OUTPUTS)
    assert counts.dtype == OUTPUTS.dtype


def fit(batch, **options):
    params = mlp.init(jax.random.key(3), (O, O), dtype=jnp.float64)
    descend = mlp.value_and_grad(SOFTMAX)
    return train.fit(jax.random.key(4), params, batch, descend, epochs=3, **options)


def test_a_single_class_is_learned_and_one_that_was_never_seen_is_scored():
    """F11 and F12: legal, and every number of the history is finite."""
    one = jnp.zeros_like(LABELS)
    weight = mlp.balanced(one, O)[one]
    run = fit(train.Batch(OUTPUTS, one, weight), validation=train.Batch(OUTPUTS + 0.1, LABELS))
    assert bool(jnp.isfinite(run.history.loss).all())
    assert bool(jnp.isfinite(run.history.validation).all())
    assert run.history.loss[2] < run.history.loss[0]
    assert not bool(run.diverged)


@pytest.mark.parametrize("label", [-1, O, 99])
def test_a_label_that_is_no_class_is_nan_under_jit_and_never_another_class(label):
    """F7 and F8 where the values cannot be seen."""
    targets = LABELS.at[2].set(label)
    for name in (SOFTMAX, "hinge"):
        loss = mlp.LOSSES[name]
        value, gradient = jax.jit(lambda h, y, loss=loss: (loss.value(h, y), loss.gradient(h, y)))(
            OUTPUTS, targets
        )
        assert jnp.isnan(value).tolist() == [False, False, True, False, False, False]
        assert jnp.isnan(gradient).any(axis=1).tolist() == jnp.isnan(value).tolist()


@pytest.mark.parametrize("case", [SOFTMAX, SIGMOID, "labels"])
def test_targets_closed_over_are_checked_under_jit_too(case):
    loss = mlp.LOSSES[SIGMOID if case == SIGMOID else SOFTMAX]
    below = {SOFTMAX: SOFT, SIGMOID: UNIT, "labels": LABELS}[case] - 1
    with pytest.raises(ValueError, match="here: y must lie in"):
        jax.jit(lambda h: loss.targets("here", below, h))(OUTPUTS)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("name", mlp.LOSSES)
def test_shapes_and_dtypes_of_targets_are_checked_under_jit(name):
    with pytest.raises((ValueError, TypeError), match="here: y must"):
        jax.eval_shape(lambda h: mlp.LOSSES[name].targets("here", h[:5], h), OUTPUTS)


def test_balanced_weights_are_those_of_scikit_learn():
    weight = np.array([1.0, 2.0, 1.0, 3.0, 1.0, 2.0])
    expected = compute_class_weight("balanced", classes=np.arange(O), y=np.asarray(LABELS))
    np.testing.assert_allclose(mlp.balanced(LABELS, O), expected, rtol=1e-12)
    expected = compute_class_weight(
        "balanced", classes=np.arange(O), y=np.asarray(LABELS), sample_weight=weight
    )
    np.testing.assert_allclose(mlp.balanced(LABELS, O, sample_weight=weight), expected, rtol=1e-12)


def test_a_class_without_rows_weighs_one_and_the_mean_row_does_too():
    """F11, F12: closed form."""
    y = jnp.array([0, 0, 0, 2])
    weight = mlp.balanced(y, 4)
    np.testing.assert_allclose(weight, [2 / 3, 1, 2, 1], rtol=1e-12)
    np.testing.assert_allclose(weight[y].mean(), 1, rtol=1e-12)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: mlp.balanced(LABELS, 3), ValueError, r"y must lie in \[0, 3\)"),
        (lambda: mlp.balanced(SOFT, O), ValueError, r"y must have shape \(any,\)"),
        (lambda: mlp.balanced(LABELS, 0), ValueError, "n_classes must be at least 1"),
        (lambda: mlp.balanced(LABELS, O, sample_weight=np.zeros(N)), ValueError, "zero every"),
    ],
)
def test_bad_input_of_balanced(call, error, message):
    refused(call, error, message, "mlp.balanced: ")
