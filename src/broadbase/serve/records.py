"""Records in JSON: texts and numbers as they are, pictures and sounds in base64."""

from __future__ import annotations

import base64
import binascii
import io
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from broadbase.core.errors import DataError
from broadbase.core.sources import Reject
from broadbase.data.sources.pictures import picture
from broadbase.data.sources.sound import AudioFilesConfig

MEGAPIXELS = 16  # of a picture


def record(value: Any, at: str) -> Any:
    """Return the raw record of a value in JSON; DataError, which names where it stands, if none.

    {"image": BASE64} is a picture, {"audio": BASE64} a sound; a list of numbers is an array.
    """
    if isinstance(value, Mapping):
        if len(value) == 1:
            (kind, content), *_ = value.items()
            if kind in READERS and isinstance(content, str):
                return READERS[kind](_decoded(content, at), at)
        names = " or ".join(f'{{"{kind}": BASE64}}' for kind in READERS)
        raise DataError(f"{at}: an object must be {names}")
    if isinstance(value, list) and value and all(_is_number(each) for each in value):
        with np.errstate(over="ignore"):
            numbers = np.array(value, dtype=np.float32)
        if not np.isfinite(numbers).all():
            raise DataError(f"{at}: its numbers must be finite, also in 32 bits")
        return numbers
    if isinstance(value, str):
        return value
    raise DataError(f"{at}: expected a text, a list of numbers, or an object with a file in base64")


def image(content: bytes, at: str) -> Any:
    """Return the picture in a file's bytes; DataError if there is none."""
    read = picture(at, io.BytesIO(content), MEGAPIXELS)
    if isinstance(read, Reject):
        raise DataError(f"{at}: {read.reason}")
    return read.raw


def sound(content: bytes, at: str) -> Any:
    """Return the sound in a file's bytes, decoded in a process of its own; DataError if none."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound.wav"  # libsndfile finds the format in the bytes
        path.write_bytes(content)
        (read,) = AudioFilesConfig(path=str(path)).records()
    if isinstance(read, Reject):
        raise DataError(f"{at}: {read.reason.replace(str(path), 'the file')}")
    return read.raw


READERS: Mapping[str, Callable[[bytes, str], Any]] = {"image": image, "audio": sound}


def _decoded(content: str, at: str) -> bytes:
    """Return the bytes of base64, also of a data: URL."""
    if content.startswith("data:"):
        content = content.partition(",")[2]
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        raise DataError(f"{at}: it is no base64") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
