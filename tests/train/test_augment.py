"""Oracles: statistics of normal and Beta draws with bands of 5 standard errors, and geometry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused
from scipy import stats

from jaxnn.train import Batch, augmentation
from jaxnn.train.augment import check

N = 4000
KEY = jax.random.key(0)
draw = np.random.default_rng(0)
X = draw.normal(size=(N, 2))
Y = np.eye(3)[draw.integers(0, 3, N)]
WEIGHT = np.where(np.arange(N) < N // 2, draw.uniform(0.5, 2, N), 0)  # the second half is filling
call = jax.jit(lambda rule, key, batch: rule(key, batch))
PLAIN = Batch(jnp.asarray(X), jnp.asarray(Y), jnp.asarray(WEIGHT))


def test_noise_is_gaussian_of_that_size_and_touches_the_inputs_alone():
    """Oracle: mean 0, variance scale², no correlation, fourth moment 3·scale⁴; bands of 5 SE."""
    found = call(augmentation("noise", scale=0.3), KEY, PLAIN)
    noise = (np.asarray(found.x) - X) / 0.3
    flat = noise.ravel()
    m = flat.size
    assert abs(flat.mean()) < 5 / np.sqrt(m)
    assert abs((flat**2).mean() - 1) < 5 * np.sqrt(2 / m)
    assert abs((flat**4).mean() - 3) < 5 * np.sqrt(96 / m)
    assert abs((noise[:, 0] * noise[:, 1]).mean()) < 5 / np.sqrt(N)
    np.testing.assert_array_equal(found.y, Y)
    np.testing.assert_array_equal(found.weight, WEIGHT)
    np.testing.assert_array_equal(call(augmentation("noise", scale=0.0), KEY, PLAIN).x, X)


def test_arrays_of_one_batch_have_noise_of_their_own():
    """Invariant: two equal inputs no longer are."""
    x = {"a": jnp.ones(5), "b": jnp.ones(5)}
    found = augmentation("noise", scale=1.0)(KEY, Batch(x)).x
    assert not np.any(found["a"] == found["b"])


@pytest.fixture(scope="module")
def mixed():
    """What mixup made, and each row's partner and share, which the targets give away."""
    tags = jnp.asarray(np.arange(N, dtype=float))
    y = {"one": jnp.ones(N), "tag": tags, "square": tags**2, "hot": jnp.asarray(Y)}
    found = call(augmentation("mixup", alpha=0.4), KEY, PLAIN._replace(y=y))
    # λi + (1-λ)j = a and λi² + (1-λ)j² = b give j - a = (b - a²)/(a - i).
    i, a, b = np.arange(N), np.asarray(found.y["tag"]), np.asarray(found.y["square"])
    apart = np.abs(a - i) > 1e-6
    partner = np.rint(np.where(apart, a + (b - a**2) / np.where(apart, a - i, 1), i)).astype(int)
    known = apart & (partner != i)
    share = np.where(known, (a - partner) / np.where(known, i - partner, 1), 1)
    return found, partner[known], share[known], known


def test_mixup_draws_a_line_between_two_rows_and_their_targets(mixed):
    """Oracle: share·row + (1-share)·partner, of inputs and targets alike."""
    found, partner, share, known = mixed
    assert known.mean() > 0.9
    line = lambda a: share[:, None] * a[known] + (1 - share[:, None]) * a[partner]
    np.testing.assert_allclose(found.x[known], line(X), atol=1e-6)
    np.testing.assert_allclose(found.y["hot"][known], line(Y), atol=1e-6)
    np.testing.assert_allclose(np.sum(found.y["hot"], axis=1), 1, rtol=1e-12)
    np.testing.assert_array_equal(found.weight, WEIGHT)


def test_shares_are_beta_distributed(mixed):
    """Oracle: Kolmogorov's distance to Beta(0.4, 0.4) away from its ends, at the level of 5 SE."""
    inner = mixed[2][(mixed[2] > 0.01) & (mixed[2] < 0.99)]
    beta = stats.beta(0.4, 0.4)
    low, high = beta.cdf([0.01, 0.99])
    assert stats.kstest(inner, lambda s: (beta.cdf(s) - low) / (high - low)).pvalue > 5.7e-7


def test_partners_are_drawn_by_weight_and_never_from_the_filling(mixed):
    """Oracle: the weighted share of rows whose weight is above 1, in a band of 5 SE."""
    partner = mixed[1]
    assert np.all(WEIGHT[partner] > 0)
    expected = WEIGHT[WEIGHT > 1].sum() / WEIGHT.sum()
    band = 5 * np.sqrt(expected * (1 - expected) / len(partner))
    assert abs(np.mean(WEIGHT[partner] > 1) - expected) < band


def test_without_alpha_rows_stay_and_without_weights_they_count_alike():
    """Invariants: alpha 0 changes nothing, also traced; no weight, or none above 0, is no NaN."""
    found = call(augmentation("mixup", alpha=0.0), KEY, PLAIN)
    np.testing.assert_array_equal(found.x, X)
    np.testing.assert_array_equal(found.y, Y)
    rule = augmentation("mixup", alpha=0.4)
    for weight in (None, jnp.zeros(N)):
        assert np.all(np.isfinite(call(rule, KEY, PLAIN._replace(weight=weight)).x))


def test_numbers_are_data_and_float32_stays_float32():
    """Invariant: another scale, from Python or from arrays, compiles no further program."""
    single = Batch(jnp.ones((3, 2), jnp.float32), jnp.ones(3, jnp.float32), None)
    for name, number in (("noise", "scale"), ("mixup", "alpha")):
        found = jax.eval_shape(augmentation(name, **{number: jnp.float64(0.2)}), KEY, single)
        assert found.x.dtype == found.y.dtype == jnp.float32
    before = call._cache_size()
    call(augmentation("noise", scale=0.7), KEY, PLAIN)
    assert call._cache_size() == before


BAD = {
    "unknown": (lambda: augmentation("mixupp", alpha=1.0), ValueError, "'mixupp' .*mean 'mixup'"),
    "scale": (lambda: augmentation("noise", scale=-1.0), ValueError, "scale must be non-neg.*-1.0"),
    "alpha": (lambda: augmentation("mixup", alpha=np.nan), ValueError, "alpha must be.*got nan"),
    "missing": (lambda: augmentation("mixup"), TypeError, "mixup does not take.*missing.*'alpha'"),
    "other": (lambda: augmentation("noise", alpha=1.0), TypeError, "noise does not take.*'alpha'"),
    "labels": (lambda: check("train.fit", augmentation("mixup", alpha=1.0),
                             Batch(PLAIN.x, jnp.ones(N, int))), TypeError,
               "batch.y must hold floating-point numbers.*got int64; labels as jax.nn.one_hot"),
    "whole": (lambda: check("train.fit", augmentation("noise", scale=1.0),
                            Batch({"a": jnp.ones(N, int)})), TypeError, r"batch.x\['a'\] must"),
}  # fmt: skip


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_message(case):
    """Oracle: the message names the number or the array and what was given."""
    call, error, message = BAD[case]
    refused(call, error, message, ("train.augmentation: ", "train.fit: "))


def test_what_fits_passes_the_check():
    """Invariant: labels may be whole where only the inputs change."""
    check("train.fit", augmentation("noise", scale=1.0), Batch(PLAIN.x, jnp.ones(N, int)))
    check("train.fit", augmentation("mixup", alpha=1.0), PLAIN)
