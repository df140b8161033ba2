"""Every command that README and docs/ show runs, in the order in which they show it."""

from __future__ import annotations

import json
import random
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from broadbase.commands import main
from broadbase.commands.app import COMMANDS
from test_llava import published

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
SHORT = ["--set", "train.steps=4", "--set", "train.evaluate_every=4", "--set", "train.save_every=4"]
ELSEWHERE = ("make ", "BROADBASE_WRITE_GOLDEN", "apt ")  # `make` is what runs this test
WORDS = ["river", "stone", "cloud", "paper", "light", "green", "seven", "cold", "old", "new"]


def commands(page: Path) -> list[str]:
    """The command lines of a page's fences, comments left out."""
    lines = [
        line.partition("#")[0].strip()
        for kind, block in FENCE.findall(page.read_text())
        if kind in ("", "sh", "bash")
        for line in block.splitlines()
    ]
    starts = ("broadbase ", "torchrun ", "python ", *ELSEWHERE)
    return [line for line in lines if line.startswith(starts)]


def snippets(page: Path) -> list[str]:
    return [block for kind, block in FENCE.findall(page.read_text()) if kind == "python"]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the data that the pages speak of."""
    rng = random.Random(0)
    (tmp_path / "notes").mkdir()
    for i in range(60):
        words = rng.choices(WORDS, weights=range(1, 11), k=300)
        (tmp_path / "notes" / f"{i}.txt").write_text(" ".join([f"note {i} {rng.random()}", *words]))
    rows = [{"text": " ".join(rng.choices(WORDS[:5], k=6)), "label": "a"} for _ in range(200)]
    rows += [{"text": " ".join(rng.choices(WORDS[5:], k=6)), "label": "b"} for _ in range(200)]
    rng.shuffle(rows)
    (tmp_path / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "pictures").mkdir()
    for i in range(40):
        pixels = np.random.default_rng(i).integers(0, 256, (32, 32, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{i}.png")
    Image.fromarray(pixels).save(tmp_path / "cat.png")
    published("llava", tmp_path / "llava")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What the command printed; any error is raised."""
    capsys.readouterr()
    main.app(arguments, standalone_mode=False)
    return capsys.readouterr().out


def shortened(arguments: list[str]) -> list[str]:
    """The same command on a small budget."""
    if arguments[0] == "pretrain":
        config = arguments[1].endswith(".yaml")
        size = [] if "--depth" in arguments or config else ["--depth", "1"]
        if "--steps" in arguments:
            at = arguments.index("--steps")
            arguments = arguments[:at] + arguments[at + 2 :]
        return [*arguments, *size, *SHORT]
    if arguments[0] == "adapt" and "--splits" not in arguments:
        return [*arguments, "--splits", "2", "--test-size-size", "50"]
    return arguments


def test_every_page_with_commands_is_known() -> None:
    assert len(commands(ROOT / "README.md")) > 10
    assert len(snippets(ROOT / "README.md")) >= 1


@pytest.mark.usefixtures("desk")
def test_the_commands_of_the_readme_run_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    follow(ROOT / "README.md", capsys)
    for snippet in snippets(ROOT / "README.md"):
        exec(compile(snippet, "README.md", "exec"), {})


def follow(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Run the commands of a page in order."""
    known = {}
    for line in commands(page):
        program, *arguments = shlex.split(line.replace("DOCUMENT", known.get("id", "")))
        if line.startswith(ELSEWHERE):
            assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.M)
            continue
        if program != "broadbase" or arguments[0] == "demo":
            continue
        said = run(shortened(arguments), capsys)
        if arguments[0] == "inspect" and "runs" not in line:
            known["id"] = str(re.search(r"\b[0-9a-f]{32}\b", said)[0])  # type: ignore[index]


def test_the_first_training_runs_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its script, every command on a part of the data, and its use of the result."""
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "first-training.md"
    script, use = snippets(page)
    exec(compile(script, "make_data.py", "exec"), {})
    for file in sorted(Path("notes").iterdir())[40:]:
        file.unlink()
    rows = Path("table.csv").read_text().splitlines(keepends=True)
    assert rows[0] == "text,label\n"
    for folder in Path("digits").iterdir():
        for file in sorted(folder.iterdir())[20:]:
            file.unlink()
    follow(page, capsys)
    exec(compile(use, "first-training.md", "exec"), space := {})  # type: ignore[var-annotated]
    assert len(space["classifier"].predict(space["base"].embed(space["new"]))) == 2
    assert {file.name for file in Path().iterdir()} >= {"notes-hf", "notes.gguf", "digit.png"}


def test_other_pages_name_commands_that_exist() -> None:
    for page in PAGES:
        for line in commands(page):
            program, *arguments = shlex.split(line)
            if program == "broadbase":
                assert arguments[0] in COMMANDS, (page.name, line)
            if program == "python":
                assert (ROOT / arguments[0]).exists(), (page.name, line)
