"""Oracle: `train.fit` of the same member."""

import jax
import jax.numpy as jnp
import pytest
from training import CLASSES, HELD_OUT, KEY, close, equal

from jaxnn import mlp, train

EPOCHS = 5
SETTINGS = {"batch_size": 4, "accumulate": 2, "validate_every": 2, "b1": 0.8}
HPARAMS = {
    "learning_rate": jnp.array([0.01, 0.1, 0.1]),
    "keep_prob": jnp.array([0.7, 0.9, 1.0]),
    "patience": jnp.array([9, 9, 1]),
}
MEMBERS = jax.random.split(KEY, 3)


def network(hparams, key):
    """A small net with dropout; the third member has no patience."""
    params = mlp.init(key, (3, 4, 2), activation="tanh", dtype=jnp.float64)
    numbers = {name: hparams[name] for name in ("learning_rate", "patience")}
    return params, mlp.value_and_grad(activation="tanh", keep_prob=hparams["keep_prob"]), numbers


def alone(hparams, key, batch, validation):
    key_network, key_fit = jax.random.split(key)
    params, descend, numbers = network(hparams, key_network)
    return train.fit(
        key_fit, params, batch, descend, epochs=EPOCHS, validation=validation,
        **SETTINGS, **numbers,
    )  # fmt: skip


@pytest.mark.parametrize("every", [2, 4])
def test_members_in_pieces_are_fits_alone(every):
    """Bit for bit, whatever the length of the pieces; and a halted member comes back as it is."""
    pieces = train.segments(network, epochs=EPOCHS, every=every, **SETTINGS)
    one = {name: values[0] for name, values in HPARAMS.items()}
    member = jax.jit(pieces.init)(one, MEMBERS[0], CLASSES, HELD_OUT)
    assert float(pieces.score(member)) == jnp.inf
    advance = jax.jit(pieces.advance)
    count = 0
    while not bool(pieces.halted(member)):
        member, count = advance(member, CLASSES, HELD_OUT), count + 1
    assert count == -(-EPOCHS // every)
    expected = jax.jit(alone)(one, MEMBERS[0], CLASSES, HELD_OUT)
    equal(pieces.result(member), expected)
    assert float(pieces.score(member)) == float(expected.value)
    again = advance(member, CLASSES, HELD_OUT)
    bare = lambda m: m._replace(key=0, run=m.run._replace(key=jax.random.key_data(m.run.key)))
    equal(bare(again), bare(member))


def test_many_members_advance_as_one():
    """Invariant: vmap = loop of fits, each stopping at its own epoch."""
    pieces = train.segments(network, epochs=EPOCHS, every=2, **SETTINGS)
    shared = (CLASSES, HELD_OUT)
    members = jax.jit(jax.vmap(lambda h, k: pieces.init(h, k, *shared)))(HPARAMS, MEMBERS)
    advance = jax.jit(jax.vmap(lambda m: pieces.advance(m, *shared)))
    while not bool(jnp.all(jax.vmap(pieces.halted)(members))):
        members = advance(members)
    many = jax.vmap(pieces.result)(members)
    loop = jax.jit(lambda h, k: jax.lax.map(lambda m: alone(*m, *shared), (h, k)))
    close(many, loop(HPARAMS, MEMBERS))
    close(jax.vmap(pieces.score)(members), many.value)
