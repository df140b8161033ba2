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
    """Text or bytes, one place a byte."""

    divisible: ClassVar[bool] = True
    name: Literal["bytes"] = "bytes"

    def chunks(self, raw: Any) -> Iterable[Any]:
        if isinstance(raw, bytes):
            return (raw[i : i + STEP] for i in range(0, max(len(raw), 1), STEP))
        return chunks(raw) if isinstance(raw, str) else (raw,)

    def fit(self, records: Iterable[Any]) -> Codec:
        return BytesCodec()

    def load(self, folder: Path) -> Codec:
        return BytesCodec()

    @property
    def ids(self) -> int:
        return VOCABULARY

    def corruption(self) -> Corruption:
        alone = [bytes([i]) for i in range(256)]
        return MaskOrSwap(self.ids, extra_ids=self.extra_ids, units=units(alone))


class BytesCodec(Codec):
    """UTF-8 bytes as ids 0 to 255."""

    unit = "byte"
    start: NDArray[Any] = np.array(256)
    end: NDArray[Any] | None = np.array(257)

    def encode(self, raw: Any) -> Sample:
        if not isinstance(raw, str | bytes):
            raise ValueError(f"expected text or bytes, got {type(raw).__name__}")
        if isinstance(raw, str):
            refuse_surrogates(raw)
        data = raw.encode() if isinstance(raw, str) else raw
        return Sample(np.frombuffer(data, dtype=np.uint8).astype(np.int64), (len(data),), len(data))

    def decode(self, values: NDArray[Any], grid: tuple[int, ...]) -> str:
        return bytes(int(v) for v in values if v < 256).decode(errors="replace")

    def save(self, folder: Path) -> None:
        """Nothing to keep."""
