"""Templates: a record as a part of a prompt, by the names of its columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from string import Formatter
from typing import Any, NamedTuple

from broadbase.core.config import hint
from broadbase.core.sources import parts

TEXT, PAIR = ("text",), ("first", "second")  # columns of records that have no names
END = "label:"  # after which the answer follows, where no template is given


class Piece(NamedTuple):
    """A text of a template, and the column that follows it; None at its end."""

    text: str
    column: str | None


@dataclass(frozen=True)
class Template:
    """A text in which {column} stands for a column of the record; {} for the first."""

    text: str
    columns: tuple[str, ...]

    @classmethod
    def of(cls, text: str, columns: Sequence[str]) -> Template:
        """Return a template; an empty one has a line for each column, and one for the answer."""
        lines = [f"{name}: {{{name}}}" for name in columns]
        return cls(text or "\n".join([*lines, END]), tuple(columns))

    @property
    def problem(self) -> str:
        """What is wrong with the template; empty where nothing is."""
        try:
            names = [piece.column for piece in self._pieces if piece.column is not None]
        except ValueError as error:
            return (
                f"template {self.text!r} cannot be read: {error}; write a column as {{name}}, and a"
                " brace as {{ or }}"
            )
        for name in names:
            if name and name not in self.columns:
                return (
                    f"template {self.text!r} has the column {name!r}, which records do not have"
                    f"{hint(name, self.columns)}; name its columns with --field and --second"
                )
        if not names:
            return f"template {self.text!r} has no column of the record, such as {self._some}"
        return ""

    def fill(self, raw: Any) -> str:
        """Return the text of a record."""
        values = dict(zip(self.columns, parts(raw), strict=True))
        values[""] = values[self.columns[0]]
        return "".join(
            piece.text + ("" if piece.column is None else values[piece.column])
            for piece in self._pieces
        )

    @property
    def before_answer(self) -> str:
        """What stands between the record and its answer: a space, unless the template ends in one.

        Tokenizers put a space at the beginning of a word.
        """
        return "" if self.text[-1:].isspace() else " "

    @property
    def _some(self) -> str:
        return f"{{{self.columns[0]}}}"

    @cached_property
    def _pieces(self) -> tuple[Piece, ...]:
        return tuple(self._parsed())

    def _parsed(self) -> Iterator[Piece]:
        for text, column, form, conversion in Formatter().parse(self.text):
            if form or conversion:
                raise ValueError(f"a column has no format, as in {column!r}")
            yield Piece(text, column)
