"""Samples on the page: texts, pictures and drawings that a model generated."""

from __future__ import annotations

import base64
import io
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from broadbase.report.charts import escape


class Text(NamedTuple):
    """A prompt and the model's continuation of it."""

    source: str
    prompt: str
    continuation: str
    code: bool = False  # set in a fixed-width font

    def html(self) -> str:
        """Return a figure: the prompt and its continuation in different colours."""
        kind = ' class="code"' if self.code else ""
        words = f"<i>{escape(self.prompt)}</i>{escape(self.continuation)}"
        caption = f"<figcaption>{escape(self.source)}</figcaption>"
        return f"<figure>{caption}<pre{kind}>{words}</pre></figure>"


class Picture(NamedTuple):
    """An image and its caption."""

    caption: str
    pixels: NDArray[Any]  # in [0, 1], [H,W] or [H,W,C] with C of 1 (grey), 3 or 4

    def html(self) -> str:
        """Return a figure of the pixels, all enlarged by the same integer factor."""
        sides = self.pixels.shape[:2]
        height, width = (side * max(1, 112 // max(sides)) for side in sides)
        return _image("image/png", png(self.pixels), (width, height), self.caption)


class Drawing(NamedTuple):
    """An SVG and its caption."""

    caption: str
    svg: str  # a complete document

    def html(self) -> str:
        """Return a figure of the drawing."""
        return _image("image/svg+xml", self.svg.encode(), (150, 112), self.caption)


def png(pixels: NDArray[Any]) -> bytes:
    """Return pixels in [0, 1], [H,W] or [H,W,C] with C of 1, 3 or 4, as a PNG file."""
    pixels = np.clip(np.nan_to_num(np.asarray(pixels, dtype=float)), 0, 1)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    file = io.BytesIO()
    Image.fromarray(np.rint(255 * pixels).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def _image(kind: str, content: bytes, size: tuple[int, int], caption: str) -> str:
    data, words = base64.b64encode(content).decode(), escape(caption)
    return (
        f'<figure class="picture"><img src="data:{kind};base64,{data}" width="{size[0]}"'
        f' height="{size[1]}" alt="{words}"><figcaption>{words}</figcaption></figure>'
    )
