"""Oracle: `gmm.stepwise_step`, batch by batch; devices and processes are in `tests/scale`."""

import jax
import numpy as np
import pytest
from refusals import refused

from jaxnn import gmm, scale

rng = np.random.default_rng(0)
X = rng.normal(size=(90, 2)) + 3 * rng.integers(3, size=(90, 1))
START = gmm.init(jax.random.key(0), X, 3)


def test_batches_come_in_the_order_of_the_source_of_each_epoch():
    source = scale.shuffled(jax.random.key(1), scale.arrays(X), buffer=90)
    seen = []
    found = scale.gmm.fit_stepwise(
        START, source, batch_size=20, epochs=2, ridge=1e-3, power=0.7, offset=1.0,
        progress=seen.append,
    )  # fmt: skip
    state, t = gmm.stepwise_init(START), 0
    for turn in (1, 2):
        rows = np.concatenate([b.x for b in source.read(90, turn)])
        for i in range(0, 90, 20):
            t += 1
            state = gmm.stepwise_step(state, rows[i : i + 20], (t + 1.0) ** -0.7,
                                      ridge=1e-3 * X.var(axis=0))  # fmt: skip
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-9), found.state, state)
    log_lik = np.mean(gmm.log_prob(state.mixture, X))
    np.testing.assert_allclose(found.log_lik, log_lik)
    assert seen == [1, 2]


@pytest.mark.usefixtures("unchecked_types")
def test_numbers_out_of_range_are_refused():
    run = lambda **options: (
        lambda: scale.gmm.fit_stepwise(START, X, **{"batch_size": 9, "epochs": 1} | options)
    )
    cases = [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"power": 1.5}, r"power must lie in \[0, 1\], got 1.5"),
        ({"offset": -1.0}, "offset must be non-negative"),
    ]
    for options, message in cases:
        refused(run(**options), ValueError, message, "scale.gmm.fit_stepwise")


def test_a_fit_that_is_broken_off_goes_on_with_the_same_bits(tmp_path):
    """Oracle: the fit that nobody broke off."""
    from jaxnn.scale import Saving

    x = np.random.default_rng(1).normal(size=(40, 2))
    start = gmm.init(jax.random.key(0), x, 2)

    def fit(**options):
        return scale.gmm.fit_stepwise(start, x, batch_size=10, epochs=3, **options)

    def fail(epoch):
        if epoch == 2:
            raise RuntimeError("a fault of the caller's")

    with pytest.raises(RuntimeError, match="a fault"):
        fit(saving=Saving(tmp_path), progress=fail)
    epochs = []
    found = fit(saving=Saving(tmp_path, resume=True), progress=epochs.append)
    assert epochs == [3]
    jax.tree.map(np.testing.assert_array_equal, found, fit())
    x[3, 1] += 1e-9
    with pytest.raises(ValueError, match=r"data was .* and is .* now"):
        fit(saving=Saving(tmp_path, resume=True))
