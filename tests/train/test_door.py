"""Bad input to `train.fit`: one error with one clear message, before anything is compiled."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from refusals import refused

from jaxnn import mlp, train
from jaxnn.train import Batch, door

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (8, 3))
ROWS = Batch(x=X, y=jnp.array([0, 1, 1, 0, 1, 0, 1, 0]))
NET = mlp.init(KEY, (3, 4, 2), dtype=jnp.float64)
DESCEND = mlp.value_and_grad("softmax_cross_entropy")
WEIGHTS = {"w": jnp.ones(2), "v": jnp.ones(3)}


def square(params, batch, key):
    return sum(jnp.sum(p**2) for p in params.values()), jax.tree.map(lambda p: 2 * p, params)


def fit(params=NET, batch=ROWS, value_and_grad=DESCEND, key=KEY, **options):
    return train.fit(key, params, batch, value_and_grad, **{"epochs": 2} | options)


def number(value):
    return lambda *_: (value, WEIGHTS)


# options of `fit` above, exception, what the message must say
BAD = {
    "G2 rate < 0": ({"learning_rate": -0.1}, ValueError, "learning_rate must be non.*got -0.1"),
    "G3 rate NaN": ({"learning_rate": np.nan}, ValueError, "learning_rate must be.*got nan"),
    "G4 rate inf": ({"learning_rate": np.inf}, ValueError, "learning_rate must be.*got inf"),
    "rate array": ({"learning_rate": jnp.ones(2)}, ValueError, r"rate must have shape \(\), got"),
    "rate string": ({"learning_rate": "0.1"}, TypeError, "rate must be a number, got str"),
    "G12 schedule": (
        {"learning_rate": train.schedule("cosine", 0.1, steps=3), "batch_size": 4},
        ValueError,
        "cosine must not end before the training, which takes 4 updates, got steps 3",
    ),
    "G13 negative": ({"learning_rate": lambda t: 0.1 - t}, ValueError, "rates of learning_rate"),
    "G9 l2 < 0": ({"l2": -1.0}, ValueError, "l2 must be non-negative and finite, got -1.0"),
    "l2 array": ({"l2": jnp.ones(2)}, ValueError, r"l2 must have shape \(\), got \(2,\)"),
    "gain < 0": ({"min_gain": -1.0}, ValueError, "min_gain must be non-negative.*got -1.0"),
    "G11 optimizer": ({"optimizer": "adm"}, ValueError, "'adm'.*mean 'adam'.*choose from sgd"),
    "option": ({"optimizer": "sgd", "b1": 0.9}, TypeError, "sgd does not take.*'b1'"),
    "flag": ({"optimizer": "sgd", "nesterov": True}, TypeError, "sgd does not take .nesterov"),
    "G7 decay": ({"b1": -0.5}, ValueError, "b1 must be non-negative.*got -0.5"),
    "G24 epochs 0": ({"epochs": 0}, ValueError, "epochs must be at least 1, got 0"),
    "G24 epochs < 0": ({"epochs": -2}, ValueError, "epochs must be at least 1, got -2"),
    "epochs 1.5": ({"epochs": 1.5}, TypeError, "epochs must be a whole number, got 1.5"),
    "epochs True": ({"epochs": True}, TypeError, "epochs must be a whole number, got True"),
    "G25 batch 0": ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
    "G25 batch < 0": ({"batch_size": -4}, ValueError, "batch_size must be at least 1, got -4"),
    "segment 0": ({"segment_epochs": 0}, ValueError, "segment_epochs must be at least 1, got 0"),
    "segment < 0": ({"segment_epochs": -1}, ValueError, "segment_epochs.*got -1"),
    "G20 patience 0": (
        {"patience": 0, "validation": ROWS},
        ValueError,
        "patience must be between 1 and .*got 0",
    ),
    "G20 patience < 0": ({"patience": -1, "validation": ROWS}, ValueError, "patience.*got -1"),
    "patience 1.5": ({"patience": 1.5, "validation": ROWS}, TypeError, "patience.*whole.*1.5"),
    "stop_at 0": ({"stop_at": 0}, ValueError, "stop_at must be between 1 and 2, got 0"),
    "stop_at 9": ({"stop_at": 9}, ValueError, "stop_at must be between 1 and 2, got 9"),
    "stop_at 1.5": ({"stop_at": 1.5}, TypeError, "stop_at must be a whole number, got 1.5"),
    "G21 no validation": ({"patience": 3}, ValueError, "patience needs a validation batch"),
    "H1 key": ({"key": 0}, TypeError, r"key must be a PRNG key such as jax.random.key\(0\)"),
    "order_key": ({"order_key": 0}, TypeError, "order_key must be a PRNG key.*got int"),
    "H5 key": ({"key": np.random.default_rng(0)}, TypeError, "PRNG key.*got Generator"),
    "H4 keys": ({"key": jax.random.split(KEY)}, TypeError, r"single key, got keys of shape \(2,"),
    "tuple": ({"batch": (X, X)}, TypeError, r"batch must be a train.Batch, got tuple; write Batch"),
    "tuple held out": ({"validation": (X, X)}, TypeError, "validation must be a train.Batch"),
    "A8 strings": ({"batch": ROWS._replace(y=np.array(["a"] * 8))}, TypeError, "batch must hold"),
    "F13 lengths": (
        {"batch": ROWS._replace(y=ROWS.y[:3])},
        ValueError,
        r"same number of rows.*batch\.x \(8, 3\), batch\.y \(3,\)",
    ),
    "F13 held out": (
        {"validation": ROWS._replace(x=X[:2])},
        ValueError,
        r"validation\.x \(2, 3\), validation\.y \(8,\)",
    ),
    "G22 no rows": ({"validation": Batch(X[:0], ROWS.y[:0])}, ValueError, "at least 1, got valid"),
    "C20 weight < 0": (
        {"batch": ROWS._replace(weight=-jnp.ones(8))},
        ValueError,
        "batch.weight must not be negative, got -1.0",
    ),
    "C22 no weight": (
        {"validation": ROWS._replace(weight=jnp.zeros(8))},
        ValueError,
        "validation.weight must not be zero everywhere",
    ),
    "C23 weights short": (
        {"batch": ROWS._replace(weight=jnp.ones(5))},
        ValueError,
        r"batch\.weight \(5,\)",
    ),
    "integer weights": (
        {"batch": ROWS._replace(weight=jnp.ones(8, int))},
        TypeError,
        "batch.weight must hold floating-point numbers, got int64",
    ),
    # These the function finds in rows that it is shown before compilation.
    "F7 label -1": (
        {"batch": ROWS._replace(y=ROWS.y - 1)},
        ValueError,
        r"y must lie in \[0, 2\), got values from -1 to 0",
    ),
    "F8 label large": ({"batch": ROWS._replace(y=ROWS.y * 5)}, ValueError, "values from 0 to 5"),
    "F8 held out": ({"validation": ROWS._replace(y=ROWS.y * 5)}, ValueError, "from 0 to 5"),
    "A1 NaN": ({"batch": ROWS._replace(x=X.at[1, 2].set(jnp.nan))}, ValueError, "column 1, 2"),
    "F3 width": ({"batch": ROWS._replace(x=X[:, :2])}, ValueError, r"\(any, 3\), got \(8, 2\)"),
    "F3 held out": ({"validation": ROWS._replace(x=X[:, :2])}, ValueError, r"got \(8, 2\)"),
    # The slot.
    "no parameters": ({"params": ()}, ValueError, r"params must hold at least one array, got \(\)"),
    "integer parameters": (
        {"params": {"w": jnp.ones(2, int)}, "value_and_grad": square},
        TypeError,
        r"params\['w'\] must hold floating-point numbers, got int64",
    ),
    "mixed parameters": (
        {"params": WEIGHTS | {"u": jnp.ones(2, jnp.float32)}, "value_and_grad": square},
        TypeError,
        r"params\['v'\] must be float32 like params\['u'\], got float64",
    ),
    "only a value": (
        {"params": WEIGHTS, "value_and_grad": lambda *_: 1.0},
        TypeError,
        r"value_and_grad must return \(value, gradient\)",
    ),
    "integer value": (
        {"params": WEIGHTS, "value_and_grad": number(1)},
        TypeError,
        "the value of value_and_grad must be a floating-point number",
    ),
    "F29 many values": (
        {"params": WEIGHTS, "value_and_grad": number(jnp.ones(3))},
        ValueError,
        r"the value of value_and_grad must have shape \(\), got \(3,\)",
    ),
    "other structure": (
        {"params": WEIGHTS, "value_and_grad": lambda p, b, k: (1.0, (p["v"], p["w"]))},
        ValueError,
        "the gradient like params PyTreeDef.*'v'.*got PyTreeDef",
    ),
    "other shape": (
        {"params": WEIGHTS, "value_and_grad": lambda p, b, k: (1.0, p | {"w": p["v"]})},
        ValueError,
        r"gradient\['w'\] must have shape \(2,\), got \(3,\)",
    ),
    "many scores": (
        {"validation": ROWS, "score": lambda p, b: b.x[:, 0]},
        ValueError,
        r"the value of score must have shape \(\), got \(8,\)",
    ),
    "integer score": (
        {"validation": ROWS, "score": lambda p, b: jnp.sum(b.y)},
        TypeError,
        "the value of score must be a floating-point number",
    ),
}


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_message_before_compilation(case, caplog):
    """Oracle: the message names the argument, what was given and what to do; no epoch compiles."""
    options, error, message = BAD[case]
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        refused(lambda: fit(**options), error, message, ("train.", "mlp."))
    assert "jit(run)" not in caplog.text


@pytest.mark.parametrize("wrap", [jax.jit, jax.vmap, jax.grad], ids=["jit", "vmap", "grad"])
def test_a_loop_in_python_cannot_be_traced(wrap):
    """Oracle: the message says what to leave out."""
    traced = wrap(lambda rate: fit(learning_rate=rate, segment_epochs=1).value)
    with pytest.raises(TypeError, match="segment_epochs, progress and callback make a loop"):
        traced(jnp.full((2,), 0.1) if wrap is jax.vmap else 0.1)


def test_under_a_trace_shapes_are_checked_and_values_pass():
    """Invariant: a traced negative rate and traced wrong labels pass; a constant one does not."""
    loss = lambda rate, y: fit(batch=ROWS._replace(y=y), learning_rate=rate).history.loss
    assert bool(jnp.all(jnp.isnan(jax.jit(loss)(0.1, ROWS.y * 5))))
    assert bool(jnp.all(jnp.isfinite(jax.jit(loss)(-0.1, ROWS.y))))
    with pytest.raises(ValueError, match="learning_rate must be non-negative"):
        jax.jit(lambda y: loss(-0.1, y))(ROWS.y)
    with pytest.raises(ValueError, match="same number of rows"):
        jax.jit(loss)(0.1, ROWS.y[:3])


def test_good_input_becomes_strong_arrays():
    """Invariant: no weak types, so that the second segment runs what was compiled for the first."""
    params, dtype = door.parameters("f", {"a": 1.0, "b": np.ones(2)})
    assert dtype == jnp.float64
    assert all(isinstance(p, jax.Array) and not p.weak_type for p in params.values())
    given = Batch(x=np.ones((3, 2)), y=np.arange(3), weight=np.ones(3))
    batch, weight = door.rows("f", "batch", given, jnp.float32)
    assert batch.weight is None
    assert weight is not None
    assert weight.dtype == jnp.float32
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(batch))
    assert door.number("f", "l2", 1, jnp.float32).dtype == jnp.float32
