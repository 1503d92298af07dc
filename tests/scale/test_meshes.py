"""On eight virtual devices, in a process of its own; the oracles are named there."""

import os

import jax
import numpy as np
import pytest
from children import names, results, start
from refusals import refused

from jaxnn import gmm, scale
from jaxnn.scale import meshes

PROGRAM = "scale_devices.py"


@pytest.fixture(scope="module")
def found():
    flags = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=8"
    return results([start(PROGRAM, XLA_FLAGS=flags)], timeout=300)[0]


@pytest.mark.parametrize("name", names(PROGRAM))
def test_on_eight_devices(name, found):
    assert found[name] == ""


@pytest.mark.usefixtures("unchecked_types")
def test_a_mesh_holds_devices():
    where = "scale.mesh"
    refused(lambda: scale.mesh([]), ValueError, "at least one device, got none", where)
    refused(lambda: scale.mesh(["cpu"]), TypeError, "got str", where)
    x, start = np.eye(2), gmm.from_covariances(np.ones(1), np.zeros((1, 2)), np.eye(2)[None])
    refused(lambda: scale.gmm.fit(start, x, mesh=8), TypeError, "mesh must be a Mesh, got int",
            "scale.gmm.fit")  # fmt: skip


def test_no_platform_is_one_sentence(monkeypatch):
    """J17: JAX_PLATFORMS names what is not there; planted, since a backend has started here."""

    def devices():
        raise RuntimeError("Unable to initialize backend 'cuda'\nmore")

    monkeypatch.setattr(jax, "devices", devices)
    refused(scale.mesh, RuntimeError, "JAX finds no device, .*backend 'cuda'", "scale.mesh")


def test_a_full_device_asks_for_smaller_chunks(monkeypatch):
    """J18: planted, in the words of XLA."""

    def each(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\n")

    monkeypatch.setattr(meshes, "each", each)
    team = meshes.team("test", None)
    refused(lambda: meshes.fold(team, len, np.zeros(1), (), [np.zeros(1)]), MemoryError,
            "got RESOURCE_EXHAUSTED: .*give a smaller chunk", "scale")  # fmt: skip
