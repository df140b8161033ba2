"""`prepare` and `remove`, killed before any change of the disk: the next start makes it right."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from broadbase.data.sources.json_files import JsonLinesConfig
from broadbase.data.store.prepare import PrepareConfig, prepare, remove
from broadbase.data.store.requests import StoreRequest
from broadbase.data.store.store import Store, open_store
from broadbase.modalities.text import TextConfig
from support.killed import attempt

SOME = (3, 20, 45, 70)  # of the changes, in the default run


def prepared(folder: Path) -> Store:
    source = JsonLinesConfig(path=str(folder / "a.jsonl"))
    wanted = {"s": StoreRequest(source, TextConfig(vocab_size=260), "text")}
    return prepare(wanted, folder / "store", PrepareConfig(holdout=0.3))[0]["s"]


def without(folder: Path, ids: list[str]) -> Store:
    return remove(folder / "store", ids)["s"]


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def data(folder: Path) -> Path:
    folder.mkdir()
    lines = [json.dumps({"text": f"line number {i:04}"}) for i in range(40)]
    (folder / "a.jsonl").write_text("\n".join([*lines, "{", lines[3]]))
    return folder


def every_kill(some: tuple[int, ...], full: bool) -> itertools.count[int] | tuple[int, ...]:
    return itertools.count() if full else some


FULL = [pytest.param(False, id="some"), pytest.param(True, id="all", marks=pytest.mark.slow)]


@pytest.mark.parametrize("full", FULL)
def test_prepare_killed(tmp_path: Path, full: bool) -> None:
    complete = data(tmp_path / "whole")
    with pytest.raises(Exception, match="1 of 42 records"):
        prepared(complete)
    (complete / "a.jsonl").write_text((complete / "a.jsonl").read_text().replace("{\n", ""))
    fingerprint = prepared(complete).fingerprint
    for count in every_kill(SOME, full):
        folder = tmp_path / f"{count}"
        folder.mkdir()
        shutil.copy(complete / "a.jsonl", folder)
        died = attempt(folder, prepared, folder, last=count + 1) is None
        assert died or count > SOME[-1]
        assert prepared(folder).fingerprint == fingerprint
        assert files(folder) == files(complete)
        if not died:
            return


@pytest.mark.parametrize("full", FULL)
def test_remove_killed(tmp_path: Path, full: bool) -> None:
    """Whatever is done next, a document whose removal was begun does not come back."""
    complete = data(tmp_path / "whole")
    (complete / "a.jsonl").write_text((complete / "a.jsonl").read_text().replace("{\n", ""))
    before = prepared(complete)
    gone = before.ids("train")[5]
    shutil.copytree(complete, tmp_path / "before")
    after = without(complete, [gone])
    assert gone not in after.ids("train")
    for count in every_kill(SOME, full):
        folder = tmp_path / f"{count}"
        shutil.copytree(tmp_path / "before", folder)
        (folder / "store" / "s" / "manifest.json").write_text(
            (tmp_path / "before/store/s/manifest.json")
            .read_text()
            .replace(str(complete), str(folder))
        )
        died = attempt(folder, without, folder, [gone], last=count + 1) is None
        assert died or count > SOME[-1]
        begun = (folder / "store" / "removed.json").exists()
        again = prepared(folder)
        assert (gone not in again.ids("train") + again.ids("validation")) == begun
        assert without(folder, [gone]).fingerprint == after.fingerprint
        assert files(folder) == files(complete)
        assert open_store(folder / "store" / "s", verify=True).manifest["counts"]["removed"] == 1
        if not died:
            return


SLOW_DATA = """
from pathlib import Path
from broadbase.data.store.prepare import PrepareConfig, prepare
from broadbase.data.store.requests import StoreRequest
from broadbase.modalities.bytes import BytesConfig
from slow_source import SlowConfig

wanted = {"s": StoreRequest(SlowConfig(), BytesConfig(), "b")}
prepare(wanted, Path("store"), PrepareConfig(processes=2))
"""
SLOW_SOURCE = r"""
import os, time
from typing import Literal
from broadbase.core.contracts import Part
from broadbase.core.sources import Record, SourceConfig

class SlowConfig(SourceConfig):
    name: Literal["slow"] = "slow"

    def parts(self):
        return [Part("a", 1 << 25), Part("b", 1 << 25)]

    def fingerprint(self):
        return {"a": "1", "b": "2"}

    def read(self, part):
        for i in range(10_000):
            os.write(1, b"reading\n")
            time.sleep(0.05)
            yield Record(f"{part.name} {i}", f"{i}")
"""


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_prepare(tmp_path: Path, sign: signal.Signals) -> None:
    """However it ends, nothing of it is left soon after; of an interrupt there is one traceback."""
    (tmp_path / "slow_source.py").write_text(SLOW_SOURCE)
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_DATA],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert [process.stdout.readline().strip() for _ in range(2)] == ["reading"] * 2
    os.kill(process.pid, sign)
    assert process.wait(timeout=20) != 0
    said = process.stderr.read()  # ends when no process holds it any more
    assert said.count("Traceback") == (sign == signal.SIGINT)
    for _ in range(100):
        if not (left := alive(process.pid)):
            return
        time.sleep(0.1)
    raise AssertionError(f"{left} are still there after 10 s")


def alive(session: int) -> list[str]:
    """The processes of a session, but for those that have ended and wait for their parent."""
    result = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = path.read_text().rpartition(")")
            state, _, _, its, *_ = rest.split()
            if int(its) == session and state != "Z":
                result.append(name)
    return result
