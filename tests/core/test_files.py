"""Results on disk: whole or not there, nothing of the user's erased, nothing left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from broadbase.core import files
from broadbase.core.errors import ConfigError, ResourceError
from broadbase.core.files import draft_file, draft_folder, sweep, write_json, write_text
from support.killed import attempt


def written(place: Path, kind: str) -> None:
    """Write one result, or replace it."""
    if kind == "file":
        write_text(place, "new")
        return
    with draft_folder(place, ours=lambda _: True) as draft:
        (draft / "a").write_text("new")
        (draft / "deep").mkdir()
        (draft / "deep" / "b").write_text("new")


def content(place: Path) -> dict[str, str]:
    """Every file at or below a place, with its text."""
    matches = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file())
    return {str(file.relative_to(place)): file.read_text() for file in matches}


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("before", [True, False], ids=["replaces", "new"])
def test_killed_at_any_change(tmp_path: Path, kind: str, before: bool) -> None:
    place = tmp_path / "result"
    old, new = {"x": "old"}, {"a": "new", "deep/b": "new"}
    if kind == "file":
        old, new = {".": "old"}, {".": "new"}
    ended = False
    for count in range(60):
        for item in tmp_path.iterdir():
            files.shutil.rmtree(item) if item.is_dir() else item.unlink()
        if before and kind == "file":
            place.write_text("old")
        elif before:
            place.mkdir()
            (place / "x").write_text("old")
        ended = attempt(tmp_path, written, place, kind, last=count + 1) is not None
        sweep(tmp_path)
        assert content(place) in (new, old if before else {}), f"killed at change {count}"
        assert [p.name for p in tmp_path.iterdir()] in (["result"], [])
        if ended:
            break
    assert ended
    assert content(place) == new


def test_a_draft_in_use_is_not_swept(tmp_path: Path) -> None:
    with draft_file(tmp_path / "a") as draft:
        draft.write_text("mine")
        sweeper = "import sys; from pathlib import Path; from broadbase.core.files import sweep\n"
        subprocess.run(
            [sys.executable, "-c", sweeper + "sweep(Path(sys.argv[1]))", str(tmp_path)], check=True
        )
    assert content(tmp_path) == {"a": "mine"}


def test_foreign_folders_are_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    for ours in (None, lambda _: False):
        with pytest.raises(ConfigError, match=r"thesis\.txt"), draft_folder(tmp_path, ours):
            pytest.fail("the block ran")
    assert content(tmp_path) == {"thesis.txt": "mine"}


@pytest.mark.parametrize("kind", ["file", "link", "broken link"])
def test_a_folder_takes_the_place_of_no_file_or_link(tmp_path: Path, kind: str) -> None:
    place, other = tmp_path / "place", tmp_path / "other"
    other.mkdir()
    if kind == "file":
        place.write_text("mine")
    else:
        place.symlink_to(other if kind == "link" else tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="not a folder"), draft_folder(place, lambda _: True):
        pytest.fail("the block ran")
    assert place.is_symlink() or place.read_text() == "mine"


def test_a_file_takes_the_place_of_no_folder_or_device(tmp_path: Path) -> None:
    for place in (tmp_path, Path("/dev/null")):
        with pytest.raises(ConfigError, match="not a file"), draft_file(place):
            pytest.fail("the block ran")
    assert not Path("/dev/null").is_file()


def test_a_link_to_a_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_an_error_in_the_block_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "x").write_text("old")
    with pytest.raises(ValueError, match="no"), draft_folder(tmp_path / "model", lambda _: True):
        raise ValueError("no")
    assert content(tmp_path) == {"model/x": "old"}


def test_a_rename_that_fails_puts_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "x").write_text("old")
    rename = Path.rename

    def full(self: Path, target: Path) -> Path:
        if self.parent.name.endswith(".draft") and self.name == "model":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", full)
    with (
        pytest.raises(ResourceError, match="model cannot be written"),
        draft_folder(tmp_path / "model", lambda _: True) as draft,
    ):
        (draft / "y").write_text("new")
    assert content(tmp_path) == {"model/x": "old"}


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_modes_follow_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with draft_folder(tmp_path / "model") as draft:
            (draft / "weights").touch(mode=0o600)
        with draft_file(tmp_path / "file") as draft:
            draft.touch(mode=0o600)
    finally:
        os.umask(before)
    for file in (tmp_path / "model" / "weights", tmp_path / "file"):
        assert file.stat().st_mode & 0o777 == 0o666 & ~umask
    assert (tmp_path / "model").stat().st_mode & 0o777 == 0o777 & ~umask


def test_an_equal_file_is_not_touched(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    before = (tmp_path / "a.json").stat()
    write_json(tmp_path / "a.json", {"a": 1})
    after = (tmp_path / "a.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}
