"""The host side of a modality: raw records to numbers and back.

Legend: N tokens, K channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Sample:
    """One record as numbers, on the host, without the start and end that a document gets."""

    values: NDArray[Any]  # [N] ids or [N,K] vectors
    grid: tuple[int, ...]  # extents: (n,), (rows, columns) or (times, rows, columns); product N
    units: int  # size in the codec's unit (bytes, pixels), so that nats become bits per unit
    weight: NDArray[np.float32] | None = None  # [N] how much each counts as a target; None: 1


class Codec(ABC):
    """Turns raw records into numbers and back.

    A subclass defines `unit`, `start`, `encode`, `decode` and `save`; all else has a default.
    """

    unit: str
    """What `Sample.units` counts: "byte", "pixel"."""
    start: NDArray[Any]
    """The value [] or [K] before the first of a document, never a target."""
    end: NDArray[Any] | None = None
    """The value after the last of a document, a target like any other; None: there is none."""
    has_bos: bool = True
    """Whether a record that is read begins with `start`."""
    before: NDArray[Any] | None = None
    """The ids that a tokenizer's template puts before a record; None: it has no template."""
    after: NDArray[Any] | None = None
    """The ids that a tokenizer's template puts after a record; None: it has no template."""
    ends: tuple[int, ...] = ()
    """The ids that end a generated record; none: `end` does."""
    placeholder_ids: Mapping[str, int] = {}
    """The id by modality that stands for an attached record (LLaVA's <image>)."""
    tokenizer: Any = None
    """The same ids as a `tokenizers.Tokenizer`; None: there is none."""
    chat: Any = None
    """The `ChatTemplate` by which conversations are written; None: there is none."""

    @abstractmethod
    def encode(self, raw: Any) -> Sample:
        """Encode a record; ValueError, which says what is expected, where it is of another kind."""

    @abstractmethod
    def decode(self, values: NDArray[Any], grid: tuple[int, ...]) -> Any:
        """Decode the values [N] or [N,K] of a record of extents `grid`."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write what `ModalityConfig.load` reads; nothing where the config is enough."""

    def encode_prompt(self, raw: Any) -> Sample:
        """Encode a prompt, in which special tokens may be written; by default as a record."""
        return self.encode(raw)

    def encode_content(self, raw: Any) -> Sample:
        """Encode a record to learn from its vectors; by default as a record.

        A codec of a window of fixed length leaves out what only fills it.
        """
        return self.encode(raw)

    def continuation(
        self, before: NDArray[Any], values: NDArray[Any], special: bool = False
    ) -> Any:
        """Decode values that follow those `before` them, with `special` tokens or without.

        By default they are decoded alone.
        """
        return self.decode(values, (len(values),))

    def is_special(self, identity: int) -> bool:
        """Return whether an id is a special token."""
        return False

    def id_to_token(self, identity: int) -> str:
        """Return the token of an id as it is written; by default the id."""
        return str(identity)
