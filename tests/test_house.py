"""The house holds: layers, sizes, and no `if` on a kind where kinds must not be known."""

from __future__ import annotations

import ast
import importlib
import io
import pkgutil
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

import broadbase
from broadbase.core.contracts import ModalityConfig, ObjectiveConfig
from support.paths import TESTS

ROOT = Path(broadbase.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
BENCHES = [*(TESTS.parent / "bench").glob("*.py"), *(TESTS.parent / "bench").glob("[!.]*/*.py")]
OTHERS = sorted([*TESTS.rglob("*.py"), *BENCHES])  # without the environments of peers
BLIND = ("core", "nn", "objectives", "model", "train")  # they never know a kind


def trees(files: list[Path]) -> Iterator[tuple[Path, ast.Module]]:
    for path in files:
        yield path, ast.parse(path.read_text())


def test_imports_go_only_downwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT.parent.parent)
    assert lint_imports(no_cache=True) == 0


def test_no_import_hides_in_a_function() -> None:
    for path, tree in trees(FILES):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                hidden = [n for n in ast.walk(node) if isinstance(n, ast.Import | ast.ImportFrom)]
                assert not hidden, f"{path}:{node.lineno} {node.name} imports inside"


def test_init_files_are_thin() -> None:
    for path, tree in trees([f for f in FILES if f.name == "__init__.py" and f.parent != ROOT]):
        kinds = (ast.Expr, ast.Import, ast.ImportFrom, ast.Assign)
        typed = [node for node in tree.body if isinstance(node, ast.If)]
        assert all(ast.unparse(node.test) == "TYPE_CHECKING" for node in typed), path
        assert all(isinstance(node, (*kinds, ast.If)) for node in tree.body), path
        assert len(tree.body) <= 6, path


def test_files_and_functions_are_short() -> None:
    for path, tree in trees(FILES):
        assert len(path.read_text().splitlines()) <= 300, path
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                assert length <= 60, f"{path}:{node.lineno} {node.name} has {length} lines"


def test_no_test_file_imports_another() -> None:
    """What several test files need lies in tests/support."""
    for path, tree in trees(sorted(TESTS.rglob("*.py"))):
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            shared = [name for name in names if re.search(r"(^|\.)(test_\w+|conftest)$", name)]
            assert not shared, f"{path}:{node.lineno} imports {shared}"


def kinds() -> set[str]:
    for package in ("modalities", "objectives"):
        for module in pkgutil.iter_modules([str(ROOT / package)]):
            importlib.import_module(f"broadbase.{package}.{module.name}")
    return {*ModalityConfig.choices, *ObjectiveConfig.choices} - {"toy-counts", "toy-copy"}


def test_no_branch_on_a_kind_in_the_blind_packages() -> None:
    """No comparison with a modality's or objective's name, no isinstance of their classes."""
    names = kinds()
    classes = {
        c.__name__ for c in (*ModalityConfig.choices.values(), *ObjectiveConfig.choices.values())
    }
    branches = []
    for path, tree in trees([f for f in FILES if f.relative_to(ROOT).parts[0] in BLIND]):
        for node in ast.walk(tree):
            compared: set[object] = set()
            if isinstance(node, ast.Compare):
                # "causal" is also the name of a pattern, which nn and model may name
                strings = {c.value for c in ast.walk(node) if isinstance(c, ast.Constant)}
                compared = strings & (names - {"causal"})
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
                compared = {getattr(n, "id", "") for n in ast.walk(node)} & classes
            if compared:
                branches.append(f"{path}:{node.lineno}")
    assert len(names) >= 6
    assert not branches


def test_configs_are_copied_with_validation() -> None:
    """`Config.replace` validates, pydantic's `model_copy` does not."""
    copies = [
        f"{path}:{node.lineno}"
        for path, tree in trees([f for f in FILES if f != ROOT / "core" / "config.py"])
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "model_copy"
    ]
    assert not copies, "use Config.replace"


RETIRED = {  # names that the field's words replaced: docs/glossary.md has those
    *("Draws", "OneInput", "ReadScores", "GivenConfig", "PrefixedConfig", "PlacesConfig"),
    *("BucketsConfig", "OffsetsConfig", "PlaneConfig", "PerceptronConfig", "QuantisedConfig"),
    *("BehindConfig", "ReachConfig", "RecallConfig", "RegionsConfig", "StableConfig"),
    *("continuations", "embed_places", "from_places", "told_to_stop", "nats_per_place"),
    *("BROADBASE_MODULES", "Measured", "Wanted", "Journal", "Hidden", "Choice"),
}
OPTIONS = re.compile(r"(?<![\w-])--(places|numeric|against|like|seeds|labels|start|on)\b(?!-)")


def test_retired_words_are_gone() -> None:
    """No identifier of the source has a retired name, and no option in messages or guides."""
    retired = []
    for path in FILES:
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
            if token.type == tokenize.NAME and token.string in RETIRED:
                retired.append(f"{path}:{token.start[0]} {token.string}")
    root = ROOT.parent.parent
    guides = [p for p in root.glob("docs/*.md") if p.name not in ("log.md", "benchmarks.md")]
    for path in [*FILES, root / "README.md", *guides]:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            retired += [f"{path}:{number} {m.group()}" for m in OPTIONS.finditer(line)]
    assert not retired


VAGUE = {"told", "mine", "theirs", "whole", "found", "known", "places", "beside", "asked"}
STALE = re.compile(r"\b(told|beside|asked|leaves as)\b", re.IGNORECASE)


def defined(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Every name that a module gives to a value, with its line."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name, node.lineno
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name, node.lineno
            case ast.ClassDef(name=name) | ast.arg(arg=name) | ast.alias(asname=str(name)):
                yield name, node.lineno
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                yield name, node.lineno


@pytest.mark.parametrize(
    "source", ["told = 1", "def f(known): 1", "class B:\n _was_found: int = 1"]
)
def test_a_vague_name_is_noticed(source: str) -> None:
    names = [name for name, _ in defined(ast.parse(source))]
    assert any(VAGUE & {*name.split("_")} for name in names)


def test_names_say_what_a_value_is() -> None:
    vague = [
        f"{path}:{line} {name}"
        for path, tree in trees([*FILES, *OTHERS])
        for name, line in defined(tree)
        if VAGUE & {*name.lower().split("_")}
    ]
    assert not vague


def test_docstrings_messages_and_comments_have_no_stale_words() -> None:
    """A text of the program has none of them either: it goes to people as a message."""
    stale = []
    for path in FILES:
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
            if token.type not in (tokenize.NAME, tokenize.OP) and STALE.search(token.string):
                stale.append(f"{path}:{token.start[0]} {token.string[:80]}")
    assert not stale
