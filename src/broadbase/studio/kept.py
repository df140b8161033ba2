"""Adapted bases that the studio keeps: ROOT/adapted/NAME, their scores, and what they predict."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException

from broadbase.adapt.adapted import DESCRIPTION, Adapted, described, load_adapted
from broadbase.core.errors import BroadbaseError, ConfigError
from broadbase.core.sources import Record
from broadbase.data.sources.fields import FULL_ROW
from broadbase.data.table_columns import tables_at
from broadbase.evidence.interval import Interval, paired_interval

FOLDER = "adapted"
NAME = re.compile(r"\w[\w-]{0,39}")
IN_MEMORY = 2  # adapted bases
HEAD = ("origin", "error")  # columns of predictions that are not predicted


@dataclass(frozen=True)
class Card:
    """What a page says of an adapted base."""

    name: str
    folder: Path
    description: Mapping[str, Any]

    @property
    def read(self) -> Mapping[str, str]:
        """The table that was learned from, and its columns."""
        read: Mapping[str, str] = self.description["card"].get("read", {})
        return read

    @property
    def result(self) -> Mapping[str, Any]:
        """The scores of held-out records."""
        result: Mapping[str, Any] = self.description["card"].get("result", {})
        return result

    @property
    def selection(self) -> Mapping[str, Any]:
        """The methods that were tried; empty where there was no choice."""
        selection: Mapping[str, Any] = self.description["card"].get("selection", {})
        return selection

    @property
    def method(self) -> str:
        """The method that learned."""
        chosen = self.selection.get("method", self.description["method"])
        return str(chosen["name"])

    @property
    def score(self) -> Interval | None:
        """The mean score over splits, with its 95 % interval where there are three or more."""
        scores = self.result.get("scores", ())
        if not scores:
            return None
        if len(scores) < 3:
            return Interval(sum(scores) / len(scores))
        return paired_interval(scores, [0.0] * len(scores))

    @property
    def chance(self) -> Mapping[str, Any] | None:
        """The comparison with the best answer that reads no record."""
        return next(iter(self.result.get("comparisons", ())), None)


class KeptBases:
    """The adapted bases under a root."""

    def __init__(self, root: Path, device: str) -> None:
        """Take the root of the studio."""
        self.root, self.device = root, device
        self._loaded: OrderedDict[str, tuple[int, Adapted]] = OrderedDict()

    @property
    def folder(self) -> Path:
        """The folder that holds them."""
        return self.root / FOLDER

    def path(self, name: str) -> Path:
        """Return the folder of a name; ConfigError of one that is no name."""
        if not NAME.fullmatch(name):
            raise ConfigError(
                f"name: {name[:80]!r} is no name; take up to 40 letters, digits, _ and -"
            )
        return self.folder / name

    def get(self, name: str) -> Card | None:
        """Return an adapted base; None if there is none. BroadbaseError of a damaged one."""
        folder = self.folder / name
        inside = NAME.fullmatch(name) and folder.resolve().is_relative_to(self.root.resolve())
        if not inside or not (folder / DESCRIPTION).is_file():
            return None
        return Card(name, folder, described(folder))

    def card(self, name: str) -> Card:
        """Return an adapted base; HTTPException 404 if there is none."""
        card = self.get(name)
        if card is None:
            raise HTTPException(404, "nothing of this name is kept")
        return card

    def all(self) -> list[Card]:
        """Return those that can be read, in the order of their names."""
        cards = list[Card]()
        for path in sorted(self.folder.glob("*")):
            with suppress(BroadbaseError):
                if card := self.get(path.name):
                    cards.append(card)
        return cards

    def predict(self, name: str, records: Sequence[Any]) -> Sequence[dict[str, Any]]:
        """Predict records; called in the thread that computes."""
        card = self.card(name)
        stamp = (card.folder / DESCRIPTION).stat().st_mtime_ns
        if name not in self._loaded or self._loaded[name][0] != stamp:
            self._loaded.pop(name, None)
            while len(self._loaded) >= IN_MEMORY:
                self._loaded.popitem(last=False)
            self._loaded[name] = (stamp, load_adapted(card.folder, self.device))
        self._loaded.move_to_end(name)
        return self._loaded[name][1].predict(records)


def probabilities(row: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Return the classes of a predicted row with their probabilities, the likeliest first."""
    pairs = [(m[1], float(v)) for k, v in row.items() if (m := re.fullmatch(r"p\((.*)\)", k, re.S))]
    return sorted(pairs, key=lambda pair: -pair[1])


def predicted_rows(table: Path, predictions: Path) -> Iterator[dict[str, str]]:
    """Yield each row of a table with what was predicted of it, in the order of the table.

    The columns of predictions are called `predicted`, `predicted probability` and so on.
    """
    with predictions.open(encoding="utf-8", newline="") as file:
        predicted = csv.DictReader(file)
        names = {name: _called(name) for name in predicted.fieldnames or ()}
        items = (item for source in tables_at(str(table))[:1] for item in _rows(source))
        origin, row = next(items, ("", {}))
        for each in predicted:
            plain = dict[str, str]()
            if origin == each["origin"]:
                plain = {name: "" if value is None else str(value) for name, value in row.items()}
                origin, row = next(items, ("", {}))
            yield plain | {names[k]: _rounded(v) for k, v in each.items() if k != "origin"}


def csv_lines(rows: Iterator[dict[str, str]]) -> Iterator[str]:
    """Yield the lines of a CSV file of rows; the columns are those of the first hundred."""
    first = list(islice(rows, 100))
    names = list(dict.fromkeys(name for row in first for name in row))
    errors = [name for name in names if name == "error"]
    text = io.StringIO()
    names = [*(name for name in names if name != "error"), *errors]
    writer = csv.DictWriter(text, names, extrasaction="ignore", restval="")
    writer.writeheader()
    for row in (each for some in (first, rows) for each in some):
        writer.writerow(row)
        if text.tell() > 1 << 16:
            yield text.getvalue()
            text.seek(0)
            text.truncate()
    yield text.getvalue()


def _rows(source: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for item in source.replace(field=FULL_ROW).records():
        if isinstance(item, Record):
            yield item.origin, item.raw


def _called(name: str) -> str:
    if name == "error":
        return name
    return "predicted" if name in ("label", "value", "prediction") else f"predicted {name}"


def _rounded(text: str) -> str:
    """Return a number with four digits; other texts as they are."""
    try:
        number = float(text)
    except (TypeError, ValueError):
        return text or ""
    return f"{number:.4g}" if math.isfinite(number) and "." in text else text
