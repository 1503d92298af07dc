"""Oracle: counting what is read by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxnn.sweep import reads


def takes(rate, decay=0.0):
    return rate + decay


READERS = {
    "items": lambda hp, key: sum(v for _, v in hp.items()),
    "values": lambda hp, key: sum(hp.values()),
    "keys": lambda hp, key: sum(hp[k] for k in hp.keys()),  # noqa: SIM118
    "iteration": lambda hp, key: sum(hp[k] for k in hp),
    "get": lambda hp, key: hp.get("rate", 1) + hp.get("decay", 1),
    "pop": lambda hp, key: hp.pop("rate") + hp.pop("decay"),
    "stars": lambda hp, key: takes(**hp),
    "merge": lambda hp, key: takes(**({"rate": 1} | hp)),
    "copy": lambda hp, key: takes(**dict(hp)),
    "tree": lambda hp, key: sum(jax.tree.leaves(hp)),
    "map": lambda hp, key: takes(**jax.tree.map(lambda v: v, hp)),
    "asked": lambda hp, key: hp["rate"] + 2 * ("decay" in hp),
}


@pytest.mark.parametrize("way", READERS)
def test_every_way_to_read_counts(way):
    """Oracle: the sum."""
    hparams = {"rate": jnp.array(1.0), "decay": jnp.array(2.0)}
    assert float(reads.call("here", READERS[way], hparams, None)) == 3
    assert set(hparams) == {"rate", "decay"}


def test_names_belong_to_the_structure():
    """Oracle: the dict; leaves are numbers, equal names that are not the same stay apart."""
    named = reads.Reads({"rule": "sgd", "rate": 2.0, "depth": 1}, ("rule", "depth"))
    assert jax.tree.leaves(named) == [2.0]
    assert jax.tree.leaves_with_path(named)[0][0] == (jax.tree_util.DictKey("rate"),)
    assert jax.jit(lambda d: d)(named) == named
    true = reads.Reads(named | {"depth": True}, ("rule", "depth"))
    assert jax.tree.structure(named) != jax.tree.structure(true)
    keep = lambda hp, key: (jax.lax.fori_loop(0, 2, lambda i, c: c, hp), hp["rule"] == "sgd")
    kept = reads.call("here", keep, dict(named), None, static=named.static)
    assert kept == ({"rate": 2.0}, True)
    assert type(kept[0]) is dict


BAD = {
    "misspelt": (
        lambda hp, key: hp.get("rate", 1) + hp["decay"],
        {"raet": 1, "decay": 1},
        r"here: unknown hyperparameter 'raet' \(did you mean 'rate'\?\); choose from decay, rate",
    ),
    "lacking": (
        lambda hp, key: hp["learning_rate"],
        {"learning_rat": 1, "decay": 1},
        r"here: fit_one reads 'learning_rate', which hparams lacks \(did you mean 'learning_rat'",
    ),
    "not read": (lambda hp, key: hp["rate"], {"rate": 1, "seed": 1, "decay": 2}, "'decay'.*rate"),
    "nothing": (lambda hp, key: 0, {"rate": 1}, "unknown hyperparameter 'rate'; choose from none"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_hyperparameter_that_the_fit_does_not_take(case):
    """Oracle: the message names the nearest name."""
    fit_one, hparams, message = BAD[case]
    refused(lambda: reads.call("here", fit_one, hparams, None), ValueError, message, "here")


DECIDES = {
    "I6 shape": lambda n: jnp.zeros(n),
    "branch": lambda n: 1 if n > 0 else 2,
    "NumPy": lambda n: np.ones(2) * np.asarray(n),
}


@pytest.mark.parametrize("case", DECIDES)
def test_a_number_that_decides_is_told_to_be_static(case):
    """I6: JAX's own words, and a note on the remedy."""
    with (
        pytest.raises(TypeError, match=r"(?s)here: .*Choice\(values, static=True\)"),
        reads.explained("here", ()),
    ):
        jax.jit(DECIDES[case])(2)


def test_a_key_error_of_the_fit_itself_stays():
    """Invariant: another dictionary's missing name is not ours to explain, nor any type error."""
    with pytest.raises(TypeError, match=r"^mine$"), reads.explained("here", ()):
        raise TypeError("mine")
    with pytest.raises(KeyError, match="elsewhere"), reads.explained("here", {"rate": 1}):
        raise KeyError("elsewhere")
    with pytest.raises(KeyError, match="elsewhere"):
        reads.call("here", lambda hp, key: {}["elsewhere"], {"rate": 1}, None)
