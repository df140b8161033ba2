"""What the routes of runs refuse, over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from broadbase.core.errors import DivergedError
from broadbase.run.process import LAST_ERROR, PROCESS, process_of
from broadbase.serve.settings import ServeConfig
from broadbase.serve.worker import Worker
from broadbase.studio.app import studio_app
from broadbase.studio.bases import Bases
from broadbase.studio.live import Watches
from support.browser import TOKEN
from support.runs import pretrain, rows, write_documents

HEADERS = {"X-Broadbase-Token": TOKEN}


@pytest.fixture
def root(runs: Path, tmp_path: Path) -> Path:
    """A folder with a run, and beside it what no page may show."""
    shutil.copytree(runs / "notes", tmp_path / "runs" / "notes")
    shutil.copytree(runs / "notes", tmp_path / "secret")
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "secret")
    for name, file in (("half", "config.yaml"), ("other", "metrics.jsonl")):
        shutil.copytree(runs / "notes", tmp_path / "runs" / name)
        (tmp_path / "runs" / name / file).unlink()
        (tmp_path / "runs" / name / file).symlink_to(tmp_path / "secret" / file)
    return tmp_path / "runs"


@pytest.fixture
def client(root: Path) -> TestClient:
    settings = ServeConfig()
    app = studio_app(root, Bases(root, {}, Worker(1), "cpu"), settings, TOKEN)
    return TestClient(app, base_url="http://127.0.0.1:8000")


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../secret",
            "..%2Fsecret",
            "%2e%2e%2fsecret",
            "link",
            "half",
            "other",
            "/etc",
            "nothing",
        ),
        *("notes%2F..%2F..%2Fsecret", "notes%00", "..%5Csecret", "%2Fetc", "x" * 5000),
    ],
)
@pytest.mark.parametrize("page", ["", "/live", "/events", "/report.html"])
def test_paths_and_links_out_of_the_folder_are_not_there(
    client: TestClient, root: Path, name: str, page: str
) -> None:
    answer = client.get(f"/runs/{name}{page}")
    assert answer.status_code == 404
    assert str(root) not in answer.text
    for action in ("stop", "resume"):
        assert client.post(f"/runs/{name}/{action}", headers=HEADERS).status_code == 404
    assert client.get("/compare", params={"run": ["notes", "../secret"]}).status_code == 404


def test_links_are_not_listed(client: TestClient) -> None:
    text = client.get("/runs").text
    assert "notes" in text
    assert "link" not in text.replace("<link", "")


def test_a_run_that_does_not_train_is_not_stopped(client: TestClient, root: Path) -> None:
    """Nor is a process that has nothing to do with the run, whatever a file says."""
    assert client.post("/runs/notes/stop").status_code == 403  # without the token
    answer = client.post("/runs/notes/stop", headers=HEADERS)
    assert answer.status_code == 400
    assert "does not train" in answer.json()["error"]["message"]
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    facts = {"pid": other.pid, "host": os.uname().nodename}
    (root / "notes" / PROCESS).write_text(json.dumps(facts))
    assert process_of(root / "notes") is None
    assert client.post("/runs/notes/stop", headers=HEADERS).status_code == 400
    assert other.poll() is None
    other.communicate(b"\n")


def test_another_program_that_holds_the_lock_is_not_stopped(client: TestClient, root: Path) -> None:
    code = "import sys; file = open(sys.argv[1]); print(flush=True); input()"
    command = [sys.executable, "-c", code, str(root / "notes" / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        facts = {"pid": other.pid, "host": os.uname().nodename}
        (root / "notes" / PROCESS).write_text(json.dumps(facts))
        assert process_of(root / "notes") is not None
        answer = client.post("/runs/notes/stop", headers=HEADERS)
        assert "not a broadbase" in answer.json()["error"]["message"]
        assert other.poll() is None
        resumed = client.post("/runs/notes/resume", headers=HEADERS)
        assert "trains already" in resumed.json()["error"]["message"]
        other.communicate(b"\n")


def test_a_refused_resume_says_why(client: TestClient, root: Path) -> None:
    shutil.rmtree(root / "notes" / "data")
    answer = client.post("/runs/notes/resume", headers=HEADERS)
    assert answer.status_code == 400
    assert "was not resumed" in answer.json()["error"]["message"]


def test_a_config_that_cannot_be_read_leaves_the_page(client: TestClient, root: Path) -> None:
    (root / "notes" / "config.yaml").write_text("recipe: [\n")
    assert client.get("/runs").status_code == 200
    assert "unknown" in client.get("/runs/notes").text
    assert client.get("/compare", params={"run": ["notes"] * 2}).status_code == 200


def test_many_runs_come_in_pages(client: TestClient, root: Path) -> None:
    for i in range(60):
        (root / f"run-{i}").mkdir()
        shutil.copy(root / "notes" / "config.yaml", root / f"run-{i}")
    first, second = (client.get("/runs", params={"page": i}).text for i in (1, 2))
    assert first.count("<tr>") == 51
    assert second.count("<tr>") == 61 + 1 - 50
    assert client.get("/compare", params={"run": [f"run-{i}" for i in range(9)]}).status_code == 400
    assert client.get("/runs", params={"page": 0}).status_code == 400


def test_why_a_run_diverged_is_kept_until_it_goes_on(tmp_path: Path, runs: Path) -> None:
    data = write_documents(tmp_path / "documents")
    with pytest.raises(DivergedError):
        pretrain(data, tmp_path / "run", **{"optim.lr": 1e38, "optim.muon_lr": 1e38})
    error = json.loads((tmp_path / "run" / LAST_ERROR).read_text())
    assert error["exit_code"] == 4
    assert "The step was not taken" in error["message"]
    assert "broadbase resume" in error["remedy"]
    assert not (tmp_path / "run" / PROCESS).exists()
    assert rows(runs / "notes")[-1] == 12
    assert not (runs / "notes" / LAST_ERROR).exists()


def test_one_task_watches_a_run_for_all_viewers(root: Path) -> None:
    async def both() -> tuple[list[bool], int, int]:
        watches = Watches()
        viewers = [watches.changes(root / "notes") for _ in range(3)]
        seen = [await anext(viewer) for viewer in viewers]
        one = watches.watched
        with (root / "notes" / "metrics.jsonl").open("a") as file:
            file.write("{}\n")
        seen += [await anext(viewer) for viewer in viewers]
        for viewer in viewers:
            await viewer.aclose()
        return seen, one, watches.watched

    assert asyncio.run(both()) == ([True] * 6, 1, 0)
