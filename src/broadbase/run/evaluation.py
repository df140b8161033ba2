"""What `broadbase evaluate` found of a run: evaluation.json in the run's folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from broadbase.core.errors import DataError
from broadbase.core.files import read_json, write_text
from broadbase.evidence.comparison import Comparison

EVALUATION = "evaluation.json"
FORMAT = 1


def save(folder: Path, comparisons: Sequence[Comparison]) -> None:
    """Keep the comparisons of a run's model, with the scores by document."""
    rows = [
        {
            **row.as_json(),
            "per_item": row.per_item,
            "other_per_item": row.other_per_item,
        }
        for row in comparisons
    ]
    write_text(folder / EVALUATION, json.dumps({"format": FORMAT, "comparisons": rows}))


def read(folder: Path) -> list[Comparison]:
    """Return the comparisons of the model that the run has now; none where it was trained since."""
    path, model = folder / EVALUATION, folder / "model" / "config.json"
    with suppress(OSError, DataError, KeyError, TypeError, ValueError):
        if model.exists() and model.stat().st_mtime > path.stat().st_mtime:
            return []
        return [
            replace(
                Comparison.from_json(row),
                per_item=tuple(map(float, row["per_item"])),
                other_per_item=tuple(map(float, row["other_per_item"])),
            )
            for row in read_json(path)["comparisons"]
        ]
    return []


def baselines(folder: Path, source: str) -> dict[str, float]:
    """Return the bits per unit of the baselines of a source, where the run was evaluated."""
    if not (folder / EVALUATION).exists():
        return {}
    rows = [row for row in read(folder) if row.subject == source]
    return {row.baseline: row.other for row in rows if row.metric.name.startswith("bits per")}
