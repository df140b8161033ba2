"""OpenMoji: pictures with names and tags, as an npm package of vector drawings."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from PIL import Image
from pydantic import Field

from broadbase.core.extras import require_extra
from broadbase.core.sources import Record, Reject, SourceConfig


class EmojiConfig(SourceConfig):
    """Every emoji without a skin tone, known by its code point: its picture, or its description."""

    name: Literal["openmoji"] = "openmoji"
    path: str
    """The folder of the npm package."""
    part: Literal["picture", "description"] = "picture"
    """What a record is: the picture, or the description as a text."""
    size: Annotated[int, Field(ge=8, le=1024)] = 32
    """The pixels of a side of the picture."""

    def records(self) -> Iterator[Record | Reject]:
        """Yield the records and rejects in a fixed order."""
        for row in self._rows():
            origin = f"{self.path}:{row['hexcode']}"
            try:
                raw = self._picture(row["hexcode"]) if self.part == "picture" else described(row)
            except (OSError, ValueError) as error:
                yield Reject(origin, str(error))
                continue
            yield Record(raw, origin, row["group"], key=row["hexcode"])

    def fingerprint(self) -> dict[str, str]:
        """Return the SHA-256 of each file that the records are made of."""
        data = Path(self.path, "data", "openmoji.json").read_bytes()
        return {"openmoji.json": hashlib.sha256(data).hexdigest()}

    def _rows(self) -> list[dict[str, Any]]:
        rows = json.loads(Path(self.path, "data", "openmoji.json").read_text(encoding="utf-8"))
        return [row for row in rows if not row["skintone"]]

    def _picture(self, code: str) -> Image.Image:
        file = Path(self.path, "color", "svg", f"{code}.svg")
        return on_white(drawing(file.read_text(encoding="utf-8"), self.size))


def drawing(svg: str, size: int) -> Image.Image:
    """Return a vector drawing, at most `size` pixels a side; raise ValueError where it is none.

    Where its extents are points, an inch is 96 pixels, as in CSS.
    """
    resvg = require_extra("resvg_py", "svg", "drawing SVG")
    png = resvg.svg_to_bytes(svg_string=svg, width=size, height=size, dpi=96)
    return Image.open(io.BytesIO(bytes(png)))


def on_white(picture: Image.Image) -> Image.Image:
    """Return what is transparent, white: RGB."""
    drawn = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn).convert("RGB")


def described(row: dict[str, Any]) -> str:
    """Return its name, then what it is tagged with."""
    tags = f"{row['tags']}, {row['openmoji_tags']}".strip(", ")
    return f"{row['annotation']}: {tags}" if tags else str(row["annotation"])
