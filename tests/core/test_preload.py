"""A long command starts again with what is installed, once, and its children as if it had not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from broadbase.core import preload

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="LD_PRELOAD")

SAY = """
import json, os, sys
print("here")
from broadbase.core import preload
preload.relaunch(*sys.argv[1:])
child = [os.environ.get(name) for name in ("LD_PRELOAD", preload.BEFORE)]
maps = open("/proc/self/maps").read()
print(json.dumps([preload.preloaded, sys.argv[1:], child, "libBrokenLocale" in maps]))
"""


@pytest.fixture(scope="module")
def library() -> Path:
    """One that every glibc comes with and no program loads."""
    result = [p for f in preload.FOLDERS for p in f.glob("*-linux-gnu/libBrokenLocale.so.1")]
    return result[0] if result else pytest.skip("no glibc")


def said(words: list[str], **environment: str) -> tuple[int, Any]:
    """How often the process began, and what it found itself with."""
    done = subprocess.run(
        [sys.executable, "-c", SAY, *words],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    *begun, output = done.stdout.splitlines()
    return len(begun), json.loads(output)


def test_a_long_command_starts_twice_with_its_words(library: Path) -> None:
    result = said(["pretrain", "text", "--set", "a=b c"], BROADBASE_PRELOAD=str(library))
    words = ["pretrain", "text", "--set", "a=b c"]
    assert result == (2, [[library.name], words, [None, None], True])


@pytest.mark.parametrize(
    ("words", "setting"),
    [
        (["pretrain"], "off"),
        (["doctor"], "{library}"),
        (["pretrain", "--help"], "{library}"),
        ([], "{library}"),
    ],
)
def test_others_and_those_reported_not_to_start_once(
    library: Path, words: list[str], setting: str
) -> None:
    result = said(words, BROADBASE_PRELOAD=setting.format(library=library))
    assert result == (1, [[], words, [None, None], False])


def test_what_is_installed_is_detected_the_best_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preload, "FOLDERS", (tmp_path,))
    assert preload.preloads({}) == {}
    (tmp_path / "libiomp5.so").touch()
    (tmp_path / "x86_64-linux-gnu").mkdir()
    (tmp_path / "x86_64-linux-gnu" / "libomp.so.5").touch()
    (tmp_path / "libjemalloc.so.2").touch()
    assert preload.preloads({}) == {
        "allocator": str(tmp_path / "libjemalloc.so.2"),
        "OpenMP": str(tmp_path / "x86_64-linux-gnu" / "libomp.so.5"),
    }
    assert preload.preloads({"BROADBASE_PRELOAD": "off"}) == {}
