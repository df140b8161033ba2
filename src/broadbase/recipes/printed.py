"""A config as YAML, with what each field means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from broadbase.core.config import Config
from broadbase.core.descriptions import descriptions, first_sentence


def documented(config: Config) -> str:
    """Return YAML that reads back as the config, each field with the first sentence on it."""
    return "\n".join(_fields(config, "")) + "\n"


def _fields(config: Config, indent: str) -> Iterator[str]:
    notes = descriptions(type(config))
    for name, field in type(config).model_fields.items():
        if not field.exclude:
            note = f"  # {first_sentence(notes[name])}" if name in notes else ""
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
