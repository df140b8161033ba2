"""The journal as pages show it: thinned honestly, read once, and whole whatever a crash left."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broadbase.run import journal
from broadbase.run.journal import MOST, History, Thinned


def stepped(step: int, value: float = 1.0, **more: Any) -> dict[str, Any]:
    row = {"step": step, "loss": {"text": value}, "norm": 1.0, "tokens": 10.0, "seconds": 0.5}
    return {**row, "bits": {"text": 2 * value}, **more}


def write(path: Path, *rows: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=3000),
    st.lists(st.integers(1, 700), max_size=6),
)
@settings(max_examples=50, deadline=None)
def test_stretches_have_the_mean_and_the_ends_of_all_their_steps(
    values: list[float], cuts: list[int]
) -> None:
    """However the reading was cut into pieces."""
    curve, array = Thinned(), np.array(values)
    steps = np.arange(len(values))
    for piece in np.split(
        steps, sorted(c for c in set(np.cumsum(cuts).tolist()) if c < len(steps))
    ):
        curve.extend(piece, array[piece])
    stretches = curve.stretches()
    assert len(stretches) <= MOST
    assert curve.last == (len(values) - 1, values[-1])
    for i, each in enumerate(stretches):
        inside = array[i * curve.width : (i + 1) * curve.width]
        assert each.mean == pytest.approx(inside.mean(), rel=1e-9, abs=1e-6)
        assert (each.low, each.high) == (inside.min(), inside.max())


def test_only_what_is_new_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    read = History(path)
    assert not read.update()
    write(path, *(stepped(i) for i in range(1, 101)))
    assert read.update()
    assert not read.update()
    blocks = []
    taken = journal._table
    monkeypatch.setattr(journal, "_table", lambda block: blocks.append(block) or taken(block))
    write(path, stepped(101, 3.0))
    assert read.update()
    assert blocks == [(json.dumps(stepped(101, 3.0)) + "\n").encode()]
    assert read.training["text"].last == (101, 6.0)
    assert read.step == 101
    assert read.tokens == 1010
    assert read.rate == 20.0


def test_a_line_is_taken_when_it_is_complete(tmp_path: Path) -> None:
    path, line = tmp_path / "metrics.jsonl", json.dumps(stepped(2))
    write(path, stepped(1))
    with path.open("a") as file:
        file.write(line[:20])
    read = History(path)
    read.update()
    assert read.step == 1
    with path.open("a") as file:
        file.write(line[20:] + "\n")
    read.update()
    assert read.step == 2


def test_a_journal_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, *(stepped(i) for i in range(1, 9)))
    read = History(path)
    read.update()
    write(tmp_path / "new", *(stepped(i, 5.0) for i in range(1, 20)))
    (tmp_path / "new").replace(path)
    read.update()
    assert read.step == 19
    assert {p for _, p in read.training["text"].points()} == {10.0}


@pytest.mark.parametrize(
    "damage",
    [
        *(b"", b"\0\0\0", b'{"step": 1, "lo', b"[1, 2]", b'{"step": "x"}', b"[" * 300, b"\xff\xfe"),
        *(b'{"step": 3, "loss": 4}', b'{"step": 1e99}', b'{"step": true}'),
        *(b'{"step": 3, "loss": {"text": "high"}}', b'{"step": 3, "loss": {"text": {"a": {}}}}'),
    ],
)
def test_lines_that_no_run_wrote_change_nothing(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, stepped(1), stepped(2, 3.0))
    with path.open("ab") as file:
        file.write(damage + b"\n")
    write(path, stepped(4, 5.0), {"step": 4, "validation": {"text": 1.0}, "validation_bits": {}})
    read = History(path)
    read.update()
    assert read.training["text"].points() == [(1, 2.0), (2, 6.0), (4, 10.0)]
    assert read.held_out["text"].points() == [(4, 1.0)]


def test_changes_terms_and_numbers_that_are_not_finite(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write(
        path,
        stepped(1, watched={"teacher": 0.5}),
        {"step": 1, "changed": {"train.steps": [4, "8"]}},
        stepped(2, math.nan, loss={"text": math.nan, "z": 7}),
        stepped(3, math.inf),
    )
    read = History(path)
    read.update()
    assert read.changes == [(1, {"train.steps": [4, "8"]})]
    assert read.training["text"].points() == [(1, 2.0)]
    assert read.training["z"].points() == [(2, 7.0)]
    assert read.in_bits == {"text"}
    assert read.step == 3
