"""Trackers: what they are shown, that they come from outside too, and that they stop nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from broadbase.core.errors import ConfigError
from broadbase.train.metrics_log import read
from broadbase.train.tracker import Tracker, TrackerConfig
from support.runs import broadbase, pretrain, write_documents


class Notes:
    """Keeps what it is shown."""

    seen: ClassVar[list[tuple[str, Any]]] = []

    def start(self, config: Mapping[str, Any]) -> None:
        self.seen.append(("start", config["recipe"]))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.seen.append(("log", (step, dict(values))))

    def finish(self) -> None:
        self.seen.append(("finish", None))


class NotesConfig(TrackerConfig):
    name: Literal["toy-notes"] = "toy-notes"

    def build(self, folder: Path) -> Tracker:
        return Notes()


class Broken(Notes):
    def log(self, step: int, values: Mapping[str, float]) -> None:
        self.seen.append(("tried", step))
        raise ConnectionError("the server is gone")


class BrokenConfig(TrackerConfig):
    name: Literal["toy-broken"] = "toy-broken"

    def build(self, folder: Path) -> Tracker:
        return Broken()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_documents(tmp_path_factory.mktemp("tracked") / "data")


@pytest.fixture(autouse=True)
def forget() -> None:
    Notes.seen.clear()


def test_a_tracker_from_outside_sees_what_the_journal_records(data: Path, tmp_path: Path) -> None:
    pretrain(data, tmp_path / "run", **{"train.tracker": "{name: toy-notes}"})
    kinds = [kind for kind, _ in Notes.seen]
    assert kinds == ["start", *["log"] * 5, "finish"]
    rows = read(tmp_path / "run" / "metrics.jsonl")
    for (_, (step, values)), row in zip(Notes.seen[1:-1], rows, strict=True):
        assert step == row["step"]
        if "loss" in row:
            assert values["training/bytes"] == row["bits"]["bytes"]
            assert values["norm"] == row["norm"]
        else:
            assert values == {"held_out/bytes": row["validation_bits"]["bytes"]}


def test_a_tracker_that_fails_is_left_alone(data: Path, tmp_path: Path) -> None:
    result = pretrain(data, tmp_path / "run", **{"train.tracker": "{name: toy-broken}"})
    assert [step for kind, step in Notes.seen if kind == "tried"] == [1]
    assert result.stderr.count("warning: Broken failed (ConnectionError: the server is gone)") == 1
    plain = pretrain(data, tmp_path / "plain")
    assert "warning" not in plain.stderr
    same = [(tmp_path / n / "model/model.safetensors").read_bytes() for n in ("run", "plain")]
    assert same[0] == same[1]


def test_the_tracker_of_a_run_may_change(data: Path, tmp_path: Path) -> None:
    pretrain(data, tmp_path / "run")
    tracked = {"train.tracker": "{name: toy-notes}", "train.steps": 6}
    broadbase("resume", tmp_path / "run", **tracked)
    assert [step for _, (step, _) in Notes.seen[1:-1]] == [5, 6, 6]


def test_tensorboard_has_the_numbers_of_the_journal(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    pretrain(data, tmp_path / "run", **{"train.tracker": "{name: tensorboard}"})
    events = accumulators.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    rows = [row for row in read(tmp_path / "run" / "metrics.jsonl") if "loss" in row]
    scalars = events.Scalars("training/bytes")
    assert [each.step for each in scalars] == [row["step"] for row in rows]
    assert [s.value for s in scalars] == pytest.approx([r["bits"]["bytes"] for r in rows])
    assert len(events.Scalars("held_out/bytes")) == 1


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_a_package_that_is_missing_is_named(data: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"pip install {name}"):
        pretrain(data, tmp_path / "run", **{"train.tracker": f"{{name: {name}}}"})
    assert not (tmp_path / "run").exists()
