"""docs/add-a-modality.md: its files outside the package, its commands in order, on its real data.

The commands run in one process of their own, so that nothing of the page's stays registered here.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest
import yaml

from broadbase.core.errors import ConfigError, DataError
from broadbase.core.plugins import VARIABLE, plugins
from broadbase.core.sources import Record, SourceConfig
from broadbase.data.detect import detect, labelled
from broadbase.data.samples.packages import Package
from broadbase.data.sources.tables import CsvConfig
from broadbase.data.sources.texts import TextFilesConfig
from support.pages import commands, files
from support.paths import ROOT
from support.programs import run

PAGE = ROOT / "docs" / "add-a-modality.md"
SHORT = {
    "pretrain": "--depth 2 --set train.steps=150 --set train.evaluate_every=50",
    "adapt": "--splits 2 --test-size 50",
}
ABSENT = ("cannot be had", "is not here", "took more than")  # the registry, or its tool
MANY = """
import json, shlex, sys
from broadbase.commands.app import app
for line in sys.argv[1:]:
    print(f"$ {line}", flush=True)
    app(shlex.split(line)[1:], standalone_mode=False)
"""


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of the page; skips where its package cannot be had."""
    for name, block in files(PAGE).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(block)
    try:
        Package.from_tree(yaml.safe_load((tmp_path / "mast.yaml").read_text())["origin"]).folder()
    except DataError as error:
        if any(part in str(error) for part in ABSENT):
            pytest.skip(str(error)[:200])
        raise
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_runs_as_it_is_written(desk: Path) -> None:
    """Every command, shortened; the held-out loss falls, and all that is told is there."""
    lines = [f"{line} {SHORT.get(line.split()[1], '')}" for line in commands(PAGE)]
    assert [line.split()[1] for line in lines][-4:] == ["pretrain", "inspect", "evaluate", "adapt"]
    environment = {**os.environ, VARIABLE: "sensors"}
    done = run(MANY, *(f"{line} --json" for line in lines), cwd=desk, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    said = dict(
        part.split("\n", 1) for part in re.split(r"^\$ broadbase ", done.stdout, flags=re.M)[1:]
    )
    matches = {line.split()[0]: json.loads(text) for line, text in said.items()}
    assert "sensors" in {row["recipe"] for row in matches["recipes"]}
    (prepared,) = matches["inspect"]
    assert (prepared["records"], prepared["rejected"]) == (13_611, 1)
    journal = (desk / "runs" / "mast" / "metrics.jsonl").read_text()
    losses = [row["validation"]["sensors"] for row in map(json.loads, journal.splitlines())
              if "validation" in row]  # fmt: skip
    assert losses[-1] < 0.5 * losses[0]
    rows = {row["baseline"]: row for row in matches["evaluate"]}
    assert rows.keys() == {"linear interpolation", "last value", "mean of visible hours"}
    assert rows["mean of visible hours"]["ci_high"] < 0  # the page tells what a longer run beats
    (result,) = matches["adapt"]
    assert result["metric"] == "R2"
    assert {row["baseline"] for row in result["comparisons"]} == {
        "mean of the labels", "random init", "last hour, ridge", "24 hours, ridge",
    }  # fmt: skip


def test_a_module_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv(VARIABLE, "json, no_such_module")
    with pytest.raises(ConfigError, match=r"names 'no_such_module', and there is no no_such_mod"):
        plugins("recipes", "RECIPE")
    (tmp_path / "broken_module.py").write_text("import no_such_module")
    monkeypatch.setenv(VARIABLE, "broken_module")
    with pytest.raises(ConfigError, match="broken_module imports no_such_module"):
        plugins("recipes", "RECIPE")


def test_named_modules_and_installed_packages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A module's attribute and an entry point are found alike; nothing named, nothing imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "beside_module.py").write_text("BASELINES = {'toy': 1}\n")
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "kept_module.py").write_text("MINE = {'toy': 2}\n")
    (tmp_path / "kept" / "kept-1.dist-info").mkdir()
    points = "[broadbase.baselines]\nmine = kept_module:MINE\n"
    (tmp_path / "kept" / "kept-1.dist-info" / "entry_points.txt").write_text(points)
    (tmp_path / "kept" / "kept-1.dist-info" / "METADATA").write_text("Name: kept\nVersion: 1\n")
    monkeypatch.delenv(VARIABLE, raising=False)
    assert plugins("baselines", "BASELINES") == []
    sys.path.append(str(tmp_path / "kept"))
    monkeypatch.setenv(VARIABLE, "beside_module")
    assert plugins("baselines", "BASELINES") == [{"toy": 2}, {"toy": 1}]
    assert plugins("recipes", "RECIPE") == []


def test_a_source_by_its_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("a,b\none,x\ntwo,y\n")
    (tmp_path / "t.yaml").write_text("name: csv\npath: t.csv\nfield: a\nlabel: b\n")
    (source,) = detect("source:t.yaml", TextFilesConfig(path="source:t.yaml"))
    assert source == labelled("source:t.yaml", "text", "label") == CsvConfig(
        path="t.csv", field="a", label="b"
    )  # fmt: skip
    assert [r.raw for r in source.records() if isinstance(r, Record)] == ["one", "two"]
    with pytest.raises(ConfigError, match=r"none\.yaml cannot be read"):
        labelled("source:none.yaml", "text", "label")
    (tmp_path / "t.yaml").write_text("name: cvs\npath: t.csv\n")
    with pytest.raises(ConfigError, match=r"did you mean `csv`"):
        labelled("source:t.yaml", "text", "label")
    (tmp_path / "t.yaml").write_text("just words")
    with pytest.raises(ConfigError, match="holds a str, not the settings of a source"):
        labelled("source:t.yaml", "text", "label")


def test_a_file_of_the_current_folder_is_recognised_by_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("text,label\none,x\n")
    matches: list[SourceConfig] = [labelled(p, "text", "label") for p in ("t.csv", "./t.csv")]
    assert all(isinstance(source, CsvConfig) for source in matches)
    assert isinstance(detect("t.csv", TextFilesConfig(path="t.csv"))[0], CsvConfig)
