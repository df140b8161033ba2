"""What is printed for people: names, data and models cannot style it, move the cursor, or crash it.

Whatever a terminal shows goes through a `Terminal`, or through `visible`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

# Controls but for newline and tab, lone surrogates, and what turns the direction of a line
HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)


def visible(text: str) -> str:
    """Write each character that a terminal would obey as its escape, as \\x1b."""
    return HIDDEN.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class Terminal(Console):
    """A console that prints every text as it is: no markup, no emoji codes, `visible`."""

    def __init__(self, **options: Any) -> None:
        """Take rich's options; markup, emoji and highlighting are off."""
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Turn a string into text without control characters, so that its width is right."""
        return super().render_str(visible(text), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield what is printed, piece by piece; rich's own control codes stay."""
        for piece in super().render(renderable, options):
            yield piece if piece.control else piece._replace(text=visible(piece.text))

    def on_broken_pipe(self) -> None:
        """Let the caller know; rich would end the process."""
        raise BrokenPipeError

    def say(self, text: str) -> None:
        """Print a line, however long."""
        self.print(text, soft_wrap=True)


def echo(text: str = "", *, end: str = "\n") -> None:
    """Print a result on stdout, `visible`."""
    raw(visible(text), end=end)


def raw(text: str, *, end: str = "\n") -> None:
    """Print a result on stdout: unchanged where a program reads it, `visible` on a terminal."""
    if sys.stdout is not None:
        sys.stdout.write((visible(text) if sys.stdout.isatty() else text) + end)
        sys.stdout.flush()
