"""A config as YAML, with what each field means."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml

from broadbase.core.config import Config
from broadbase.core.descriptions import descriptions, first_sentence

FIELD = re.compile(r"^    (\w+): .*?#\s+(.+)$")
GOES_ON = re.compile(r"^    #\s+(.+)$")


def documented(config: Config) -> str:
    """Return YAML that reads back as the config, each field with the first sentence on it."""
    return "\n".join(_fields(config, "")) + "\n"


def _fields(config: Config, indent: str) -> Iterator[str]:
    notes = _notes(type(config))
    for name, field in type(config).model_fields.items():
        if not field.exclude:
            note = f"  # {notes[name]}" if name in notes else ""
            yield from _entry(name, getattr(config, name), indent, note)


def _entry(name: str, value: Any, indent: str, note: str = "") -> Iterator[str]:
    key = yaml.safe_dump(name, allow_unicode=True).removesuffix("\n...\n").strip()
    inside = f"{indent}  "
    if isinstance(value, Config):
        yield f"{indent}{key}:{note}"
        yield from _fields(value, inside)
    elif isinstance(value, dict) and value:
        yield f"{indent}{key}:{note}"
        for each, part in value.items():
            yield from _entry(each, part, inside)
    elif isinstance(value, tuple) and any(isinstance(part, Config) for part in value):
        yield f"{indent}{key}:{note}"
        for part in value:
            first, *rest = _fields(part, inside)
            yield f"{indent}- {first.lstrip()}"
            yield from rest
    else:
        plain = list(value) if isinstance(value, tuple) else value
        text = yaml.safe_dump(plain, default_flow_style=True, width=10**6).removesuffix("...\n")
        yield f"{indent}{key}: {text.strip()}{note}"


def _notes(cls: type[Config]) -> dict[str, str]:
    """Return what each field means: its docstring, or, where it has none, its comment."""
    return _comments(cls) | {k: first_sentence(text) for k, text in descriptions(cls).items()}


@cache
def _comments(cls: type[Config]) -> dict[str, str]:
    """Return what the comments of a class and its bases say of each field."""
    comments: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        try:
            lines = inspect.getsource(each).splitlines()
        except (OSError, TypeError):
            continue
        last = None
        for line in lines:
            if match := FIELD.match(line):
                last = match[1]
                comments[last] = match[2]
            elif last and (match := GOES_ON.match(line)):
                comments[last] += f" {match[1]}"
            else:
                last = None
    return comments
