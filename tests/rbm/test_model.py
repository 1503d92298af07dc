"""Oracles: all 2^(v + h) states in a loop, quadrature for Gaussian units, stationarity (5 SE)."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import rbm

V, H = 4, 3
KEYS = jax.random.split(jax.random.key(0), 4)
STATES = {n: np.array(list(itertools.product((0.0, 1.0), repeat=n))) for n in (V, H)}


def machine(units: str) -> rbm.RBM:
    """A machine with weights and biases of order one, in float64."""
    rng = np.random.default_rng(1)
    return rbm.VISIBLE[units](
        weight=jnp.asarray(rng.normal(size=(V, H))),
        visible_bias=jnp.asarray(rng.normal(size=V)),
        hidden_bias=jnp.asarray(rng.normal(size=H)),
    )


def rows(units: str) -> np.ndarray:
    return STATES[V] if units == "bernoulli" else np.random.default_rng(2).normal(size=(16, V))


def energy_by_hand(units: str, m: rbm.RBM, v: np.ndarray, h: np.ndarray) -> float:
    w, b, c = (np.asarray(leaf) for leaf in m)
    total = 0.0
    for i, j in itertools.product(range(V), range(H)):
        total -= v[i] * w[i, j] * h[j]
    for i in range(V):
        total += (v[i] - b[i]) ** 2 / 2 if units == "gaussian" else -b[i] * v[i]
    return total - sum(c[j] * h[j] for j in range(H))


@pytest.fixture(params=rbm.VISIBLE)
def units(request):
    return request.param


def table(units):
    """E(v, h) of every row v and every hidden state h, (n, 2^H)."""
    m = machine(units)
    return np.array([[energy_by_hand(units, m, v, h) for h in STATES[H]] for v in rows(units)])


def test_energy_is_the_double_sum(units):
    m, wanted = machine(units), table(units)
    for i, h in enumerate(STATES[H]):
        every = np.broadcast_to(h, (len(wanted), H))
        np.testing.assert_allclose(rbm.energy(m, rows(units), every), wanted[:, i], rtol=1e-12)


def test_free_energy_is_the_sum_over_hidden_states(units):
    wanted = -np.log(np.exp(-table(units)).sum(axis=1))
    np.testing.assert_allclose(rbm.free_energy(machine(units), rows(units)), wanted, rtol=1e-12)


def test_hidden_given_visible_is_the_ratio_of_sums(units):
    weights = np.exp(-table(units))
    wanted = weights @ STATES[H] / weights.sum(axis=1, keepdims=True)
    got = rbm.hidden_given_visible(machine(units), rows(units))
    np.testing.assert_allclose(got, wanted, rtol=1e-12)


def test_visible_given_hidden_is_the_ratio_of_sums():
    weights = np.exp(-table("bernoulli")).T
    wanted = weights @ STATES[V] / weights.sum(axis=1, keepdims=True)
    got = rbm.visible_given_hidden(machine("bernoulli"), STATES[H])
    np.testing.assert_allclose(got, wanted, rtol=1e-12)


def test_gaussian_visible_given_hidden_by_quadrature():
    m = machine("gaussian")
    grid = np.linspace(-12, 12, 2001)
    w, b, _ = (np.asarray(leaf) for leaf in m)
    got = rbm.visible_given_hidden(m, STATES[H])
    for k, h in enumerate(STATES[H]):
        for i in range(V):
            density = np.exp(-((grid - b[i]) ** 2) / 2 + grid * (w[i] @ h))
            np.testing.assert_allclose(got[k, i], (grid * density).sum() / density.sum(), rtol=1e-9)


@pytest.mark.parametrize("steps", [1, 7])
def test_gibbs_leaves_the_distribution_of_the_machine(steps):
    """From exact draws, the frequency of every visible state stays within 5 standard errors."""
    m, n = machine("bernoulli"), 20_000
    p = np.exp(-table("bernoulli")).sum(axis=1)
    p /= p.sum()
    start = jnp.asarray(STATES[V])[jax.random.choice(KEYS[0], 2**V, (n,), p=jnp.asarray(p))]
    end = np.asarray(rbm.gibbs(KEYS[1], m, start, steps))
    seen = np.bincount((end @ 2 ** np.arange(V)[::-1]).astype(int), minlength=2**V) / n
    assert np.all(np.abs(seen - p) < 5 * np.sqrt(p * (1 - p) / n))


def test_gibbs_in_a_gaussian_machine_finds_its_moments():
    """Means and second moments against the mixture over hidden states that the machine is."""
    m, n = machine("gaussian"), 20_000
    w, b, c = (np.asarray(leaf) for leaf in m)
    means = b + STATES[H] @ w.T
    log_p = STATES[H] @ c + 0.5 * (means**2).sum(axis=1)
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    picked = jax.random.choice(KEYS[0], 2**H, (n,), p=jnp.asarray(p))
    start = jnp.asarray(means)[picked] + jax.random.normal(KEYS[2], (n, V))
    end = np.asarray(rbm.gibbs(KEYS[1], m, start, 3))
    for power, wanted in ((end, p @ means), (end**2, p @ (means**2 + 1))):
        assert np.all(np.abs(power.mean(0) - wanted) < 5 * power.std(0) / n**0.5)


def test_one_sweep_of_many_chains_is_the_transition_matrix():
    """Distribution after one sweep from one state, against the sum over hidden states (5 SE).

    With as many visible as hidden units, so that draws which shared a key would be seen.
    """
    n, rng = 20_000, np.random.default_rng(4)
    m = rbm.Bernoulli(*(jnp.asarray(2 * rng.normal(size=s)) for s in ((H, H), (H,), (H,))))
    weights = np.exp([[np.einsum("i,ij,j", v, m.weight, h) + v @ m.visible_bias
                       + h @ m.hidden_bias for h in STATES[H]] for v in STATES[H]])  # fmt: skip
    hidden = weights[5] / weights[5].sum()
    wanted = (weights / weights.sum(axis=0)) @ hidden
    end = np.asarray(rbm.gibbs(KEYS[3], m, np.tile(STATES[H][5], (n, 1)), 1))
    seen = np.bincount((end @ 2 ** np.arange(H)[::-1]).astype(int), minlength=2**H) / n
    assert np.all(np.abs(seen - wanted) < 5 * np.sqrt(wanted * (1 - wanted) / n))


def test_start_has_the_standard_deviation_asked_for(units):
    m = rbm.init(KEYS[0], 80, 90, units=units, scale=0.3)
    assert isinstance(m, rbm.VISIBLE[units])
    assert abs(float(jnp.std(m.weight)) - 0.3) < 5 * 0.3 / (2 * 7200) ** 0.5
    assert not np.any(m.visible_bias)
    assert not np.any(m.hidden_bias)
    assert {leaf.dtype for leaf in m} == {jnp.dtype(jnp.float32)}


BIT, REAL = machine("bernoulli"), machine("gaussian")
GREY = STATES[V].copy()
GREY[3, 1] = 0.5
LONG = BIT._replace(hidden_bias=jnp.zeros(H + 1))
MIXED = BIT._replace(visible_bias=jnp.zeros(V, jnp.float32))
BAD = [
    (rbm.free_energy, (BIT, GREY), ValueError, "v must be 0 or 1 .* got 0.5 at row, column 3, 1"),
    (rbm.free_energy, (BIT, 2 * STATES[V] - 1), ValueError, "v must be 0 or 1 .* got -1 at"),
    (rbm.free_energy, (BIT, STATES[H]), ValueError, r"v must have shape \(any, 4\), got \(8, 3\)"),
    (rbm.free_energy, (BIT, STATES[V][0]), ValueError, r"v must have shape .* got \(4,\)"),
    (rbm.free_energy, (BIT, STATES[V] > 0), TypeError, "v must hold floating-point numbers"),
    (rbm.free_energy, (REAL, GREY * np.nan), ValueError, "v must be finite, got nan at"),
    (rbm.free_energy, (REAL, GREY.astype(np.float32)), TypeError, "v must be float64 like params"),
    (rbm.free_energy, (None, GREY), TypeError, "params must be rbm.Bernoulli or rbm.Gaussian"),
    (rbm.free_energy, (LONG, STATES[V]), ValueError, r"hidden_bias must have shape \(3,\), got"),
    (rbm.free_energy, (MIXED, STATES[V]), TypeError, "visible_bias must be float64 like weight"),
    (rbm.energy, (BIT, STATES[V], STATES[H]), ValueError, r"h must have shape \(16, any\)"),
    (rbm.energy, (BIT, STATES[V], 2 * STATES[V]), ValueError, r"h must have shape \(any, 3\)"),
    (rbm.hidden_given_visible, (BIT, GREY), ValueError, "v must be 0 or 1"),
    (rbm.visible_given_hidden, (BIT, 2 * STATES[H]), ValueError, r"h must lie in \[0, 1\], got"),
    (rbm.gibbs, (KEYS[0], BIT, STATES[V], 0), ValueError, "steps must be at least 1, got 0"),
    (rbm.gibbs, (KEYS[0], BIT, STATES[V], 1.0), TypeError, "steps must be a whole number"),
    (rbm.gibbs, (KEYS[0], BIT, GREY, 1), ValueError, "v must be 0 or 1"),
    (rbm.gibbs, (0, BIT, STATES[V], 1), TypeError, "key must be a PRNG key"),
    (rbm.init, (0, 3, 2), TypeError, "key must be a PRNG key"),
    (rbm.init, (KEYS[0], 0, 2), ValueError, "visible must be at least 1, got 0"),
    (rbm.init, (KEYS[0], 3, 2.0), TypeError, "hidden must be a whole number, got 2.0"),
]


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(("call", "args", "error", "message"), BAD)
def test_bad_input(call, args, error, message):
    with pytest.raises(error, match=f"rbm.{call.__name__}: {message}"):
        call(*args)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"units": "bernouli"}, ValueError, "unknown units 'bernouli' .did you mean 'bernoulli'"),
        ({"scale": -1.0}, ValueError, "scale must be non-negative"),
        ({"dtype": jnp.int32}, TypeError, "dtype must be a floating-point type, got int32"),
    ],
)
def test_bad_options_of_init(change, error, message):
    with pytest.raises(error, match="rbm.init: " + message):
        rbm.init(KEYS[0], 3, 2, **change)


@pytest.mark.usefixtures("unchecked_types")
def test_shapes_are_checked_under_jit():
    with pytest.raises(ValueError, match=r"v must have shape \(any, 4\)"):
        jax.jit(rbm.free_energy)(BIT, STATES[H])
