"""What is printed for people: names and data are shown as they are, and obeyed never."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.progress import Progress, TextColumn
from rich.text import Text

from broadbase.core.terminal import HIDDEN, Terminal, raw, visible
from broadbase.report.tables import print_table

EVIL = "a[/b] [red]x[/red] :smile: \x1b[2J\x1b]0;title\x07 \x9b31m \r\x00 \u202e \udcff é"
SHOWN = r"a[/b] [red]x[/red] :smile: \x1b[2J\x1b]0;title\x07 \x9b31m \r\x00 \u202e \udcff é"


def terminal(width: int = 200, **options: bool) -> tuple[Terminal, io.StringIO]:
    file = io.StringIO()
    return Terminal(file=file, width=width, **options), file


def test_a_text_is_printed_as_it_is() -> None:
    assert visible(EVIL) == SHOWN
    assert visible("one\n\ttwo") == "one\n\ttwo"
    for show in ("say", "print"):
        console, file = terminal()
        getattr(console, show)(EVIL)
        assert file.getvalue() == SHOWN + "\n"


def test_tables_and_bars_too() -> None:
    console, file = terminal()
    print_table([{EVIL: EVIL, "n": 1.5, "none": None}], (EVIL, "n", "none"), EVIL, console)
    assert file.getvalue().count(SHOWN) == 3
    assert not HIDDEN.search(file.getvalue())
    console, file = terminal(force_terminal=True)
    with Progress(TextColumn("{task.description}", markup=False), console=console) as bar:
        bar.add_task(EVIL)
    console.print(Text(EVIL))
    assert "\x1b[2J" not in file.getvalue()
    assert "\x1b]0" not in file.getvalue()
    assert file.getvalue().count("[/b]") >= 2


@given(st.text(st.characters()))
@settings(max_examples=200, deadline=None)
def test_no_control_character_is_printed(text: str) -> None:
    console, file = terminal()
    console.say(text)
    print_table([{"a": text}], ("a",), text, console)
    assert not HIDDEN.search(file.getvalue())


def test_a_table_in_a_file_has_no_cut_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    console, file = Terminal(file=io.StringIO()), io.StringIO()
    console.file = file
    name = "a_name_of_more_than_eighty_characters_" * 3
    print_table([{"source": name, "what": name}], ("source", "what"), "sources", console)
    assert name in file.getvalue()
    assert "…" not in file.getvalue()


def test_a_result_is_unchanged_where_a_program_reads_it(capsys: pytest.CaptureFixture[str]) -> None:
    raw("a\x1b[2Jb")
    assert capsys.readouterr().out == "a\x1b[2Jb\n"


def broadbase(line: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    command = line.replace("broadbase", f"{sys.executable} -m broadbase")
    return subprocess.run(["bash", "-c", command], capture_output=True, cwd=folder, check=False)


LINES = {  # a shell's line, its exit code, what stderr says
    "version": ("broadbase --version", 0, b""),
    "nothing": ("broadbase", 2, b"Commands:"),
    "markup": (r"broadbase resume $'a[/b]\x1b[2J'", 2, rb"a[/b]\x1b[2J holds no run"),
    "usage": (r"broadbase $'a[/b]\x1b[2J'", 2, rb"No such command 'a[/b]\x1b[2J'"),
    "no utf-8": (r"broadbase resume $'caf\xe9'", 2, rb"caf\udce9 holds no run"),
    "ascii": ("PYTHONIOENCODING=ascii broadbase resume café", 2, rb"caf\xe9 holds no run"),
    "a closed pipe": ("(sleep 3; broadbase recipes --json; echo $? >&2) | true", 0, b"141"),
    "a full disk": ("broadbase recipes --json > /dev/full", 5, b"No space left"),
    "no stdout": ("broadbase recipes >&-", 0, b""),
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code"), [("INT", 130), ("TERM", 143)])
def test_a_stopped_command_says_so(name: str, code: int, tmp_path: Path) -> None:
    """Bash gives a background process no SIGINT, so Python sends it by itself."""
    (tmp_path / "stop.py").write_text(
        f"import os, signal, threading\n"
        f"threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIG{name})).start()\n"
        "while True: pass\n"
    )
    done = broadbase("BROADBASE_PLUGINS=stop broadbase recipes", tmp_path)
    assert done.returncode == code, done.stderr
    assert done.stderr.count(b"\n") == 1
    assert f"stopped by SIG{name} before it was done".encode() in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", LINES)
def test_the_program(kind: str, tmp_path: Path) -> None:
    line, code, message = LINES[kind]
    done = broadbase(line, tmp_path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert b"Traceback" not in done.stderr
    assert b"\x1b" not in done.stderr
