"""Records as a page shows them: texts as they are, pictures, drawings and sounds as files of ours.

The content-security policy allows no data: URL, so each file has a path of its own for a while.
"""

from __future__ import annotations

import io
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

from broadbase.core.errors import BroadbaseError
from broadbase.core.extras import require_extra
from broadbase.demo.molecules import draw
from broadbase.modalities.molecule import canonical
from broadbase.report.samples import png

FILES, BYTES = 400, 64_000_000  # the most files that are kept, and what they take together
LONGEST = 300  # characters of a text that is one of several
SIDE = 512  # pixels of a picture that is shown


@dataclass(frozen=True)
class Shown:
    """A record on a page."""

    text: str = ""
    url: str = ""
    kind: Literal["text", "picture", "sound"] = "text"


class Files:
    """Files in memory by an unguessable name; the oldest go."""

    def __init__(self, prefix: str) -> None:
        """Name files `prefix`/NAME."""
        self.prefix = prefix
        self._files: OrderedDict[str, tuple[bytes, str]] = OrderedDict()

    def keep(self, content: bytes, media_type: str) -> str:
        """Keep a file; return its path."""
        name = secrets.token_urlsafe(12)
        self._files[name] = (content, media_type)
        while len(self._files) > FILES or sum(len(c) for c, _ in self._files.values()) > BYTES:
            self._files.popitem(last=False)
        return f"{self.prefix}/{name}"

    def get(self, name: str) -> tuple[bytes, str] | None:
        """Return the bytes and media type of a file; None where it is gone."""
        return self._files.get(name)

    def picture(self, pixels: Any, caption: str) -> Shown:
        """Return a picture, from an image or pixels in [0, 1]; small ones are enlarged."""
        if isinstance(pixels, Image.Image):
            image = pixels.convert("RGB")
        else:
            image = Image.open(io.BytesIO(png(pixels)))
        image.thumbnail((SIDE, SIDE))
        factor = max(1, 160 // max(image.size))
        size = (image.width * factor, image.height * factor)
        file = io.BytesIO()
        image.resize(size, Image.Resampling.NEAREST).save(file, "PNG")
        return Shown(caption, self.keep(file.getvalue(), "image/png"), "picture")

    def molecule(self, smiles: str) -> Shown | None:
        """Return RDKit's drawing of a molecule; None where it is none, or RDKit is missing."""
        try:
            one = canonical(smiles)
            drawing = draw(one) if one else None
        except BroadbaseError:
            return None
        if drawing is None:
            return None
        return Shown(smiles, self.keep(drawing.encode(), "image/svg+xml"), "picture")

    def sound(self, samples: Any, rate: int) -> Shown:
        """Return a sound, or words where it cannot be written."""
        words = f"{len(samples) / rate:.1f} s of sound"
        try:
            library = require_extra("soundfile", "audio", "playing sounds")
        except BroadbaseError:
            return Shown(words)
        file = io.BytesIO()
        library.write(file, np.clip(samples, -1, 1), rate, format="WAV", subtype="PCM_16")
        return Shown(words, self.keep(file.getvalue(), "audio/wav"), "sound")

    def record(self, kind: str, raw: Any, rate: int = 16_000) -> Shown:
        """Return a raw record of a kind of modality, shortened where it is long."""
        if isinstance(raw, Image.Image) or (isinstance(raw, np.ndarray) and raw.ndim == 3):
            return self.picture(raw, "picture")
        if isinstance(raw, np.ndarray) and raw.ndim == 1 and raw.dtype.kind == "f":
            return self.sound(raw, rate)
        if kind == "molecule" and (drawing := self.molecule(str(raw))):
            return drawing
        if isinstance(raw, Sequence) and not isinstance(raw, str):
            raw = ", ".join(map(str, raw))
        text = str(raw)
        return Shown(text if len(text) <= LONGEST else f"{text[:LONGEST]}…")
