"""Text: byte-level BPE trained on the corpus."""

from __future__ import annotations

import re
from typing import Any, ClassVar, Literal

import ftfy

from broadbase.modalities.bpe import BytePairConfig

# What UTF-8 read as Latin-1 or Windows-1252 leaves: a lead byte's letter, then no ASCII; or C1.
MOJIBAKE = re.compile("[\u00c2-\u00f4][^\\x00-\\x7f]|[\u0080-\u009f]")


class TextConfig(BytePairConfig):
    """Natural language: words keep their leading space, numbers are cut after three digits."""

    name: Literal["text"] = "text"
    words: ClassVar[str] = r" ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

    def clean(self, raw: Any) -> str:
        """Return the text as for any string, with mojibake repaired line by line (ftfy)."""
        text = super().clean(raw)
        if MOJIBAKE.search(text):
            lines = text.split("\n")
            text = "\n".join(ftfy.fix_encoding(x) if MOJIBAKE.search(x) else x for x in lines)
        return super().clean(text)
