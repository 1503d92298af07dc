"""Programs in bytes: the same outputs for any number of rows, and what is damaged is refused."""

import random
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnn import mlp
from jaxnn.bridge import export

X = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
NET = mlp.init(jax.random.key(0), (2, 3, 1), activation="tanh")
TANH = partial(mlp.apply, activation="tanh")


# The checker of types at run time knows no sizes that are left open.
pytestmark = pytest.mark.usefixtures("unchecked_types")


@cache
def exported():
    return export.to_bytes(TANH, NET, 2)


@pytest.fixture
def program(unchecked_types):
    return exported()


@pytest.mark.parametrize("n", [1, 7, 40])
def test_any_number_of_rows(program, n):
    found = export.from_bytes(program)(X[:n])
    np.testing.assert_allclose(found, TANH(NET, X[:n]), rtol=1e-5, atol=1e-6)


def test_it_can_be_compiled_with_other_things(program):
    run = export.from_bytes(program)
    both = jax.jit(lambda x: 2 * run(x))(jnp.asarray(X))
    np.testing.assert_allclose(both, 2 * TANH(NET, X), rtol=1e-5, atol=1e-6)


def test_for_several_platforms_and_another_dtype():
    """Oracle: what JAX itself reads out of the program."""
    data = export.to_bytes(lambda scale, x: scale * x, jnp.float64(3), 2, dtype=jnp.float64,
                           platforms=("cpu", "cuda", "tpu"))  # fmt: skip
    assert jax.export.deserialize(bytearray(data[48:])).platforms == ("cpu", "cuda", "tpu")
    np.testing.assert_array_equal(
        export.from_bytes(data)(X.astype(np.float64)), 3 * X.astype(np.float64)
    )


def test_rows_of_another_kind_are_refused(program):
    run = export.from_bytes(program)
    with pytest.raises(ValueError, match=r"x must have shape \(any, 2\), got \(40, 1\)"):
        run(X[:, :1])
    with pytest.raises(TypeError, match="x must be float32 like the program, got float64"):
        run(X.astype(np.float64))


def test_k47_damage_is_refused(program):
    chance = random.Random(0)
    for _ in range(200):
        data = bytearray(program)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        with pytest.raises(ValueError, match=r"data (is damaged|must come from)"):
            export.from_bytes(bytes(data))
    for data in (b"", program[:40], program[:-1], b"ML\xefR" + bytes(100)):
        with pytest.raises(ValueError, match=r"data (is damaged|must come from)"):
            export.from_bytes(data)


def test_bad_arguments():
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        export.to_bytes(TANH, NET, 0)
    with pytest.raises(ValueError, match="function must work for any number of rows"):
        export.to_bytes(lambda net, x: jnp.zeros(x.shape[0] // 2 if x.shape[0] > 3 else 1), NET, 2)
