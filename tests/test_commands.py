"""Commands are listed without being imported, and each is where the list says."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
import typer.main

from broadbase.commands.options import COMMANDS, app


def test_every_command_is_where_the_list_says() -> None:
    for module in {module for module, _ in COMMANDS.values()}:
        importlib.import_module(f"broadbase.commands.{module}")
    registered = {
        typer.main.get_command_name(info.name or info.callback.__name__): info.callback.__module__
        for info in app.registered_commands
        if info.callback
    }
    assert registered == {
        name: f"broadbase.commands.{module}" for name, (module, _) in COMMANDS.items()
    }


@pytest.mark.parametrize("words", ["--help", "--version", "no-such-command"])
def test_what_needs_no_model_loads_no_torch(words: str) -> None:
    script = (
        "import sys; from broadbase.commands.main import app\n"
        f"try: app(['{words}'])\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
