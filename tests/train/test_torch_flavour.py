"""Oracle: torch.optim itself in float64, where it is installed.

The rules of torch's documentation in NumPy, which need no torch, are in `test_optimizers`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnn.train import FLAVOURS, optimizer

CURVATURE = np.array([1.0, 4.0, 10.0])
START = np.array([1.0, -2.0, 0.5])
# By default, and with every number another: name in torch, by default, numbers there and here.
PEERS = {
    "sgd": ("SGD", {}, {}, {}),
    "momentum": ("SGD", {"momentum": 0.9}, {"momentum": 0.3}, {"momentum": 0.3}),
    "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}, {"momentum": 0.3}, {"momentum": 0.3}),
    "adagrad": ("Adagrad", {}, {"lr_decay": 0.1, "initial_accumulator_value": 0.2, "eps": 0.05},
                {"lr_decay": 0.1, "initial_accumulator_value": 0.2, "eps": 0.05}),
    "rmsprop": ("RMSprop", {}, {"alpha": 0.6, "eps": 0.05, "momentum": 0.3},
                {"decay": 0.6, "eps": 0.05, "momentum": 0.3}),
    "adadelta": ("Adadelta", {}, {"rho": 0.7, "eps": 0.05}, {"rho": 0.7, "eps": 0.05}),
    "nadam": ("NAdam", {}, {"betas": (0.5, 0.9), "eps": 0.05, "momentum_decay": 0.5},
              {"b1": 0.5, "b2": 0.9, "eps": 0.05, "momentum_decay": 0.5}),
    **{name: (peer, flags, {"betas": (0.5, 0.9), "eps": 0.05}, {"b1": 0.5, "b2": 0.9, "eps": 0.05})
       for name, peer, flags in (("adam", "Adam", {}), ("adamax", "Adamax", {}),
                                 ("amsgrad", "Adam", {"amsgrad": True}), ("adamw", "AdamW", {}))},
}  # fmt: skip


def ours(name, options, steps=50):
    """The path of `{weight, bias}`, so that what decays and what does not is seen."""
    transformation = optimizer(name, 0.03, flavour="torch", **options)
    start = {"weight": jnp.asarray(START), "bias": jnp.asarray(START)}

    def step(carry, _):
        w, state = carry
        gradient = jax.tree.map(lambda w: CURVATURE * w, w)
        updates, state = transformation.update(gradient, state, w)
        w = optax.apply_updates(w, updates)
        return (w, state), (w["weight"], w["bias"])

    return jax.lax.scan(step, (start, transformation.init(start)), None, length=steps)[1]


def theirs(torch, peer, options, steps=50):
    weight = torch.tensor(START, requires_grad=True)
    bias = torch.tensor(START, requires_grad=True)
    stepper = getattr(torch.optim, peer)([weight, bias], lr=0.03, **options)
    curvature, path = torch.tensor(CURVATURE), []
    for _ in range(steps):
        stepper.zero_grad()
        sum(0.5 * torch.sum(curvature * w**2) for w in (weight, bias)).backward()
        stepper.step()
        path.append([weight.detach().numpy().copy(), bias.detach().numpy().copy()])
    return np.array(path).transpose(1, 0, 2)


def test_every_optimizer_of_the_flavour_has_a_peer():
    assert set(PEERS) == set(FLAVOURS["torch"])


@pytest.mark.parametrize("name", PEERS)
def test_fifty_steps_are_those_of_torch(name):
    """Oracle: torch.optim, by default and with all numbers and weight_decay given."""
    torch = pytest.importorskip("torch")
    peer, flags, numbers, options = PEERS[name]
    decay = {"weight_decay": 0.2}
    cases = [(flags, {}), (flags | numbers | decay, options | decay)]
    found = jax.jit(lambda: [ours(name, here) for _, here in cases])()
    for (there, _), path in zip(cases, found, strict=True):
        expected = theirs(torch, peer, there)
        # torch keeps NAdam's product of momenta in float32 in float64 too.
        rtol = 1e-6 if name == "nadam" else 1e-10
        np.testing.assert_allclose(path, expected, rtol=rtol, atol=1e-6 if name == "nadam" else 0)


def test_single_precision_stays_within_its_rounding_of_double():
    """Oracle: the same flavour in float64, to some steps' rounding of float32."""
    for name in ("adagrad", "nadam", "amsgrad"):
        transformation = optimizer(name, 0.03, flavour="torch")
        single, double = (
            jax.jit(lambda w: transformation.update(w, transformation.init(w), w)[0])(  # noqa: B023
                jnp.asarray(START, dtype)
            )
            for dtype in (jnp.float32, jnp.float64)
        )
        assert single.dtype == jnp.float32
        np.testing.assert_allclose(single, double, rtol=1e-5)
