"""JSON: lines of objects, or an array of them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from upath import UPath

from broadbase.core.sources import Record, Reject
from broadbase.data.sources.fields import ColumnsConfig
from broadbase.data.sources.files import MEBI
from broadbase.data.sources.texts import EncodedConfig, LinesConfig, as_text

BLANKS = " \t\r\n"
SPACE = re.compile(f"[{BLANKS}]*")


class ObjectsConfig(ColumnsConfig, EncodedConfig):
    """Files of JSON objects; not a choice by itself."""

    fixed: ClassVar[bool] = False

    def _object(self, origin: str, text: str) -> Record | Reject:
        """Return one object, as text."""
        try:
            item = loads(text)
        except json.JSONDecodeError as error:
            return Reject(origin, f"broken JSON at column {error.colno}: {error.msg}")
        except (ValueError, RecursionError) as error:  # of numbers and nesting without end
            return Reject(origin, f"JSON that cannot be read: {error}")
        return self._item(origin, item)

    def _item(self, origin: str, item: Any) -> Record | Reject:
        if isinstance(item, Twice):
            return Reject(origin, f"key {item.key!r} occurs twice in one object; keep one of them")
        if not isinstance(item, dict):
            return Reject(origin, f"expected an object, got {type(item).__name__}")
        return self._row(origin, item)


class JsonLinesConfig(ObjectsConfig, LinesConfig):
    """Every line is a JSON object with a text in `field`."""

    name: Literal["jsonl"] = "jsonl"
    pattern: str = "**/*.jsonl **/*.jsonl.gz **/*.jsonl.zst **/*.ndjson **/*.jsonlines"

    def _line(self, origin: str, line: bytes) -> Record | Reject:
        text = as_text(origin, line)
        del line  # of a long one, there is not room for several copies
        return text if isinstance(text, Reject) else self._object(origin, text.raw)


class JsonConfig(ObjectsConfig):
    """Every file is an array of JSON objects, or one object; of lines, see `jsonl`."""

    name: Literal["json"] = "json"
    pattern: str = "**/*.json"
    limit: Annotated[int, Field(ge=1)] = 256
    """The most mebibytes of a file, unpacked."""

    def _file(self, path: UPath) -> Iterator[Record | Reject]:
        with self._opened(path) as file:
            data = file.read(self.limit * MEBI + 1)
        if len(data) > self.limit * MEBI:
            reason = f"more than {self.limit} MiB in one array; write a line a record (.jsonl)"
            yield Reject(str(path), f"{reason}, or raise the source's `limit`")
            return
        record = as_text(str(path), data)
        if isinstance(record, Reject):
            yield record
            return
        text = record.raw.strip(BLANKS)
        if text.startswith("["):
            yield from self._array(path, text)
        elif _lines(text):
            for number, line in enumerate(record.raw.split("\n"), 1):
                if line.strip(BLANKS):
                    yield self._object(f"{path}:{number}", line)
        else:
            yield self._object(str(path), text)

    def _array(self, path: UPath, text: str) -> Iterator[Record | Reject]:
        """Yield the records of an array; where it is broken, what is lost from there on."""
        number, done = 0, 1
        try:
            for item, end in _elements(text):
                number, done = number + 1, end
                yield self._item(f"{path}:record {number}", item)
        except (ValueError, RecursionError) as error:
            lost = math.ceil(path.stat().st_size * (1 - done / len(text)))
            origin = f"{path}:record {number + 1}"
            yield Reject(origin, f"broken JSON from here on: {error}", lost=lost)
        else:
            if not number:
                yield Reject(str(path), "no records", empty=True)


class Twice(dict[str, Any]):
    """An object that has a key twice, `key`; JSON does not say which value counts."""

    key: str


def loads(text: str) -> Any:
    """Return what a JSON text says; an object with a key twice is a Twice."""
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) == len(pairs):
        return record
    marked = Twice(record)
    keys = [key for key, _ in pairs]
    marked.key = next(key for key in keys if keys.count(key) > 1)
    return marked


def _elements(text: str) -> Iterator[tuple[Any, int]]:
    """Yield the elements of an array, each with where it ends.

    Raise ValueError where the array is broken.
    """
    decode, at = json.JSONDecoder(object_pairs_hook=_object).raw_decode, _after(text, 1)
    if text.startswith("]", at):
        at = _after(text, at + 1)
    else:
        while True:
            item, at = decode(text, at)
            yield item, at
            at = _after(text, at)
            if not text.startswith((",", "]"), at):
                raise json.JSONDecodeError("expected ',' or ']'", text, at)
            at, more = _after(text, at + 1), text[at] == ","
            if not more:
                break
    if at < len(text):
        raise json.JSONDecodeError("something follows the array", text, at)


def _after(text: str, at: int) -> int:
    """Return the first index from `at` on that is not blank."""
    match = SPACE.match(text, at)
    assert match is not None
    return match.end()


def _lines(text: str) -> bool:
    """Return whether a text is several lines, the first an object by itself."""
    first, newline, _ = text.partition("\n")
    try:
        return bool(newline) and isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False
