"""Steps of fewer points: written out one by one, they are what the tests spend their time on."""

import importlib

import pytest

FOLDS = ("gaussian", "held_out", "leave_one_out", "logsum", "moments", "probabilities")


@pytest.fixture(autouse=True, scope="session")
def short_steps():
    with pytest.MonkeyPatch.context() as patch:
        for name in FOLDS:  # by name, since the package has a function for some of them
            patch.setattr(importlib.import_module(f"jaxnn.kde.{name}"), "UNROLL", 7)
        yield
