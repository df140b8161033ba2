"""Molecules: valid ones are counted, unique among these, novel among those."""

from __future__ import annotations

import pytest

from broadbase.demo.molecules import NOVEL, UNIQUE, VALID, validity


def test_validity_uniqueness_and_novelty() -> None:
    generated = {
        "model": ["CCO", "OCC", "CC", "C(", "CCC"],  # ethanol twice, and one that is none
        "5-gram": ["C", "C", "C1", "(", "("],
    }
    rows = {row.metric: row for row in validity(generated, {"CC", "C"})}
    assert (rows[VALID].model, rows[VALID].other) == (0.8, 0.4)
    assert (rows[UNIQUE].model, rows[UNIQUE].other) == (0.75, 0.5)
    assert (rows[NOVEL].model, rows[NOVEL].other) == (pytest.approx(2 / 3), 0)
    assert rows[VALID].gap.mean == pytest.approx(0.4)
    assert rows[VALID].gap.low is not None
    assert rows[UNIQUE].gap == (0.25, None, None)  # no mean over molecules
    assert rows[VALID].items == 5
