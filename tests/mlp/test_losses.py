"""Oracles: optax, SciPy and closed forms for the values, jax.grad for the gradients."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from refusals import refused
from scipy import stats
from scipy.special import logsumexp, softmax

from jaxnn import mlp
from jaxnn.mlp import LOSSES
from jaxnn.train import Batch

N, O = 6, 4
KEYS = jax.random.split(jax.random.key(0), 3)
OUTPUTS = 3 * jax.random.normal(KEYS[0], (N, O))
LABELS = jnp.array([0, 3, 1, 2, 2, 0])
BINARY = jnp.array([0, 1, 1, 0, 1, 0])
SOFT = jax.nn.softmax(jax.random.normal(KEYS[1], (N, O)), axis=1)
UNIT = jax.random.uniform(KEYS[2], (N, O))
COUNTS = jnp.floor(6 * UNIT)


def crammer_singer(h, y, margin):
    """The lead of the best other class and the margin, as far as that is positive."""
    rows = [(row, int(label)) for row, label in zip(h, y, strict=True)]
    return np.array([max(0, margin + np.delete(row, c).max() - row[c]) for row, c in rows])


def gaussian(h, y, floor):
    scale = np.sqrt(np.exp(h[:, 2:]) + floor**2)
    return -stats.norm.logpdf(y, h[:, :2], scale).sum(1)


def smoothed(y, share):
    return (1 - share) * y + share / y.shape[1]


# Loss, targets, its value in NumPy or by another library, and how many outputs.
CASES = {
    "squared": (LOSSES["squared"], UNIT, lambda h, y: optax.squared_error(h, y).sum(1)),
    "absolute": (LOSSES["absolute"], UNIT, lambda h, y: np.abs(h - y).sum(1)),
    "huber": (LOSSES["huber"], UNIT, lambda h, y: optax.huber_loss(h, y).sum(1)),
    "huber 2.5": (
        mlp.loss("huber", delta=2.5),
        UNIT,
        lambda h, y: optax.huber_loss(h, y, delta=2.5).sum(1),
    ),
    "labels": (
        LOSSES["softmax_cross_entropy"],
        LABELS,
        optax.softmax_cross_entropy_with_integer_labels,
    ),
    "soft": (LOSSES["softmax_cross_entropy"], SOFT, optax.softmax_cross_entropy),
    "smooth": (
        mlp.loss("softmax_cross_entropy", smoothing=0.1),
        LABELS,
        lambda h, y: optax.softmax_cross_entropy(h, smoothed(np.eye(O)[y], 0.1)),
    ),
    "sigmoid": (
        LOSSES["sigmoid_cross_entropy"],
        UNIT,
        lambda h, y: optax.sigmoid_binary_cross_entropy(h, y).sum(1),
    ),
    "sigmoid smooth": (
        mlp.loss("sigmoid_cross_entropy", smoothing=0.2),
        UNIT,
        lambda h, y: optax.sigmoid_binary_cross_entropy(h, 0.8 * y + 0.1).sum(1),
    ),
    "hinge": (LOSSES["hinge"], LABELS, lambda h, y: crammer_singer(h, y, 1)),
    "hinge 4": (mlp.loss("hinge", margin=4.0), LABELS, lambda h, y: crammer_singer(h, y, 4)),
    "binary hinge": (
        LOSSES["hinge"],
        BINARY,
        lambda h, y: np.maximum(0, 1 - (2 * y - 1) * h[:, 0]),
        1,
    ),
    "poisson": (
        LOSSES["poisson"],
        COUNTS,
        lambda h, y: -stats.poisson.logpmf(y, np.exp(h)).sum(1),
    ),
    "gaussian": (LOSSES["gaussian"], UNIT[:, :2], lambda h, y: gaussian(h, y, 1e-3)),
    "gaussian 0.7": (
        mlp.loss("gaussian", floor=0.7),
        UNIT[:, :2],
        lambda h, y: gaussian(h, y, 0.7),
    ),
}


def outputs_of(case, dtype=OUTPUTS.dtype):
    return OUTPUTS[:, : CASES[case][3] if len(CASES[case]) > 3 else O].astype(dtype)


@cache
def program(case):
    """The value, the gradient by hand and that of JAX, in one program."""
    loss, targets = CASES[case][:2]
    by_jax = jax.grad(lambda h: loss.value(h, targets).sum())
    return jax.jit(lambda h: (loss.value(h, targets), loss.gradient(h, targets), by_jax(h)))


def test_every_loss_has_a_case():
    covered = {id(case[0]) for case in CASES.values()}
    assert {id(loss) for loss in LOSSES.values()} <= covered


@pytest.mark.parametrize("case", CASES)
def test_value_is_that_of_the_oracle(case):
    h = outputs_of(case)
    oracle = CASES[case][2](np.asarray(h), np.asarray(CASES[case][1]))
    np.testing.assert_allclose(program(case)(h)[0], oracle, rtol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_gradient_is_that_of_jax_and_of_differences(case):
    h = outputs_of(case)
    _, by_hand, by_jax = program(case)(h)
    np.testing.assert_allclose(by_hand, by_jax, rtol=1e-12, atol=1e-14)
    place = h.shape[1] // 2
    step = 1e-5 * (np.arange(h.shape[1]) == place)
    up, down = (np.asarray(program(case)(np.asarray(h) + s)[0]) for s in (step, -step))
    rises = up - down
    np.testing.assert_allclose(by_hand[:, place], rises / 2e-5, rtol=1e-7, atol=1e-9)


def test_at_kinks_the_derivative_is_zero_or_continuous():
    """Closed form: 0 for |e| at 0 and for a hinge just met, ±delta for Huber at delta."""
    zero = jnp.zeros((1, 2))
    met = jnp.array([[1.0, 0.0]])  # the lead is the margin
    ends = jnp.array([[1.0, -1.0]])
    cases = [("absolute", zero, zero, [0, 0]), ("hinge", met, jnp.array([0]), [0, 0]),
             ("huber", ends, zero, [1, -1])]  # fmt: skip
    for name, h, y, expected in cases:
        loss = LOSSES[name]
        by_hand, by_jax = jax.jit(
            lambda h, y=y, loss=loss: (
                loss.gradient(h, y),
                jax.grad(lambda h: loss.value(h, y).sum())(h),
            )
        )(h)
        np.testing.assert_array_equal(by_hand, [expected], err_msg=name)
        np.testing.assert_array_equal(by_jax, [expected], err_msg=name)


def test_the_hinge_of_one_output_is_that_of_two_whose_difference_it_is():
    one = OUTPUTS[:, :1]
    two = jnp.concatenate([jnp.zeros_like(one), one], axis=1)
    hinge = LOSSES["hinge"]
    found = jax.jit(lambda one, two: [hinge.value(h, BINARY) for h in (one, two)])(one, two)
    np.testing.assert_allclose(*found, rtol=1e-15)


@pytest.mark.parametrize("log_variance", [-1e4, 1e4])
def test_a_gaussian_as_sure_or_unsure_as_can_be_is_finite_in_float32(log_variance):
    h = jnp.array([[0.5, log_variance]], jnp.float32)
    y = jnp.zeros((1, 1), jnp.float32)
    loss = LOSSES["gaussian"]
    value, gradient = jax.jit(lambda h: (loss.value(h, y), loss.gradient(h, y)))(h)
    # Closed form: never more certain than the floor, never steeper in s than one half.
    scale = max(log_variance, 2 * np.log(1e-3))
    expected = (np.log(2 * np.pi) + scale + 0.25 * np.exp(-scale)) / 2
    np.testing.assert_allclose(value, [expected], rtol=1e-5)
    slope = 0.5 if log_variance > 0 else 0
    np.testing.assert_allclose(gradient, [[0.5 * np.exp(-scale), slope]], rtol=1e-5)


def test_numbers_are_traced():
    """Oracle: `optax` for each delta; one program serves all."""
    deltas, traces = jnp.array([0.3, 1.0, 4.0]), []

    @jax.jit
    def of(delta):
        traces.append(None)
        return mlp.loss("huber", delta=delta).value(OUTPUTS, UNIT)

    for delta in deltas:
        expected = optax.huber_loss(OUTPUTS, UNIT, delta=float(delta)).sum(1)
        np.testing.assert_allclose(of(delta), expected, rtol=1e-12)
    assert len(traces) == 1


@pytest.mark.parametrize("soft", [False, True])
def test_class_weights_weigh_rows(soft):
    """Oracle: the weighted mean of the losses of rows, in NumPy."""
    weight, own = np.array([0.5, 2.0, 1.0, 3.0]), np.array([1.0, 0.0, 2.0, 1.0, 0.5, 1.0])
    loss = mlp.loss("softmax_cross_entropy", class_weight=weight, smoothing=0.1)
    identity = (mlp.Dense(jnp.eye(O), None),)
    targets = SOFT if soft else LABELS
    shares = np.asarray(SOFT) if soft else np.eye(O)[np.asarray(LABELS)]
    losses = optax.softmax_cross_entropy(OUTPUTS, smoothed(shares, 0.1))
    for given in (own, None):
        batch = Batch(OUTPUTS, targets, given)
        value, gradient, by_jax = jax.jit(
            lambda p, batch=batch: (
                *mlp.value_and_grad(loss)(p, batch, None),
                jax.grad(lambda p: mlp.mean_loss(p, batch, None, loss=loss))(p),
            )
        )(identity)
        rows = shares @ weight * (1 if given is None else own)
        np.testing.assert_allclose(value, np.average(losses, weights=rows), rtol=1e-12)
        np.testing.assert_allclose(gradient[0].weight, by_jax[0].weight, rtol=1e-12)


@pytest.mark.parametrize("name", ["sigmoid_cross_entropy", "hinge"])
def test_class_weights_of_a_single_output(name):
    """Oracle: the weighted mean in NumPy."""
    loss, h = mlp.loss(name, class_weight=np.array([0.5, 2.0])), OUTPUTS[:, :1]
    targets = BINARY if name == "hinge" else BINARY[:, None].astype(float)
    batch, identity = Batch(h, targets), (mlp.Dense(jnp.eye(1), None),)
    value = jax.jit(lambda p: mlp.mean_loss(p, batch, None, loss=loss))(identity)
    margin = np.asarray((2 * BINARY - 1) * h[:, 0])
    losses = np.maximum(0, 1 - margin) if name == "hinge" else np.log1p(np.exp(-margin))
    expected = np.average(losses, weights=np.where(BINARY, 2.0, 0.5))
    np.testing.assert_allclose(value, expected, rtol=1e-12)


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


def test_a_logit_of_minus_infinity_rules_its_class_out():
    """F17.  Oracle: SciPy on the classes that are left; where the own class is out, -log 0."""
    none = -jnp.inf
    h = jnp.array([[none, 1.0, 2.0], [none, 1.0, 2.0], [none, none, none]])
    loss, y = LOSSES["softmax_cross_entropy"], jnp.array([2, 0, 1])
    value, gradient, by_jax = jax.jit(
        lambda h: (
            loss.value(h, y), loss.gradient(h, y), jax.grad(lambda h: loss.value(h, y)[0])(h)
        )
    )(h)  # fmt: skip
    np.testing.assert_allclose(value, [logsumexp([1, 2]) - 2, np.inf, np.inf], rtol=1e-12)
    p = softmax([1.0, 2.0])
    expected = [[0, p[0], p[1] - 1], [-1, *p], [0, 0, 0]]
    np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(by_jax, [expected[0], [0] * 3, [0] * 3], rtol=1e-12, atol=1e-15)


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
    loss, targets = CASES[case][:2]
    h = outputs_of(case, jnp.float32)
    targets = loss.targets("here", targets, h)
    assert jax.eval_shape(loss.value, h, targets).dtype == jnp.float32
    assert jax.eval_shape(loss.gradient, h, targets).dtype == jnp.float32


BAD_LOSSES = [
    (lambda: mlp.loss("hubert"), ValueError, "unknown loss 'hubert' .*'huber'"),
    (lambda: mlp.loss("huber", gamma=1.0), TypeError, "huber takes delta, got gamma"),
    (lambda: mlp.loss("squared", delta=1.0), TypeError, "squared takes no numbers, got delta"),
    (lambda: mlp.loss("huber", delta=0.0), ValueError, "delta must be positive and finite, got 0"),
    (lambda: mlp.loss("huber", delta=jnp.ones(2)), ValueError, r"delta must have shape \(\), got"),
    (lambda: mlp.loss("softmax_cross_entropy", smoothing=1.0), ValueError,
     r"smoothing must be in \[0, 1\), got 1"),
    (lambda: mlp.loss("softmax_cross_entropy", smoothing=-0.1), ValueError, "must be non-negative"),
    (lambda: mlp.loss("squared", class_weight=np.ones(4)), ValueError, "squared has no classes"),
    (lambda: mlp.loss("hinge", class_weight=-np.ones(4)), ValueError, "must not be negative"),
    (lambda: weighed("hinge", np.ones(3), LABELS), ValueError,
     r"class_weight must have shape \(4,\), got \(3,\)"),
    (lambda: weighed("sigmoid_cross_entropy", np.ones(2), UNIT), ValueError,
     "needs a single output, whose classes are 0 and 1, got 4"),
]  # fmt: skip


def weighed(name, weight, targets):
    loss = mlp.loss(name, class_weight=weight)
    return mlp.value_and_grad(loss)((mlp.Dense(jnp.eye(O), None),), Batch(OUTPUTS, targets), None)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(("call", "error", "message"), BAD_LOSSES)
def test_bad_losses(call, error, message):
    refused(call, error, message, "mlp.")
