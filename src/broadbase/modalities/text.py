"""Text: byte-level BPE trained on the corpus."""

from __future__ import annotations

from typing import ClassVar, Literal

from broadbase.modalities.bpe import BytePairConfig


class TextConfig(BytePairConfig):
    """Natural language: words keep their leading space, digits go by up to three."""

    name: Literal["text"] = "text"
    words: ClassVar[str] = r" ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
