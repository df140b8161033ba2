"""Nothing of a user's is overwritten or erased where a store or a run is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from broadbase.core.errors import ConfigError, DataError, ResourceError
from broadbase.data.sources.texts import TextFilesConfig
from broadbase.data.store.prepare import PrepareConfig, prepare
from broadbase.data.store.requests import StoreRequest
from broadbase.modalities.bytes import BytesConfig
from broadbase.run.prepare import alone, beginning


def wanted(tmp_path: Path) -> dict[str, StoreRequest]:
    data = tmp_path / "raw"
    data.mkdir(exist_ok=True)
    for i in range(8):
        (data / f"{i}.txt").write_text(f"{i} of eight texts, the {i}th" * 4)
    return {"text": StoreRequest(TextFilesConfig(path=str(data)), BytesConfig(), "bytes")}


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize(
    "name",
    [
        "settings.json",
        "joined.json",
        "removed.json",
        ".lock",
        "text/source.json",
        "text/manifest.json",
        "text/duplicates.jsonl",
        "text/rejected.jsonl",
        "text/codec/mine.bin",
        "text/codec/modality.json",
        "text/shards/0123456789abcdef/thesis.txt",
    ],
)
@pytest.mark.parametrize("text", ["mine", '{"editor": 1}'])
def test_a_users_folder_is_no_store(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / "mine" / name
    file.parent.mkdir(parents=True)
    file.write_text(text)
    before = content(tmp_path / "mine")
    with pytest.raises(ConfigError, match="would be overwritten; give another folder"):
        prepare(wanted(tmp_path), tmp_path / "mine", PrepareConfig(holdout=0.3))
    assert content(tmp_path / "mine") == before


def test_what_a_user_adds_to_a_store_stays(tmp_path: Path) -> None:
    data, store, config = wanted(tmp_path), tmp_path / "store", PrepareConfig(holdout=0.3)
    prepare(data, store, config)
    shard = next((store / "text" / "shards").iterdir())
    for folder in (store, store / "text", store / "text" / "shards"):
        (folder / "notes.txt").write_text("mine")
    for name in ("index-old", "index-0123456789abcdef", "shards/old"):
        (store / "text" / name).mkdir()
        (store / "text" / name / "notes.txt").write_text("mine")
    before = {name for name in content(store) if name.endswith("notes.txt")}
    (tmp_path / "raw" / "more.txt").write_text("one more text of its own, to be added")
    prepare(data, store, config)
    (shard / "notes.txt").write_text("mine")
    (tmp_path / "raw" / "0.txt").write_text("another text in the place of the first one")
    with pytest.raises(ConfigError, match="already holds other files"):
        prepare(data, store, config)
    now = content(store)
    assert before | {str((shard / "notes.txt").relative_to(store))} <= now.keys()


@pytest.mark.parametrize(
    "name", ["env.json", "metrics.jsonl", "checkpoints/step-000001/a", "model/a.txt", "lock"]
)
def test_a_users_folder_is_no_run(tmp_path: Path, name: str) -> None:
    file = tmp_path / "mine" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    with pytest.raises(ConfigError, match="which a run would overwrite"):  # noqa: SIM117
        with beginning(tmp_path / "mine"):
            raise AssertionError("the run was begun")
    assert content(tmp_path / "mine") == {name: b"mine"}


@pytest.mark.parametrize("name", ["file", "file/below/it"])
def test_a_file_is_no_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="file is not a folder; give another path"):
        prepare(wanted(tmp_path), tmp_path / name)
    with pytest.raises(ConfigError, match="file is not a folder; give another path"):  # noqa: SIM117
        with beginning(tmp_path / name):
            raise AssertionError("the run was begun")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_pipe_is_no_data(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(DataError, match=r"pipe\.txt is a device, pipe or socket; give"):
        TextFilesConfig(path=str(tmp_path / "pipe.txt")).files()


def test_a_run_that_cannot_be_begun_says_where(tmp_path: Path) -> None:
    (tmp_path / "run" / "lock").mkdir(parents=True)
    message = "run cannot be written: .*lock: .*; free space or permissions there"
    with pytest.raises(ResourceError, match=message), alone(tmp_path / "run"):
        pass
