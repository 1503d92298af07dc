"""Bad input to the doors of the density; the names are the cases of the project's list."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import kde

GOOD = jnp.ones((3, 2)) * jnp.arange(3.0)[:, None]
MODEL = kde.fit(GOOD, bandwidth=1.0)
KEY = jax.random.key(0)
BAD = {
    "A1": (lambda: kde.fit(GOOD.at[1, 0].set(jnp.nan)), ValueError, r"fit: x must be finite.*1, 0"),
    "A2": (lambda: kde.fit(GOOD.at[1, 0].set(jnp.inf)), ValueError, "fit: x must be finite"),
    "A6": (lambda: kde.fit(None), TypeError, "fit: x must be an array"),
    "A7": (lambda: kde.fit([[1.0], [1.0, 2.0]]), TypeError, "fit: x must be an array"),
    "A8": (lambda: kde.fit(np.array([["a"]])), TypeError, "fit: x must be an array"),
    "A11": (lambda: kde.fit(GOOD * 1j), TypeError, "fit: x must hold floating-point"),
    "A16": (lambda: kde.fit(GOOD[0]), ValueError, r"fit: x must have shape .*reshape"),
    "A17": (lambda: kde.fit(GOOD[None]), ValueError, "fit: x must have shape"),
    "A18": (lambda: kde.fit(GOOD[:0]), ValueError, "fit: x must not be empty"),
    "A19": (lambda: kde.fit(GOOD[:, :0]), ValueError, "fit: x must not be empty"),
    "integers": (lambda: kde.fit(np.ones((3, 2), int)), TypeError, "fit: x .* got int64"),
    "E1": (lambda: kde.fit(GOOD, bandwidth=0), ValueError, "fit: bandwidth must be positive"),
    "E2": (lambda: kde.fit(GOOD, bandwidth=-1.0), ValueError, "bandwidth must be pos.*got -1.0"),
    "E3": (lambda: kde.fit(GOOD, bandwidth=math.nan), ValueError, "bandwidth must be pos.*nan"),
    "E4": (lambda: kde.fit(GOOD, bandwidth=math.inf), ValueError, "bandwidth must be pos.*inf"),
    "E5": (lambda: kde.fit(GOOD, bandwidth="silvermann"), ValueError, "did you mean 'silverman'"),
    "E6": (lambda: kde.fit(GOOD, bandwidth=jnp.ones(3)), ValueError, r"bandwidth must have shape"),
    "E7": (
        lambda: kde.fit(GOOD, bandwidth=jnp.array([[1.0, 0.5], [0.0, 1.0]])),
        ValueError,
        "fit: bandwidth must be a symmetric matrix",
    ),
    "E8": (
        lambda: kde.fit(GOOD, bandwidth=-jnp.eye(2)),
        ValueError,
        "fit: bandwidth must be positive definite",
    ),
    "E9": (lambda: kde.fit(GOOD, bandwidth=jnp.eye(3)), ValueError, r"bandwidth must have shape"),
    "E9 cube": (lambda: kde.fit(GOOD, bandwidth=jnp.ones((2, 2, 2))), ValueError, "have shape"),
    "E10": (lambda: kde.scott(GOOD, full=True), ValueError, "scott: the covariance of x must not"),
    "factors": (lambda: kde.fit(GOOD, factors=jnp.ones(2)), ValueError, "factors must have shape"),
    "factors zero": (
        lambda: kde.fit(GOOD, factors=jnp.zeros(3)),
        ValueError,
        "fit: factors must be positive",
    ),
    "form": (lambda: kde.fit(GOOD, form="cube"), ValueError, "fit: unknown form 'cube'.*product"),
    "E none": (lambda: kde.fit(GOOD, bandwidth=None), TypeError, "fit: bandwidth must be an array"),
    "E bool": (lambda: kde.fit(GOOD, bandwidth=True), TypeError, "fit: bandwidth must hold"),
    "E12": (lambda: kde.fit(GOOD[:1]), ValueError, "feature 0 of x must vary.*bandwidth as a n"),
    "E13": (lambda: kde.fit(jnp.ones((3, 2))), ValueError, "feature 0 of x must vary, got 1.0"),
    "E18 negative": (
        lambda: kde.fit(GOOD, sample_weight=jnp.array([1.0, -1.0, 1.0])),
        ValueError,
        "fit: sample_weight must not be negative",
    ),
    "E18 zero": (lambda: kde.fit(GOOD, sample_weight=jnp.zeros(3)), ValueError, "must not be zero"),
    "E18 NaN": (
        lambda: kde.fit(GOOD, sample_weight=jnp.full(3, jnp.nan)),
        ValueError,
        "fit: sample_weight must be finite",
    ),
    "E18 length": (
        lambda: kde.fit(GOOD, sample_weight=jnp.ones(4)),
        ValueError,
        r"fit: sample_weight must have shape \(3,\), got \(4,\)",
    ),
    "E19": (lambda: kde.log_prob(MODEL, GOOD[:, :1]), ValueError, r"log_prob: x .*\(any, 2\)"),
    "E20": (lambda: kde.log_prob(MODEL, GOOD * jnp.nan), ValueError, "log_prob: x must be finite"),
    "E21": (lambda: kde.log_prob(MODEL, GOOD[:0]), ValueError, "log_prob: x must not be empty"),
    "E31": (lambda: kde.fit(GOOD, kernel="gauss"), ValueError, "unknown kernel 'gauss'.*cosine"),
    "E31 type": (lambda: kde.fit(GOOD, kernel=None), ValueError, "fit: unknown kernel None"),
    "H1": (lambda: kde.sample(0, MODEL, 1), TypeError, "sample: key must be a PRNG key"),
    "n zero": (lambda: kde.sample(KEY, MODEL, 0), ValueError, "sample: n must be at least 1"),
    "n float": (lambda: kde.sample(KEY, MODEL, 2.0), TypeError, "sample: n must be a whole number"),
    "order": (lambda: kde.log_prob(GOOD, MODEL), TypeError, "log_prob: model must be a KDE"),
    "batch": (
        lambda: kde.log_prob(jax.tree.map(lambda a: a[None], MODEL), GOOD),
        ValueError,
        "log_prob: model.points must have shape",
    ),
    "edited": (
        lambda: kde.log_prob(MODEL._replace(bandwidth=jnp.array(-1.0)), GOOD),
        ValueError,
        "log_prob: model.bandwidth must be positive",
    ),
    "mixture": (
        lambda: kde.as_mixture(kde.fit(GOOD, kernel="tophat")),
        ValueError,
        "as_mixture: only a Gaussian kernel .* got 'tophat'",
    ),
}


@pytest.mark.parametrize(("call", "error", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_named(call, error, message, unchecked_types):
    with pytest.raises(error, match=message) as caught:
        call()
    assert str(caught.value).startswith("kde.")
