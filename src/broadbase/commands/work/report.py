"""The work of `report`: what a run did, as a page that needs no server."""

from __future__ import annotations

from pathlib import Path

from broadbase.commands.options import log
from broadbase.core.errors import ConfigError
from broadbase.report.run_page import write_run_report


def report(folder: Path, out: Path | None) -> None:
    """Write the report of a run into its folder, or to `out`."""
    if not (folder / "config.yaml").is_file():
        raise ConfigError(f"{folder} holds no run: there is no config.yaml in it")
    path = out or folder / "report.html"
    write_run_report(folder, path)
    log.say(f"report in {path}")
