"""`prepare` and `remove`, killed before any change of the disk: the next start makes it right."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from broadbase.data.prepare import PrepareConfig, prepare, remove
from broadbase.data.shards import Wanted
from broadbase.data.sources import JsonLinesConfig
from broadbase.data.store import Store, open_store
from broadbase.modalities.text import TextConfig

CHANGES = ("mkdir", "rename", "replace", "unlink", "rmdir", "fsync", "chmod")
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["broadbase.data.prepare", "broadbase.modalities.text", __name__])
SOME = (3, 20, 45, 70)  # of the changes, in the default run


def prepared(folder: Path) -> Store:
    source = JsonLinesConfig(path=str(folder / "a.jsonl"))
    wanted = {"s": Wanted(source, TextConfig(vocabulary=260), "text")}
    return prepare(wanted, folder / "store", PrepareConfig(holdout=0.3))[0]["s"]


def without(folder: Path, ids: list[str]) -> Store:
    return remove(folder / "store", ids)["s"]


def killed(count: int, work: Callable[..., Any], *given: Any) -> None:
    """Do some work, but die before the change of the disk number `count`."""

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            if not count:
                os.kill(os.getpid(), signal.SIGKILL)
            count -= 1
            return function(*args, **kwargs)

        return call

    for name in CHANGES:
        setattr(os, name, counted(getattr(os, name)))
    work(*given)


def dies(count: int, work: Callable[..., Any], *given: Any) -> bool:
    process = CONTEXT.Process(target=killed, args=(count, work, *given))
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


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
    whole = data(tmp_path / "whole")
    with pytest.raises(Exception, match="1 of 42 records"):
        prepared(whole)
    (whole / "a.jsonl").write_text((whole / "a.jsonl").read_text().replace("{\n", ""))
    fingerprint = prepared(whole).fingerprint
    for count in every_kill(SOME, full):
        folder = tmp_path / f"{count}"
        folder.mkdir()
        shutil.copy(whole / "a.jsonl", folder)
        died = dies(count, prepared, folder)
        assert died or count > SOME[-1]
        assert prepared(folder).fingerprint == fingerprint
        assert files(folder) == files(whole)
        if not died:
            return


@pytest.mark.parametrize("full", FULL)
def test_remove_killed(tmp_path: Path, full: bool) -> None:
    """Whatever is done next, a document whose removal was begun does not come back."""
    whole = data(tmp_path / "whole")
    (whole / "a.jsonl").write_text((whole / "a.jsonl").read_text().replace("{\n", ""))
    before = prepared(whole)
    gone = before.ids("train")[5]
    shutil.copytree(whole, tmp_path / "before")
    after = without(whole, [gone])
    assert gone not in after.ids("train")
    for count in every_kill(SOME, full):
        folder = tmp_path / f"{count}"
        shutil.copytree(tmp_path / "before", folder)
        (folder / "store" / "s" / "manifest.json").write_text(
            (tmp_path / "before/store/s/manifest.json").read_text().replace(str(whole), str(folder))
        )
        died = dies(count, without, folder, [gone])
        assert died or count > SOME[-1]
        begun = (folder / "store" / "removed.json").exists()
        again = prepared(folder)
        assert (gone not in again.ids("train") + again.ids("validation")) == begun
        assert without(folder, [gone]).fingerprint == after.fingerprint
        assert files(folder) == files(whole)
        assert open_store(folder / "store" / "s", verify=True).manifest["counts"]["removed"] == 1
        if not died:
            return
