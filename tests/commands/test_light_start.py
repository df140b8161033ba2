"""Help, the list of recipes and completion are light; the work of a command is loaded by it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import broadbase.commands.work
from broadbase.commands import work
from broadbase.commands.app import COMMANDS
from broadbase.recipes.listing import names, summaries
from broadbase.recipes.recipe import all_recipes

HEAVY = {"torch", "numpy", "sklearn", "scipy", "pyarrow", "grain", "transformers"}
# the program is imported, and then forked for each command
LOADED = """
import json, os, sys
from pathlib import Path
from broadbase.commands.main import main
for i, words in enumerate(json.loads(sys.argv[2])):
    if not os.fork():
        sys.stdout = (Path(sys.argv[1]) / f"{i}.out").open("w")
        sys.argv[1:] = words
        try:
            main()
        except SystemExit as end:
            result = [end.code, sorted(sys.modules)]
        sys.stdout.flush()
        Path(sys.stdout.name).with_suffix(".json").write_text(json.dumps(result))
        os._exit(0)
    os.wait()
"""
HELP = [[command, "--help"] for command in COMMANDS]
WITHOUT_MODEL: list[tuple[list[str], int]] = [
    (["--help"], 0),
    (["--version"], 0),
    (["recipes"], 0),
    (["recipes", "--json"], 0),
    (["sbatch", "--", "pretrain", "text", "--out", "runs/x"], 0),
    (["no-such-command"], 2),
    (["pretrain", "--no-such-option"], 2),
    (["adapt", "run", "--data", ""], 2),
]

Ran = tuple[int, str, set[str]]  # the exit code, the output, and the packages that were loaded


def ran(folder: Path, *lines: list[str], **environment: str) -> list[Ran]:
    """What became of `broadbase WORDS`, for each line of words."""
    subprocess.run(
        [sys.executable, "-c", LOADED, str(folder), json.dumps(lines)],
        check=True,
        env={**os.environ, **environment},
    )
    result = []
    for i in range(len(lines)):
        code, loaded = json.loads((folder / f"{i}.json").read_text())
        result.append((code, (folder / f"{i}.out").read_text(), set(loaded)))
    return result


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    """By its words: every command that has to be light."""
    lines = [*HELP, *(words for words, _ in WITHOUT_MODEL)]
    folder = tmp_path_factory.mktemp("light")
    return dict(zip(map(" ".join, lines), ran(folder, *lines), strict=True))


def test_importing_the_library_is_light() -> None:
    script = "import sys, broadbase; print(broadbase.__version__, *sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert not {*done.stdout.decode().split()} & HEAVY


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_is_light(light: dict[str, Ran], command: str) -> None:
    code, output, loaded = light[f"{command} --help"]
    assert code == 0
    assert f"broadbase {command}" in output
    assert not loaded & HEAVY


@pytest.mark.parametrize(("words", "code"), WITHOUT_MODEL)
def test_what_needs_no_model_is_light(light: dict[str, Ran], words: list[str], code: int) -> None:
    result, output, loaded = light[" ".join(words)]
    assert result == code
    assert bool(output) == (code == 0)
    assert not loaded & HEAVY


@pytest.mark.parametrize(
    ("line", "offered"),
    [("pret", "pretrain"), ("pretrain mol", "molecule"), ("adapt --se", "--set")],
)
def test_completion_is_light(tmp_path: Path, line: str, offered: str) -> None:
    environment = {
        "_BROADBASE_COMPLETE": "complete_bash",
        "COMP_WORDS": f"broadbase {line}",
        "COMP_CWORD": str(len(line.split())),
    }
    ((_, output, loaded),) = ran(tmp_path, [], **environment)
    assert offered in output.split()
    assert not loaded & HEAVY


def test_completion_can_be_installed(tmp_path: Path) -> None:
    # Typer takes the shell from the parent processes otherwise, and a test may have none.
    given = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    ((code, _, _),) = ran(tmp_path, ["--install-completion", "bash"], HOME=str(tmp_path), **given)
    assert code == 0
    scripts = [file.read_text() for file in tmp_path.rglob("*broadbase*") if file.is_file()]
    assert any("_BROADBASE_COMPLETE=complete_bash" in script for script in scripts)


def test_the_list_of_recipes_is_of_the_recipes() -> None:
    assert summaries() == {name: recipe.summary for name, recipe in all_recipes().items()}
    assert names("mo") == ["molecule"]


def test_recipes_from_outside_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = 'from broadbase.recipes.recipe import Recipe\nRECIPE = Recipe("own", "mine", print)'
    (tmp_path / "own_recipe.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("BROADBASE_PLUGINS", "own_recipe")
    assert summaries()["own"] == "mine"


def test_work_is_detected_by_name() -> None:
    for file in Path(broadbase.commands.work.__file__).parent.glob("[a-z]*.py"):
        assert getattr(work, file.stem).__name__ == f"broadbase.commands.work.{file.stem}"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        work.nothing  # type: ignore[attr-defined]  # noqa: B018
