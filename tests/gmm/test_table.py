"""The text of a table of candidates, against its numbers."""

import numpy as np

from jaxnn import gmm


def test_text_has_a_line_for_each_candidate():
    whole = np.arange(1, 3)
    numbers = (whole, whole * 10, whole * 1.25, whole / 3, whole * -100.0, whole * 1e6)
    table = gmm.Table(("full", "spherical"), *numbers, whole * np.nan, whole - 1, whole + 5)
    lines = str(table).splitlines()
    assert lines[0].split() == list(gmm.Table._fields)
    assert lines[1].split() == ["full", "1", "10", "1.25", "0.33", "-100.00", "1000000.00", "nan",
                                "converged", "6"]  # fmt: skip
    assert lines[2].split()[:2] == ["spherical", "2"]
    assert len({len(line) for line in lines}) == 1  # columns stand under one another
    mixture = gmm.from_covariances(np.ones(1), np.zeros((1, 1)), np.ones(1), family="spherical")
    chosen = gmm.Selection(mixture, 1, "bic", table, {})
    assert str(chosen) == f"{table}\nbest bic: spherical, 2 components"
