"""The documentation is true: its commands and code run, its links resolve, its names exist."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.main import get_group

from broadbase.commands import main
from broadbase.commands.app import COMMANDS, app
from broadbase.core.config import discover
from broadbase.core.contracts import ObjectiveConfig
from broadbase.core.plugins import VARIABLE, declared
from broadbase.recipes.recipe import Recipe
from broadbase.weights.mapping import families_by_type
from support import programs
from support.llava import published
from support.pages import ELSEWHERE, FENCE, commands, files, snippets
from support.paths import ROOT

SOURCE = ROOT / "src" / "broadbase"
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
GUIDES = [page for page in PAGES if page.name not in ("log.md", "results.md", "benchmarks.md")]
FOLLOWED = (
    "commands",
    "tasks",
    "labels",
    "configs",
)  # in this order: they use the runs of those before
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
SHORT = ["--set", "train.steps=4", "--set", "train.evaluate_every=4", "--set", "train.save_every=4"]
WORDS = ["river", "stone", "cloud", "paper", "light", "green", "seven", "cold", "old", "new"]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the data that the pages mention."""
    rng = random.Random(0)
    (tmp_path / "notes").mkdir()
    for i in range(60):
        words = rng.choices(WORDS, weights=range(1, 11), k=300)
        (tmp_path / "notes" / f"{i}.txt").write_text(" ".join([f"note {i} {rng.random()}", *words]))
    rows = [{"text": " ".join(rng.choices(WORDS[:5], k=6)), "label": "a"} for _ in range(200)]
    rows += [{"text": " ".join(rng.choices(WORDS[5:], k=6)), "label": "b"} for _ in range(200)]
    rng.shuffle(rows)
    (tmp_path / "labelled.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = ["text,label", *(f"{row['text']},{row['label']}" for row in rows)]
    (tmp_path / "labelled.csv").write_text("\n".join(lines) + "\n")
    tickets = [f"{row['text']},{'billing;refund' if i % 3 else 'other'},{len(row['text']) / 4}"
               for i, row in enumerate(rows)]  # fmt: skip
    (tmp_path / "tickets.csv").write_text("\n".join(["text,topics,minutes", *tickets]) + "\n")
    answers = [f"{row['text']},{other['text']},{row['label'] == other['label']}"
               for row, other in zip(rows, rows[1:] + rows[:1], strict=True)]  # fmt: skip
    (tmp_path / "answers.csv").write_text("\n".join(["question,answer,label", *answers]) + "\n")
    replies = [f"{row['text']},{row['text'][::-1]} is {row['label']}" for row in rows]
    (tmp_path / "replies.csv").write_text("\n".join(["text,label", *replies]) + "\n")
    _write_conversations(tmp_path, [row["text"] for row in rows[:40]])
    (tmp_path / "pictures").mkdir()
    for i in range(40):
        pixels = np.random.default_rng(i).integers(0, 256, (32, 32, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{i}.png")
    Image.fromarray(pixels).save(tmp_path / "cat.png")
    published("llava", tmp_path / "llava")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _write_conversations(folder: Path, texts: list[str]) -> None:
    """Write chats, pairs of answers, prompts and a principle."""
    chats = [
        {
            "messages": [
                {"role": "user", "content": text},
                {"role": "assistant", "content": text[::-1]},
            ]
        }
        for text in texts
    ]
    pairs = [{"prompt": text, "chosen": text, "rejected": text[::-1]} for text in texts]
    rules = [{"critique": "What is long?", "revision": "Shorter.", "question": "Which is shorter?"}]
    for name, lines in {"chats": chats, "pairs": pairs, "rules": rules}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "prompts.txt").write_text("".join(f"{text}\n" for text in texts[:2]))


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command and return what it printed; any error is raised."""
    capsys.readouterr()
    main.app(arguments, standalone_mode=False)
    return capsys.readouterr().out


def shortened(arguments: list[str]) -> list[str]:
    """Return the same command on a small budget."""
    if arguments[0] == "pretrain":
        config = arguments[1].endswith(".yaml")
        size = [] if "--depth" in arguments or config else ["--depth", "1"]
        if "--steps" in arguments:
            at = arguments.index("--steps")
            arguments = arguments[:at] + arguments[at + 2 :]
        return [*arguments, *size, *SHORT]
    arguments = [re.sub(r"^steps=\d+$", "steps=4", word) for word in arguments]
    if arguments[0] == "adapt" and "--splits" not in arguments:
        return [*arguments, "--splits", "2", "--test-size", "50"]
    return arguments


def follow(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Run the commands of a page in order."""
    document = ""
    for line in commands(page):
        program, *arguments = shlex.split(line.replace("DOCUMENT", document))
        if line.startswith(ELSEWHERE):
            assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.M)
            continue
        if program != "broadbase" or arguments[0] == "demo":
            continue
        printed = run(shortened(arguments), capsys)
        if arguments[0] == "inspect" and "runs" not in line:
            document = str(re.search(r"\b[0-9a-f]{32}\b", printed)[0])  # type: ignore[index]


def execute(page: Path, code: str) -> dict[str, Any]:
    """Execute a block of a page and return its variables."""
    variables: dict[str, Any] = {}
    exec(compile(code, page.name, "exec"), variables)
    return variables


@pytest.mark.usefixtures("desk")
def test_the_commands_and_code_of_the_pages_run_in_order(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for page in (ROOT / "README.md", *(DOCS / f"{name}.md" for name in FOLLOWED)):
        assert len(commands(page)) >= 5, page.name
        follow(page, capsys)
        for snippet in snippets(page):
            execute(page, snippet)
    assert len(snippets(ROOT / "README.md")) == len(snippets(DOCS / "commands.md")) == 1


def test_the_first_training_runs_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its script, every command on a part of the data, and its use of the result."""
    monkeypatch.chdir(tmp_path)
    page = DOCS / "first-training.md"
    script, use = snippets(page)
    execute(page, script)
    for file in sorted(Path("notes").iterdir())[40:]:
        file.unlink()
    assert Path("table.csv").read_text().startswith("text,label\n")
    for folder in Path("digits").iterdir():
        for file in sorted(folder.iterdir())[20:]:
            file.unlink()
    follow(page, capsys)
    variables = execute(page, use)
    assert len(variables["classifier"].predict(variables["base"].embed(variables["new"]))) == 2
    assert {file.name for file in Path().iterdir()} >= {"notes-hf", "notes.gguf", "digit.png"}


PYTEST = (
    "import pytest, sys; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', *sys.argv[1:]]))"
)
MANY = """
import shlex, sys
from broadbase.commands.main import app
for line in sys.argv[1:]:
    app(shlex.split(line)[1:], standalone_mode=False)
"""


def test_what_the_pages_add_from_outside_runs(desk: Path) -> None:
    """In a process of their own, so that nothing of the pages stays registered here."""
    names = ("objective", "measure", "adaptation-method")
    pages = [next(DOCS.glob(f"add-a*-{name}.md")) for name in names]
    written = {name: block for page in pages for name, block in files(page).items()}
    for name, block in written.items():
        (desk / name).write_text(block)
    plugins = [Path(name).stem for name in written if not name.startswith("test_")]
    lines = [shlex.split(line)[1:] for page in pages for line in commands(page)]
    calls = [shlex.join(["", *shortened(line)]) for line in lines]
    made = programs.run(MANY, *calls, cwd=desk, env={**os.environ, VARIABLE: ",".join(plugins)})
    assert made.returncode == 0, made.stderr[-2000:]
    assert "most frequent" in made.stdout
    assert "p(a)" in made.stdout


@pytest.mark.parametrize("page", ["add-a-modality.md", "add-an-objective.md"])
def test_the_contract_checks_of_the_pages_pass(page: str, tmp_path: Path) -> None:
    written = files(DOCS / page)
    for name, block in written.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(block)
    tests = [name for name in written if name.startswith("test_")]
    done = programs.run(PYTEST, *tests, cwd=tmp_path)
    assert tests
    assert done.returncode == 0, done.stdout[-3000:]


def test_the_melodies_of_the_page_are_a_recipe(tmp_path: Path) -> None:
    page = DOCS / "add-a-modality.md"
    (tmp_path / "melody.py").write_text(files(page)["melody.py"])
    (tmp_path / "tunes").mkdir()
    rng = random.Random(0)
    for i in range(60):
        notes = [f"{rng.randint(55, 80)}:{rng.choice((1, 2, 4))}" for _ in range(80)]
        (tmp_path / "tunes" / f"{i}.txt").write_text(" ".join(notes))
    (block,) = (block for kind, block in FENCE.findall(page.read_text()) if kind == "console")
    variable, *lines = block.splitlines()
    calls = [shlex.join(["", *shortened(shlex.split(line)[1:])]) for line in lines]
    environment = {**os.environ, VARIABLE: variable.partition("=")[2]}
    made = programs.run(MANY, *calls, cwd=tmp_path, env=environment)
    assert made.returncode == 0, made.stderr[-2000:]
    assert re.search(r"(\d+:\d+ ){20}", made.stdout)


def test_other_pages_name_commands_that_exist() -> None:
    for page in PAGES:
        for line in commands(page):
            program, *arguments = shlex.split(line)
            if program == "broadbase":
                assert arguments[0] in COMMANDS, (page.name, line)
            if program == "python":
                assert (ROOT / arguments[0]).exists(), (page.name, line)


def test_links_resolve_and_every_page_is_reached_from_the_index() -> None:
    reached = {DOCS / "index.md"}
    for page in PAGES:
        text = FENCE.sub("", page.read_text())
        for link in re.findall(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"", text):
            target = next(filter(None, link))
            if target.startswith(("http", "#")):
                continue
            path = (page.parent / target.partition("#")[0]).resolve()
            assert path.exists(), f"{page.name} links to {target}"
            reached |= {path, *path.glob("*.md")} if page.parent == DOCS else set()
    assert not set(DOCS.rglob("*.md")) - reached


def test_the_tests_that_pages_name_exist() -> None:
    for page in PAGES:
        for name in re.findall(r"\btests/[\w/*]+\.\w+", page.read_text()):
            assert list(ROOT.glob(name)), f"{page}: no file is called {name}"


def test_the_names_in_the_guides_exist() -> None:
    """Classes, files, options, settings and identifiers in backticks are those of the source."""
    source = "\n".join(path.read_text() for path in SOURCE.rglob("*.py"))
    seen = set(re.findall(r"\w+", source)) | EXTERNAL
    options = {option for name in COMMANDS for option in _options(name)} | {"--version", "--help"}
    for page in GUIDES:
        inline = re.findall(r"`([^`\n]+)`", FENCE.sub("", page.read_text()))
        lines = [*inline, *commands(page)]
        used = {
            option
            for line in lines
            if line.startswith(("broadbase ", "-"))
            for option in OPTION.findall(line.partition(" -- ")[0])
        }
        assert used <= options | EXTERNAL, (page.name, used - options)
        for name in inline:
            where = f"{page.name}: `{name}`"
            if re.fullmatch(r"[\w/*]+/[\w*]*(\.\w+)?", name) and name.endswith((".py", ".sh")):
                assert [*SOURCE.glob(name), *ROOT.glob(name)], where
            elif re.fullmatch(r"[A-Z]\w*[a-z]\w*|[a-z]+(_[a-z0-9]+)+", name):
                assert name in seen, where
            elif re.fullmatch(r"(train|optim|data|machine|schedule|model)(\.[a-z_]+)+", name):
                assert name.rpartition(".")[2] in seen, where


# Names in the guides that belong to others
EXTERNAL = {"GroupKFold", "ViTMAEForPreTraining", "AutoModelForCausalLM", "async_save"}


def _options(command: str) -> Iterator[str]:
    for parameter in get_group(app).commands[command].params:
        yield from (*parameter.opts, *parameter.secondary_opts)


RETIRED = re.compile(r"\b(told|beside|asked|theirs|places?|leaves as)\b", re.I)


def test_the_guides_use_the_words_of_the_field() -> None:
    for page in GUIDES:
        text = page.read_text()
        assert not RETIRED.findall(text), (page.name, RETIRED.findall(text))


def test_the_guides_count_right() -> None:
    readme = (ROOT / "README.md").read_text()
    discover("objectives")
    ours = [c for c in ObjectiveConfig.choices.values() if c.__module__.startswith("broadbase.")]
    recipes: list[Recipe] = declared("broadbase.recipes", "RECIPE")
    assert f"{len(ours)}\n  objectives" in readme or f"{len(ours)} objectives" in readme
    assert f"**{len(recipes)} recipes**" in readme
    assert f"**{len(families_by_type())} published families" in readme
    table = (DOCS / "recipes.md").read_text()
    assert not [recipe.name for recipe in recipes if f"`{recipe.name}`" not in table]
    limits = re.search(r"at most (\d+) lines, and a function at most (\d+)",
                       (ROOT / "CONTRIBUTING.md").read_text())  # fmt: skip
    house = (ROOT / "tests" / "test_house.py").read_text()
    assert limits
    assert f"<= {limits[1]}, path" in house
    assert f"<= {limits[2]}, f" in house


def test_the_packages_are_listed_in_the_order_of_the_layers() -> None:
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    order: Mapping[str, int] = {
        name.strip(): i
        for i, layer in enumerate(layers["contracts"][0]["layers"])
        for name in layer.split("|")
    }
    listed = re.findall(r"^\| `(\w+)/` \|", (DOCS / "concepts.md").read_text(), re.M)
    assert {*listed} == {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert [order[name] for name in listed] == sorted(order[name] for name in listed)


def test_the_variables_of_the_environment_are_listed() -> None:
    page = (DOCS / "configs.md").read_text()
    source = "\n".join(path.read_text() for path in SOURCE.rglob("*.py"))
    names = {*re.findall(r"\bBROADBASE_[A-Z_]+\b", source)} - {"BROADBASE_PRELOAD_BEFORE"}
    assert not {name for name in names if f"`{name}`" not in page}
