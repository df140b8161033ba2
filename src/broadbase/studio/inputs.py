"""What a person gives a base to try: a text, a picture or a sound, and how to sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from broadbase.core.errors import ConfigError, DataError
from broadbase.inference.autoregressive import SamplingConfig
from broadbase.serve.records import image, sound
from broadbase.studio.abilities import PICTURES, SOUNDS
from broadbase.studio.bases import Description

CHARACTERS = 20_000  # of a text
NEW_TOKENS = 512  # the most that are generated at once
NAMES = 100  # the most names or texts that are ranked
NO_TEXT = {"video", "album"}  # kinds of records that no text, picture or sound is
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm")

Kind = Literal["nothing", "text", "picture", "sound"]


@dataclass(frozen=True)
class Given:
    """What a base is given, and the settings of sampling."""

    kind: Kind
    record: Any  # None, a text, a picture or a sound
    file: str  # the name of the file that held it; empty for a text
    modality: str  # as the person chose it; empty: by what is given
    names: tuple[str, ...]  # to be ranked
    sampling: SamplingConfig
    max_new_tokens: int


def given(fields: Mapping[str, Any], file: str, content: bytes) -> Given:
    """Return what a form holds: its fields, and the name and bytes of its file, maybe empty.

    ConfigError or DataError names the first field that is wrong.
    """
    text = str(fields.get("text", "")).replace("\r\n", "\n")
    if len(text) > CHARACTERS:
        raise DataError(f"the text has {len(text):,} characters; give at most {CHARACTERS:,}")
    lines = str(fields.get("names", "")).splitlines()
    names = tuple(dict.fromkeys(name.strip() for name in lines if name.strip()))
    if len(names) > NAMES:
        raise DataError(f"{len(names)} names are given; give at most {NAMES}")
    kind, record = _record(text, file, content)
    tokens = _number(fields, "max_new_tokens", int) or 64
    if not 1 <= tokens <= NEW_TOKENS:
        raise ConfigError(f"new tokens: {tokens} is not within 1 and {NEW_TOKENS}")
    return Given(
        kind,
        record,
        Path(file).name if kind in ("picture", "sound") else "",
        str(fields.get("modality", "")),
        names,
        _sampling(fields),
        tokens,
    )


def space_of(description: Description, what: Given) -> str:
    """Return the modality by which a base reads what is given; DataError if it has none."""
    kinds = description.modalities
    if what.modality:
        if what.modality not in kinds:
            raise DataError(f"it has no modality {what.modality!r}; it has: {', '.join(kinds)}")
        fits = _fits(kinds[what.modality], what.kind)
        return what.modality if fits else _refuse(what, what.modality)
    fitting = [space for space, kind in kinds.items() if _fits(kind, what.kind)]
    return fitting[0] if fitting else _refuse(what, ", ".join(kinds))


def record_of(kind: str, what: Given) -> Any:
    """Return what is given as a raw record of a kind of modality: of a cell, counts by gene."""
    if kind != "cell" or not isinstance(what.record, str):
        return what.record
    counts = dict[str, float]()
    for number, line in enumerate(what.record.splitlines(), 1):
        gene, _, count = line.strip().replace(",", " ").replace("\t", " ").rpartition(" ")
        if not line.strip():
            continue
        try:
            counts[gene.strip()] = float(count)
        except ValueError:
            raise DataError(
                f"line {number} of the cell is {line[:60]!r}; write a gene and its count on each"
                " line, such as `CD3E 4`"
            ) from None
    return counts


def _fits(modality: str, kind: Kind) -> bool:
    if kind == "nothing":
        return True
    if kind == "picture":
        return modality in PICTURES
    if kind == "sound":
        return modality in SOUNDS
    return modality not in PICTURES | SOUNDS | NO_TEXT


def _refuse(what: Given, spaces: str) -> str:
    noun = {"picture": "a picture", "sound": "a sound"}.get(what.kind, "a text")
    raise DataError(f"it does not read {noun} as {spaces}; give it what it was trained on")


def _record(text: str, file: str, content: bytes) -> tuple[Kind, Any]:
    """Return a picture or a sound if there is a file, otherwise the text."""
    if not content:
        if file:
            raise DataError(f"{Path(file).name} is an empty file")
        return ("text", text) if text else ("nothing", None)
    name = Path(file).name
    try:
        return "picture", image(content, name)
    except DataError:
        if file.lower().endswith(PICTURE_ENDINGS) or not _may_be_sound(content):
            raise
    return "sound", sound(content, name)


def _may_be_sound(content: bytes) -> bool:
    """Return whether the first bytes are those of WAV, FLAC, Ogg or MP3."""
    starts = (b"RIFF", b"fLaC", b"OggS", b"ID3")
    return content.startswith(starts) or (content[0] == 0xFF and content[1:2] >= b"\xe0")


def _sampling(fields: Mapping[str, Any]) -> SamplingConfig:
    settings = {
        "temperature": _number(fields, "temperature", float),
        "top_k": _number(fields, "top_k", int),
        "top_p": _number(fields, "top_p", float),
        "seed": _number(fields, "seed", int),
    }
    return SamplingConfig.from_tree({k: v for k, v in settings.items() if v is not None})


def _number(fields: Mapping[str, Any], name: str, kind: type[int] | type[float]) -> Any:
    """Return the number in a field; None where it is empty."""
    text = str(fields.get(name, "")).strip()
    try:
        return kind(text) if text else None
    except ValueError:
        label = name.replace("_", " ")
        raise ConfigError(f"{label}: {text[:40]!r} is no {kind.__name__}") from None
