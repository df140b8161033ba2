"""The whole demo, as a smoke test."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from broadbase.commands import main
from broadbase.core.errors import ConfigError, ResourceError
from broadbase.core.terminal import Terminal
from broadbase.demo.study import demo
from broadbase.demo.use import _run

CONSOLE = Terminal(stderr=True)


@pytest.mark.slow
def test_a_quick_demo_leaves_a_page_a_picture_and_commands_that_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    demo(Path("demo"), CONSOLE, quick=True)
    printed = capsys.readouterr()
    results = json.loads((tmp_path / "demo" / "results.json").read_text())
    assert results["headline"][0] in printed.err
    assert "whom it is about" in printed.out
    page = (tmp_path / "demo" / "report.html").read_text()
    assert (tmp_path / "demo" / "headline.svg").read_text().strip() in page
    rows = (tmp_path / "demo" / "use" / "predicted.csv").read_text()
    for line in results["commands"]:
        assert line.split()[-1] in page
        main.app(shlex.split(line)[1:], standalone_mode=False)
    assert (tmp_path / "demo" / "use" / "predicted.csv").read_text() == rows


def test_a_folder_that_exists_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exists already; delete it, or give another --out"):
        demo(tmp_path, CONSOLE)


def test_a_command_that_fails_ends_the_demo_with_its_message() -> None:
    with pytest.raises(ResourceError, match="broadbase predict nowhere"):
        _run(["predict", "nowhere", "--data", "none.csv"], CONSOLE)
