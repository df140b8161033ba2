"""Plain bytes: any text, code or file without a tokenizer (Xue et al. 2022, ByT5)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from broadbase.core.codec import Codec, Sample
from broadbase.core.contracts import Corruption
from broadbase.modalities.ids import IdsConfig
from broadbase.modalities.noise import MaskOrSwap
from broadbase.modalities.strings import STEP, chunks, refuse_surrogates
from broadbase.modalities.units import units

VOCABULARY = 258  # 256 bytes, start, end


class BytesConfig(IdsConfig):
    """Text or bytes, one token for each byte."""

    divisible: ClassVar[bool] = True
    name: Literal["bytes"] = "bytes"

    def chunks(self, raw: Any) -> Iterable[Any]:
        """Cut text or bytes into chunks."""
        if isinstance(raw, bytes):
            return (raw[i : i + STEP] for i in range(0, max(len(raw), 1), STEP))
        return chunks(raw) if isinstance(raw, str) else (raw,)

    def fit(self, records: Iterable[Any]) -> Codec:
        """Return the codec, which learns nothing from the records."""
        return BytesCodec()

    def load(self, folder: Path) -> Codec:
        """Return the codec, which has no files."""
        return BytesCodec()

    @property
    def ids(self) -> int:
        """The ids of 256 bytes, a start and an end."""
        return VOCABULARY

    def corruption(self) -> Corruption:
        """Return a corruption of ids that has words and sentences."""
        alone = [bytes([i]) for i in range(256)]
        return MaskOrSwap(self.ids, extra_ids=self.extra_ids, units=units(alone))


class BytesCodec(Codec):
    """UTF-8 bytes as ids 0 to 255."""

    unit = "byte"
    start: NDArray[Any] = np.array(256)
    end: NDArray[Any] | None = np.array(257)

    def encode(self, raw: Any) -> Sample:
        """Encode bytes, or the UTF-8 bytes of a text, as ids [N]."""
        if not isinstance(raw, str | bytes):
            raise ValueError(f"expected text or bytes, got {type(raw).__name__}")
        if isinstance(raw, str):
            refuse_surrogates(raw)
        data = raw.encode() if isinstance(raw, str) else raw
        return Sample(np.frombuffer(data, dtype=np.uint8).astype(np.int64), (len(data),), len(data))

    def decode(self, values: NDArray[Any], grid: tuple[int, ...]) -> str:
        """Return the text of ids [N]; bytes that are not UTF-8 become U+FFFD."""
        return bytes(int(v) for v in values if v < 256).decode(errors="replace")

    def save(self, folder: Path) -> None:
        """Write nothing: the config is enough."""
