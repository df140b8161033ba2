"""Bad input of `adapt`: each is named, with what to do, or counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from broadbase.adapt.kinds import CLASSES
from broadbase.adapt.task_data import read_task
from broadbase.commands.app import app
from broadbase.core.errors import BroadbaseError
from broadbase.core.sources import Record, SourceConfig
from broadbase.weights.folder import save
from support.bases import mixed_base, protein_base


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases")
    save(mixed_base(), folder / "mixed")
    save(protein_base(), folder / "protein")
    return folder


def adapt(base: Path, path: Path, labels: list[Any], *words: Any, text: str = "word") -> Any:
    lines = [json.dumps({"text": f"{text} {i}", "label": each}) for i, each in enumerate(labels)]
    path.write_text("\n".join(lines))
    given = ["--data", path, "--splits", 2, "--no-baselines", "--method", "knn", *words]
    return CliRunner().invoke(app, ["adapt", str(base), *map(str, given)])


@pytest.mark.parametrize(
    ("base", "labels", "words", "said"),
    [
        ("mixed", ["a"] * 30, [], "has 1 class in 30 records ('a'); a task needs at least two"),
        ("mixed", ["nan"] * 30, ["--kind", "numbers"], "name the field of the labels with --label"),
        ("mixed", ["2.5"] * 30, ["--kind", "numbers"], "every label is 2.5; nothing can be"),
        ("mixed", list("ab"), [], "2 classes have 1 record each and are left out"),
        ("mixed", [*"ab"] * 5, ["--train-size", 10], "10 records in 2 classes, too few for 10"),
        ("protein", [*"ab"] * 9, [], "as protein, more than the 1% allowed"),
        ("protein", [*"ab"] * 9, [], "the modality that they are of (--modality) or a base that"),
        ("mixed", [*"ab"] * 9, ["--label", "lable"], "no column `lable`; did you mean `label`?"),
    ],
)
def test_refused(
    bases: Path, tmp_path: Path, base: str, labels: list[Any], words: list[Any], said: str
) -> None:
    error = adapt(bases / base, tmp_path / "t.jsonl", labels, *words).exception
    assert isinstance(error, BroadbaseError), error
    assert said in str(error), str(error)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([*"ab"] * 5, "10 records are few to score by; label 100 or more"),
        (["a ", "b", " a", "b  "] * 15, "45 labels had spaces around them, which were removed"),
        ([float("nan"), *np.arange(59) / 7], "1 of 60 records have no label and are left out"),
    ],
)
def test_counted(bases: Path, tmp_path: Path, labels: list[Any], said: str) -> None:
    done = adapt(bases / "mixed", tmp_path / "t.jsonl", labels)
    assert done.exit_code == 0, done.output
    assert said in done.stderr


def test_texts_past_the_context_are_counted(bases: Path, tmp_path: Path) -> None:
    done = adapt(bases / "mixed", tmp_path / "t.jsonl", [*"ab"] * 10, text="x" * 1100)
    assert "20 records truncated to 1,024 tokens" in " ".join(done.stdout.split())


class Many(SourceConfig):
    """Records of 10,000 classes, two of each."""

    name: str = "many-for-tests"

    def records(self) -> Any:
        for i in range(20_000):
            yield Record(f"word {i}", f"here:{i}", f"class {i % 10_000}")

    def fingerprint(self) -> dict[str, str]:
        return {}


def test_what_10_000_classes_cost_is_said() -> None:
    task = read_task("many", "bytes", Many(), kind=CLASSES)
    assert task.target.columns == 10_000
    assert "about 10 GB; use --method knn, fewer classes, or a --train-size" in task.notes[-1]
