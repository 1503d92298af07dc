"""Plug-in bandwidths against R's numbers, exact sums over pairs and units of measurement."""

import warnings
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

from experiments import datasets
from jaxnn import kde

RNG = np.random.default_rng(0)
ERUPTIONS = np.asarray(datasets.faithful()[:, :1], float)
SKEW = RNG.gamma(2.0, size=(60, 1))
W = RNG.uniform(0.2, 1.0, size=60)
RULES = {"sheather_jones": kde.sheather_jones, "plug_in": kde.plug_in}


@cache
def exact(weighted: bool) -> dict[str, float]:
    """Both rules by sums over all pairs (Wand and Jones, 1995, sections 3.5 and 3.6)."""
    x, w = SKEW[:, 0], (W if weighted else np.ones(60))
    w = w / w.sum()
    n = 1 / np.sum(w**2)
    sigma = np.sqrt(np.sum(w * (x - w @ x) ** 2) / (1 - 1 / n))
    u = (x[:, None] - x[None]) ** 2
    pairs = w[:, None] * w[None] / (1 - 1 / n)

    def psi(order, h):
        z = u / h**2
        hermite = z**2 - 6 * z + 3 if order == 4 else z**3 - 15 * z**2 + 45 * z - 15
        return np.sum(pairs * hermite * np.exp(-z / 2)) / (np.sqrt(2 * np.pi) * h ** (order + 1))

    if weighted:
        scale = float(kde.normal_reference(jnp.asarray(SKEW), jnp.asarray(W))[0])
        scale = min(sigma, scale / 0.9 * n**0.2 * 1.34 / 1.349)
    else:
        scale = min(sigma, np.subtract(*np.percentile(x, [75, 25])) / 1.349)
    sixth = -psi(6, 1.23 * scale * n ** (-1 / 9))
    ratio = psi(4, 1.24 * scale * n ** (-1 / 7)) / sixth
    width = lambda g: (2 * np.sqrt(np.pi) * n * psi(4, g)) ** -0.2
    solve = lambda h: width(1.357 * ratio ** (1 / 7) * h ** (5 / 7)) - h
    most = 1.144 * scale * n**-0.2
    return {
        "sheather_jones": brentq(solve, 0.1 * most, most, xtol=1e-13),
        "plug_in": width((2.394 / (n * sixth)) ** (1 / 7)),
    }


@pytest.mark.parametrize(("rule", "r"), [("sheather_jones", 0.13968), ("plug_in", 0.16535)])
def test_equals_r_on_old_faithful(rule, r):
    """R 4: bw.SJ(faithful$eruptions), method "ste" and "dpi", to the printed digits."""
    assert round(float(RULES[rule](jnp.asarray(ERUPTIONS))[0]), 5) == r


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
def test_equals_sums_over_all_pairs(rule, weighted):
    """The bins, 2,000 to the range, cost a ten-thousandth."""
    w = jnp.asarray(W) if weighted else None
    got = float(RULES[rule](jnp.asarray(SKEW), w)[0])
    assert got == pytest.approx(exact(weighted)[rule], rel=1e-4)


@pytest.mark.parametrize("rule", RULES)
def test_rounded_or_two_points_stay_finite(rule):
    for x in (np.round(SKEW), np.array([[0.0]] * 59 + [[1.0]])):
        h = RULES[rule](jnp.asarray(x))
        assert jnp.all(jnp.isfinite(h) & (h > 0))


def test_a_single_point_under_a_trace_stays_finite():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        h = jax.jit(kde.sheather_jones)(jnp.ones((1, 1)))
    assert jnp.all(jnp.isfinite(h) & (h > 0))
