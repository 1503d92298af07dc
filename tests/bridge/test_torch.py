"""Weights in from and out to PyTorch; with torch itself, where it is installed.

Oracle without it: the safetensors library, which writes and reads what torch would.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bridge.flax_cases import BATCH, NET, X, Y, same
from safetensors.numpy import load_file, save_file

from jaxnn import mlp, train
from jaxnn.bridge import torch as bridge


def test_files_go_both_ways(tmp_path):
    path = tmp_path / "net.safetensors"
    bridge.to_torch(path, NET)
    arrays = load_file(path)
    assert sorted(arrays)[:3] == ["0.bias", "0.weight", "10.bias"]
    np.testing.assert_array_equal(arrays["22.weight"], NET[-1].weight)
    same(bridge.from_torch(path), NET)


@pytest.mark.parametrize(
    ("arrays", "error", "message"),
    [
        ({"0.kernel": np.ones((2, 2))}, ValueError, r"0.kernel must be NUMBER.weight or NUMBER"),
        ({"fc.weight": np.ones((2, 2))}, ValueError, "fc.weight must be NUMBER.weight"),
        ({"0.bias": np.ones(2)}, ValueError, "layer 0 has a bias and no weight"),
        ({"0.weight": np.ones((2, 2)), "2.weight": np.ones((2, 3))}, ValueError,
         r"weight of 2 must have shape \(any, 2\)"),
        ({"0.weight": np.ones((2, 2, 3, 3))}, ValueError, r"must have shape \(any, any\)"),
        ({}, ValueError, "at least one dense layer"),
    ],
)  # fmt: skip
def test_other_files_are_refused(tmp_path, arrays, error, message):
    path = tmp_path / "net.safetensors"
    save_file(arrays, path)
    with pytest.raises(error, match=message):
        bridge.from_torch(path)


def test_what_is_no_file_of_safetensors_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "net.pt"
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(ValueError, match="no file of safetensors"):
        bridge.from_torch(path)
    with pytest.raises(FileNotFoundError):
        bridge.from_torch(tmp_path / "nothing")
    bridge.to_torch(path, NET)
    # Before anything is loaded: on its way to float32 a large number would overflow.
    monkeypatch.setattr("safetensors.flax.load", None)
    with jax.enable_x64(False), pytest.raises(TypeError, match="holds float64"):
        bridge.from_torch(path)


def test_torch_itself_agrees_in_outputs_gradients_and_ten_steps(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file as torch_load
    from safetensors.torch import save_file as torch_save

    small = mlp.init(jax.random.key(0), (3, 5, 2), activation="tanh", dtype=jnp.float64)
    path = tmp_path / "net.safetensors"
    bridge.to_torch(path, small)
    module = torch.nn.Sequential(
        torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2)
    ).double()
    module.load_state_dict(torch_load(path))
    x, y = torch.tensor(np.asarray(X)), torch.tensor(np.asarray(Y))
    outputs = module(x)
    np.testing.assert_allclose(
        outputs.detach(), mlp.apply(small, X, activation="tanh"), rtol=1e-12
    )  # fmt: skip
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
    for step in range(10):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(x), y).backward()
        if step == 0:
            descend = mlp.value_and_grad(activation="tanh")
            batch = BATCH._replace(weight=None)
            first = descend(small, batch, None)[1]
            np.testing.assert_allclose(module[0].weight.grad, first[0].weight, rtol=1e-12)
            np.testing.assert_allclose(module[2].bias.grad, first[1].bias, rtol=1e-12)
        optimizer.step()
    run = train.fit(
        jax.random.key(1), small, batch, descend, epochs=10, learning_rate=0.01, flavour="torch"
    )  # fmt: skip
    torch_save(module.state_dict(), path)
    same(bridge.from_torch(path), run.params, rtol=1e-9)
