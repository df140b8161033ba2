"""The pages of the documentation: their commands, code and files."""

from __future__ import annotations

import re
from pathlib import Path

ELSEWHERE = ("make ", "BROADBASE_WRITE_GOLDEN", "apt ")  # `make` is what runs this test
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)


def commands(page: Path) -> list[str]:
    """Return the command lines of a page's fences, without comments."""
    lines = [
        line.partition("#")[0].strip()
        for kind, block in FENCE.findall(page.read_text())
        if kind in ("", "sh", "bash")
        for line in block.splitlines()
    ]
    starts = ("broadbase ", "torchrun ", "python ", *ELSEWHERE)
    return [line for line in lines if line.startswith(starts)]


def snippets(page: Path) -> list[str]:
    """Return the Python blocks of a page."""
    return [block for kind, block in FENCE.findall(page.read_text()) if kind == "python"]


def files(page: Path) -> dict[str, str]:
    """Return the blocks of a page that begin with the name of a file, by that name."""
    blocks = [block for _, block in FENCE.findall(page.read_text())]
    named = [(re.match(r"# ([\w/]+\.\w+)\n", block), block) for block in blocks]
    return {name[1]: block for name, block in named if name}
