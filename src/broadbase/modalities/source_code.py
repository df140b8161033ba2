"""Source code: byte-level BPE whose words follow indentation and identifiers."""

from __future__ import annotations

from typing import ClassVar, Literal

from broadbase.modalities.bpe import BytePairConfig


class CodeConfig(BytePairConfig):
    """Programs: a line break includes the indentation after it, each digit is a word."""

    name: Literal["code"] = "code"
    words: ClassVar[str] = r"\n+[ \t]*| ?\p{L}+|_+|\p{N}| ?[^\s\p{L}\p{N}_]+|[ \t]+(?!\S)|\s+"
