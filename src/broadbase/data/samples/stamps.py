"""Stamps of Tux Paint: a picture, its name in many languages, and the names spoken.

Of each stamp STEM there are STEM.png or STEM.svg; STEM.txt, whose first line is the English name
and whose others read LANGUAGE.utf8=NAME; and STEM_desc_LANGUAGE.ogg, where somebody spoke it. A
record is a stamp in one language. Stamps of one English name are one concept and fall on one side.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, NamedTuple

from PIL import Image, ImageOps
from pydantic import Field
from upath import UPath

from broadbase.core.sources import Record, Reject
from broadbase.data.samples.emoji import drawing, on_white
from broadbase.data.sources.files import FilesConfig
from broadbase.data.sources.sound import SoundsConfig

LANGUAGES = ("be", "bg", "ca", "el", "es", "fr", "ro", "ru")  # most stamps are spoken in these


class Stamp(NamedTuple):
    """A stamp in one language."""

    language: str
    name: str
    sound: UPath
    concept: str  # its English name, lower-case


class StampsConfig(FilesConfig):
    """What the three kinds of records share; not a choice by itself. A record's label is its
    language."""

    pattern: str = "**/*.txt"
    languages: tuple[str, ...] = LANGUAGES
    """The languages in which names are read."""
    longest: Annotated[int, Field(ge=1)] = 40
    """The most characters of a name; longer ones are sentences."""

    def stamps(self, path: UPath) -> Iterator[Stamp]:
        """Yield the languages in which the stamp of a .txt file is both named and spoken."""
        english, *others = path.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
        names = {"en": english} | dict(
            each.split(".utf8=", 1) for each in others if ".utf8=" in each
        )
        for language in self.languages:
            name = names.get(language, "").strip().removesuffix(".")
            sound = path.with_name(f"{path.stem}_desc_{language}.ogg")
            if 0 < len(name) <= self.longest and sound.is_file():
                yield Stamp(language, name, sound, english.strip().removesuffix(".").lower())

    def _record(self, raw: Any, stamp: Stamp) -> Record:
        origin, key = str(stamp.sound), self._key(stamp.sound)
        return Record(raw, origin, stamp.language, key, stamp.concept)


class StampNamesConfig(StampsConfig):
    """The names."""

    name: Literal["stamp_names"] = "stamp_names"

    def _file(self, path: UPath) -> Iterator[Record | Reject]:
        for stamp in self.stamps(path):
            yield self._record(stamp.name, stamp)


class StampPicturesConfig(StampsConfig):
    """The pictures, on a white square; the same one for each language."""

    name: Literal["stamp_pictures"] = "stamp_pictures"
    size: Annotated[int, Field(ge=8, le=1024)] = 32
    """The pixels of a side of the picture."""

    def _file(self, path: UPath) -> Iterator[Record | Reject]:
        if not (stamps := list(self.stamps(path))):
            return
        try:
            picture = self._picture(path)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            yield Reject(str(path), f"its picture cannot be read: {error}")
            return
        for stamp in stamps:
            yield self._record(picture, stamp)

    def _picture(self, path: UPath) -> Image.Image:
        file = path.with_suffix(".png")
        if not file.is_file():
            drawn = drawing(path.with_suffix(".svg").read_text(encoding="utf-8"), self.size)
        else:
            with file.open("rb") as opened, Image.open(opened) as drawn:
                drawn.load()
        return ImageOps.pad(on_white(drawn), (self.size, self.size), color="white")


class StampSoundsConfig(StampsConfig, SoundsConfig):
    """The names spoken: one speaker a language, for the most part."""

    name: Literal["stamp_sounds"] = "stamp_sounds"

    def _sounds(self, path: UPath) -> Iterator[Record | Reject]:
        for stamp in self.stamps(path):
            yield self._sound(stamp.sound, stamp.language, stamp.concept)
