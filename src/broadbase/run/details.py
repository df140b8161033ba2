"""What the folder of a run says beyond its journal: units, rejected records, environment, samples.

Nothing of it is needed to train; what cannot be read is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from broadbase.core.errors import DataError
from broadbase.core.files import read_json
from broadbase.run.journal import objects, rows
from broadbase.run.summary import Head

SHOWN = 20  # rejected records of a source
BEGIN = 1 << 16  # bytes of a file of which the beginning, or the end, is shown
LONGEST = 1 << 20  # bytes of a config that is shown


@dataclass(frozen=True)
class Source:
    """The prepared data of a source."""

    name: str
    unit: str = "unit"
    counts: Mapping[str, int] | None = None  # None where the prepared data is elsewhere
    rejected: tuple[tuple[str, str], ...] = ()  # origin and reason of the first ones
    fingerprint: str = ""  # of all records, the split and the codec


@dataclass(frozen=True)
class Sample:
    """What the model generated after a step."""

    step: int
    source: str
    prompt: str
    text: str
    picture: str = ""  # a PNG file in base64


def sources(folder: Path, head: Head) -> list[Source]:
    """Return the sources of a run, without counts where their stores are not in its folder."""
    if head.store is not None:
        read = [Source(name) for name in head.sources]
    else:
        read = [_source(folder / "data" / name, name) for name in head.sources]
    fingerprints = _fingerprints(folder)
    return [replace(each, fingerprint=fingerprints.get(each.name, "")) for each in read]


def _fingerprints(folder: Path) -> dict[str, str]:
    with suppress(DataError, TypeError, KeyError, AttributeError):
        return {str(k): str(v) for k, v in read_json(folder / "env.json")["data"].items()}
    return {}


def _source(store: Path, name: str) -> Source:
    if store.parent.resolve() != store.resolve().parent:  # a link
        return Source(name)
    try:
        manifest = read_json(store / "manifest.json")
        counts = {key: int(value) for key, value in manifest["counts"].items()}
        rejected = _rejected(store / "rejected.jsonl")
        return Source(name, str(manifest["unit"]), counts, rejected)
    except (DataError, OSError, KeyError, TypeError, ValueError, AttributeError):
        return Source(name)


def _rejected(path: Path) -> tuple[tuple[str, str], ...]:
    if path.is_symlink() or not path.exists():
        return ()
    with path.open("rb") as file:
        records = objects(file.read(BEGIN))[:SHOWN]
    return tuple((str(row.get("origin", "")), str(row.get("reason", ""))) for row in records)


def environment(folder: Path) -> dict[str, str]:
    """Return what the run was begun on, in words."""
    with suppress(DataError):
        facts = read_json(folder / "env.json")
        plain = {k: v for k, v in facts.items() if isinstance(v, str | int | float) and v != ""}
        return {key: str(value) for key, value in plain.items()}
    return {}


def config_text(folder: Path) -> str:
    """Return the config of a run as it is written."""
    with suppress(OSError), (folder / "config.yaml").open("rb") as file:
        return file.read(LONGEST).decode(errors="replace")
    return ""


def samples(folder: Path) -> list[Sample]:
    """Return what the model generated at its newest evaluations, the newest first."""
    with suppress(OSError), (folder / "samples.jsonl").open("rb") as file:
        size = (folder / "samples.jsonl").stat().st_size
        file.seek(max(0, size - BEGIN))
        read = rows(file.read(BEGIN))
        return [_sample(row) for row in reversed(read)]
    return []


def _sample(row: Mapping[str, Any]) -> Sample:
    keys = ("source", "prompt", "text", "picture")
    return Sample(row["step"], *(str(row.get(key, "")) for key in keys))
