"""Exports and imports on disk: whole or not there, and nothing that the user has is erased."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from broadbase.commands.app import app
from broadbase.core.errors import BroadbaseError, ConfigError, DataError
from broadbase.inference.base import Base
from broadbase.model.model import ModelConfig
from broadbase.weights.folder import load, must_be_free, save, written_here
from support.bases import mixed_base, text_base
from support.models import TOWER
from support.references import bert, clip, llama, saved

FORMS = {"hf": "out", "gguf": "out.gguf", "safetensors": "out.safetensors"}


def files(folder: Path) -> dict[str, bytes]:
    """Every file at or below a folder, hidden ones too."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def shell(*arguments: object) -> BroadbaseError | None:
    """One command; the error that it ends with."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exception is None or isinstance(done.exception, BroadbaseError), done.exception
    return done.exception


def thesis(place: Path) -> None:
    (place / "thesis.txt").write_text("mine")


def pictures(place: Path) -> None:
    (place / "photos").mkdir()
    (place / "photos" / "a.jpg").write_text("mine")


def a_run(place: Path) -> None:
    (place / "config.yaml").write_text("name: a")
    save(text_base(), place / "model")


def prepared(place: Path) -> None:
    (place / "bytes").mkdir()
    (place / "bytes" / "manifest.json").write_text("{}")


def reference(place: Path) -> None:
    saved(lambda: llama(num_hidden_layers=1), place)


def a_note(place: Path) -> None:
    save(text_base(), place)
    (place / "notes.md").write_text("mine")


def a_note_among_codecs(place: Path) -> None:
    save(mixed_base(), place)
    (place / "codecs" / "notes.md").write_text("mine")


def other_weights(place: Path) -> None:
    save(text_base(), place)
    (place / "model.safetensors").unlink()
    save_file({"a": torch.ones(1)}, place / "model.safetensors")


FOREIGN = (
    thesis, pictures, a_run, prepared, reference, a_note, a_note_among_codecs, other_weights
)  # fmt: skip


@pytest.mark.parametrize("fill", FOREIGN)
def test_a_folder_with_anything_else_is_refused(
    fill: Callable[[Path], None], tmp_path: Path
) -> None:
    source, place = tmp_path / "source", tmp_path / "place"
    save(text_base(), source)
    place.mkdir()
    fill(place)
    before = files(tmp_path)
    with pytest.raises(ConfigError, match="place already holds other files"):
        must_be_free(place)
    with pytest.raises(ConfigError, match="place already holds other files"):
        save(text_base(), place)
    assert isinstance(shell("import", source, "--to", place), ConfigError)
    assert files(tmp_path) == before


@pytest.mark.parametrize("make", [text_base, mixed_base])
def test_a_model_folder_that_was_written_here_is_replaced(
    make: Callable[[], object], tmp_path: Path
) -> None:
    saved(clip, tmp_path / "clip")
    base = make()
    for each in (base, load(tmp_path / "clip"), base):
        save(each, tmp_path / "place")  # type: ignore[arg-type]
        assert written_here(tmp_path / "place")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clip", "place"]


def test_positions_that_are_no_folder_for_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(text_base(), tmp_path / "m")
    (tmp_path / "here" / "deeper").mkdir(parents=True)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "m")
    (tmp_path / "home").mkdir()
    thesis(tmp_path / "home")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here" / "deeper")
    before = files(tmp_path)
    for place in ("~", ".", "..", "/", "../..", "../../file", "../../link", "../../m", "../../m/."):
        for command in (("import", "../../m", "--to", place),):
            assert isinstance(shell(*command), ConfigError), place
    assert files(tmp_path) == before


def test_the_place_is_looked_at_before_any_work(tmp_path: Path) -> None:
    """The model does not even exist."""
    (tmp_path / "place").mkdir()
    thesis(tmp_path / "place")
    for form, name in FORMS.items():
        (tmp_path / name).mkdir()
        command = ("export", tmp_path / "none", "--to", form, "--out", tmp_path / "out")
        assert "there already" in str(shell(*command))
    (tmp_path / "none").mkdir()
    result = shell("import", tmp_path / "none", "--to", tmp_path / "place")
    assert "thesis.txt" in str(result)


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_exports_are_files_like_others(tmp_path: Path, umask: int) -> None:
    """With the ending of their kind, under the user's umask, and nothing else."""
    save(text_base(), tmp_path / "m")
    before = os.umask(umask)
    try:
        for form in FORMS:
            assert shell("export", tmp_path / "m", "--to", form, "--out", tmp_path / "out") is None
    finally:
        os.umask(before)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m", *sorted(FORMS.values())]
    for file in [
        p for name in FORMS.values() for p in [tmp_path / name, *(tmp_path / name).glob("*")]
    ]:
        assert file.stat().st_mode & 0o777 == (0o777 if file.is_dir() else 0o666) & ~umask, file
    assert "# out" in (tmp_path / "out" / "README.md").read_text()
    with safe_open(tmp_path / "out.safetensors", "pt") as opened:
        assert "towers" in json.loads(opened.metadata()["config"])


def test_a_run_is_named_by_its_folder(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("name: a")
    for command in ("import", "export"):
        more = () if command == "import" else ("--to", "hf", "--out", tmp_path / "out")
        result = shell(command, tmp_path / "run", *more)
        assert isinstance(result, DataError)
        assert f"not finished; `broadbase resume {tmp_path / 'run'}`" in str(result)
    save(text_base(), tmp_path / "run" / "model")
    assert load(tmp_path / "run").codecs.keys() == {"text"}
    assert shell("import", tmp_path / "run") is None
    assert shell("import", tmp_path / "run", "--to", tmp_path / "copy") is None
    assert isinstance(shell("import", tmp_path / "run", "--to", tmp_path / "run"), ConfigError)


@pytest.mark.parametrize("size", ["0", "nan", "inf", "-1"])
def test_a_file_has_a_size(tmp_path: Path, size: str) -> None:
    done = CliRunner().invoke(
        app,
        ["export", str(tmp_path), "--to", "hf", "--out", str(tmp_path / "out"), "--shard", size],
    )
    assert done.exit_code == 2 or isinstance(done.exception, ConfigError)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(tmp_path: Path, number: float) -> None:
    saved(bert, tmp_path / "m")
    tensors = load_file(tmp_path / "m" / "model.safetensors")
    name = "bert.encoder.layer.1.output.dense.weight"
    tensors[name][3, 3] = number
    save_file(tensors, tmp_path / "m" / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match=r"branch\.down\.weight.*not finite"):
        load(tmp_path / "m")


def test_settings_of_a_refusal_are_the_runs_own(tmp_path: Path) -> None:
    """Not those of the Space that the family has instead."""
    modality = {"name": "protein", "token_dropout": 0.12}
    tree = {"modalities": {"chain": modality}, "towers": {"main": TOWER}}
    config = ModelConfig.from_tree(tree)
    codecs = {"chain": config.modalities["chain"].fit([])}
    save(Base(config, config.build().eval(), codecs), tmp_path / "m")
    said = str(shell("export", tmp_path / "m", "--to", "hf", "--out", tmp_path / "out"))
    assert "model.modalities.chain." in said
    assert "modalities.text" not in said
