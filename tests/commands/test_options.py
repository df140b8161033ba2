"""Options of `pretrain` and `prepare`: what each sets, and what a config says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from typer.testing import CliRunner

from broadbase.commands.app import COMMANDS, app
from broadbase.core.errors import ConfigError, DataError
from broadbase.core.plugins import VARIABLE, plugins
from broadbase.recipes.printed import documented
from broadbase.recipes.recipe import all_recipes, example
from broadbase.recipes.resolve import resolve
from broadbase.run.config import RunConfig
from broadbase.run.run import Run


@pytest.mark.parametrize("name", sorted(all_recipes()))
def test_a_printed_config_is_the_config(name: str) -> None:
    config = example(all_recipes()[name], 1)
    text = documented(config)
    assert RunConfig.from_tree(yaml.safe_load(text)).tree() == config.tree()
    assert "steps: " in text
    assert "# The share of the records that is kept for validation" in text


def test_options_of_pretrain() -> None:
    config = resolve("text", "x", 1, steps=7, context=33, batch_size=5)
    (source,) = config.data.sources.values()
    assert (config.train.steps, source.sequence_length, source.batch_size) == (7, 33, 5)
    config = resolve("text", "x", 1, ["train.steps=9"], steps=7)
    assert config.train.steps == 9
    config = resolve("mixed", None, 1, batch_size=116, context=64)
    rows = {name: m.batch_size for name, m in config.data.sources.items()}
    assert sum(n for name, n in rows.items() if name != "descriptors") == 116
    assert rows["structure"] == rows["descriptors"]
    assert config.data.sources["code"].sequence_length == 64
    assert config.data.sources["image"].sequence_length == 17
    with pytest.raises(ConfigError, match="6 sources need a row each"):
        resolve("mixed", None, 1, batch_size=5)
    with pytest.raises(ConfigError, match="--context is the tokens of a row of text"):
        resolve("mae", "x", 1, context=64)
    with pytest.raises(ConfigError, match="config file names its data"):
        resolve("c.yaml", ["x"], None)


def texts(folder: Path, word: str, ending: str = "txt") -> str:
    folder.mkdir()
    for i in range(60):
        (folder / f"{i}.{ending}").write_text(f"{word} {i} " * 20)
    return str(folder)


def test_several_folders_are_a_mixture(tmp_path: Path) -> None:
    paths = [texts(tmp_path / "a", "river"), texts(tmp_path / "b", "stone")]
    config = resolve("bytes", paths, 1, steps=2, context=64, batch_size=4)
    assert {name: m.batch_size for name, m in config.data.sources.items()} == {
        "bytes": 2,
        "bytes_2": 2,
    }
    run = Run.create(config, tmp_path / "run")
    assert run.train().keys() == {"bytes", "bytes_2"}


def test_kinds_of_data_in_one_mixture(tmp_path: Path) -> None:
    paths = [texts(tmp_path / "a", "river"), texts(tmp_path / "b", "x = ", "py")]
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "a.png").write_bytes(b"")
    config = resolve("mixed", [*paths, str(tmp_path / "c")], 1)
    assert {name: m.modality for name, m in config.data.sources.items()} == {
        "text": "text",
        "code": "code",
        "image": "image",
    }
    assert set(config.model.towers) == {"main"}
    with pytest.raises(ConfigError, match="trains on pairs: give --data once"):
        resolve("clip", paths, 1)


def test_which_files_are_read(tmp_path: Path) -> None:
    path = texts(tmp_path / "a", "river", "log")
    with pytest.raises(DataError, match=r"it holds 60 \.log.*--pattern"):
        list(resolve("text", path, 1).data.sources["text"].source.records())
    result = resolve("text", path, 1, pattern="**/*.log").data.sources["text"].source
    assert len(list(result.records())) == 60


def invoke(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def test_print_config_trains_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = invoke("pretrain", "bytes", "--data", "x", "--depth", "1", "--print-config")
    assert done.exit_code == 0
    assert RunConfig.from_tree(yaml.safe_load(done.stdout)).recipe == "bytes"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["pretrain text", "prepare text --store s", "adapt run"])
def test_empty_data_is_refused(command: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    done = invoke(*command.split(), "--data", "")
    assert done.exit_code == 2
    assert "it is empty" in done.output
    assert not list(tmp_path.iterdir())


def test_every_option_has_a_help_text() -> None:
    group = typer.main.get_group(app)
    for name in COMMANDS:
        command = group.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        for option in command.params:
            assert getattr(option, "help", "") or option.name == "help", (name, option.name)


MODULES = {
    "a.b..c": "which is no name of a module",
    "..x": "which is no name of a module",
    "/x/y.py": "which is no name of a module",
    "no_such_module": "there is no no_such_module.py",
    "no_such.module": "there is no no_such.module.py",
    "broken": r"broken cannot be imported: ZeroDivisionError: division by zero \(.*broken.py:1\)",
    "unparsed": "unparsed cannot be imported: SyntaxError",
    "needs": "needs imports no_such_package, which is not installed",
}


@pytest.mark.parametrize("name", MODULES)
def test_modules_that_cannot_be_used(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "unparsed.py").write_text("(")
    (tmp_path / "needs.py").write_text("import no_such_package")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, name)
    with pytest.raises(ConfigError, match=MODULES[name]):
        plugins("recipes", "RECIPE")


def test_blanks_between_modules_mean_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine_is_here.py").write_text("RECIPE = 3")
    monkeypatch.chdir(tmp_path)
    for value in ("mine_is_here,", " mine_is_here , ,", ",mine_is_here", "mine_is_here"):
        monkeypatch.setenv(VARIABLE, value)
        assert plugins("recipes", "RECIPE") == [3]
    monkeypatch.setenv(VARIABLE, " ")
    assert plugins("recipes", "RECIPE") == []
