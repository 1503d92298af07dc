"""Steps of fewer points: written out one by one, they are what the tests spend their time on."""

import importlib

import pytest

from jaxnn.kde import gaussian


@pytest.fixture(autouse=True, scope="session")
def short_steps():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gaussian, "UNROLL", 7)
        module = importlib.import_module("jaxnn.kde.leave_one_out")
        patch.setattr(module, "UNROLL", 7)  # the package has a function of this name
        yield
