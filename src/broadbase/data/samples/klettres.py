"""KLettres: letters, syllables and words of 18 languages, spoken, as its lists name them."""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Literal
from xml.etree import ElementTree

from upath import UPath

from broadbase.core.sources import Record, Reject
from broadbase.data.sources.files import FilesConfig
from broadbase.data.sources.sound import SoundsConfig

ALPHABET = frozenset(string.ascii_lowercase)
Kind = Literal["all", "letters", "syllables"]  # of KLettres: A to Z; all others, words too


class KLettresConfig(SoundsConfig):
    """The sounds of KLettres by its lists, a folder a language; their labels are their names."""

    name: Literal["klettres"] = "klettres"
    pattern: str = "*/sounds.xml"
    sounds: Kind = "all"
    """Which sounds are read: the letters A to Z, all others, or all."""
    grouped: bool = False
    """Whether a language's sounds, which one speaker speaks, fall on one side of the split."""

    def _sounds(self, path: UPath) -> Iterator[Record | Reject]:
        for file, label in _listed(path, self.sounds):
            yield self._sound(file, label, path.parent.name if self.grouped else None)


class KLettresNamesConfig(FilesConfig):
    """The names of these sounds, which is what is said: to be paired with them."""

    name: Literal["klettres_names"] = "klettres_names"
    pattern: str = "*/sounds.xml"
    sounds: Kind = "all"
    """Which names are read: of the letters A to Z, of all others, or all."""

    def _file(self, path: UPath) -> Iterator[Record | Reject]:
        for file, label in _listed(path, self.sounds):
            yield Record(label, str(file), key=self._key(file))


def _listed(path: UPath, sounds: Kind) -> Iterator[tuple[UPath, str]]:
    """Yield files and names of a list; some are listed and not shipped."""
    try:
        listed = ElementTree.fromstring(path.read_bytes())
    except ElementTree.ParseError as error:
        raise OSError(f"not a list of sounds: {error}") from None
    for each in listed.iter("sound"):
        file, name = path.parent.parent / each.get("file", ""), each.get("name", "").lower()
        kind = "letters" if name in ALPHABET else "syllables"
        if sounds in ("all", kind) and file.is_file():
            yield file, name
