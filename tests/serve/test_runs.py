"""Runs over HTTP: listed, followed line by line, never read again, and nothing else is reached."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from broadbase.serve import runs as module
from support.serving import service_of, serving


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("old", "new <img onerror=alert(1)>", "empty"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.yaml").write_text("")
    rows = [{"step": step, "loss": {"text": 9 - step}} for step in range(1, 4)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "runs" / "old" / "metrics.jsonl").write_text(text)
    os.utime(tmp_path / "runs" / "old" / "metrics.jsonl", (1, 1))
    (tmp_path / "runs" / "old" / "model").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "config.yaml").write_text("")
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "outside")
    return tmp_path / "runs"


@pytest.fixture
def url(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(module, "SECONDS", 0.02)
    with serving(service_of({}), runs=root) as url:
        yield url


def events(url: str, name: str, count: int, **headers: str) -> list[dict[str, Any]]:
    """The next events of a run."""
    given: list[dict[str, Any]] = [{}]
    with httpx2.stream("GET", f"{url}/b/runs/{name}/events", headers=headers) as answer:
        for line in answer.iter_lines():
            if line.startswith(":"):
                continue
            if line:
                key, _, value = line.partition(": ")
                given[-1][key] = json.loads(value) if key == "data" else value
            elif len(given) == count:
                break
            else:
                given.append({})
    return given


def test_runs_are_listed_the_newest_first(url: str) -> None:
    rows = httpx2.get(f"{url}/b/runs").json()["data"]
    assert {row["id"] for row in rows[:2]} == {"new <img onerror=alert(1)>", "empty"}
    old = rows[2]
    assert (old["id"], old["finished"], old["step"]) == ("old", True, 3)
    assert old["loss"] == {"text": 6}
    assert len(rows) == 3


def test_a_run_is_followed_from_where_one_stopped(url: str, root: Path) -> None:
    first = events(url, "old", 3)
    assert [event["data"]["step"] for event in first] == [1, 2, 3]
    path = root / "old" / "metrics.jsonl"
    assert int(first[-1]["id"]) == path.stat().st_size
    with path.open("a") as file:
        file.write('{"step": 4, "lo')
        file.flush()
        again = events(url, "old", 1, **{"last-event-id": first[1]["id"]})
        assert [event["data"]["step"] for event in again] == [3]
        file.write('ss": {"text": 5}}\n')
    last = events(url, "old", 1, **{"last-event-id": first[-1]["id"]})
    assert last[0]["data"] == {"step": 4, "loss": {"text": 5}}


def test_a_file_that_became_shorter_begins_again(url: str) -> None:
    again = events(url, "old", 2, **{"last-event-id": "99999"})
    assert again[0]["event"] == "restart"
    assert again[1]["data"]["step"] == 1


@pytest.mark.parametrize(
    "name",
    ["link", "..", "../outside", "%2e%2e", "..%2foutside", "nothing", "old%2f..%2fold", "a%00"],
)
def test_nothing_outside_is_reached(url: str, name: str) -> None:
    assert httpx2.get(f"{url}/b/runs/{name}/events").status_code == 404


def test_without_a_folder_there_are_no_runs() -> None:
    with serving(service_of({})) as url:
        for path in ("/b/runs", "/b/runs/old/events"):
            answer = httpx2.get(f"{url}{path}")
            assert answer.status_code == 404
            assert "--runs" in answer.json()["error"]["message"]
