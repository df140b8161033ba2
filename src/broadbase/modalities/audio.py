"""Sound as log-mel frames of any number, a few of them a place.

Legend: n samples, N places, K = patch * mels.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from broadbase.core.codec import Codec, Sample
from broadbase.core.contracts import Corruption, ModalityConfig
from broadbase.core.extras import require_extra
from broadbase.modalities.mel import log_mel, sound
from broadbase.modalities.noise import Hide
from broadbase.nn.spaces.logistic import DiscretizedLogistic, DiscretizedLogisticConfig

SILENCE, LOUDEST = -10.0, 4.0  # log-mel of no sound, and above that of any


class AudioConfig(ModalityConfig):
    """Mono sound, brought to one rate: Whisper's log-mel frames (Radford et al. 2023, 2.2)."""

    divisible: ClassVar[bool] = True
    name: Literal["audio"] = "audio"
    rate: Annotated[int, Field(ge=4000)] = 16_000  # Hz
    window: Annotated[int, Field(ge=2)] = 400  # samples of a frame: 25 ms
    hop: Annotated[int, Field(ge=1)] = 160  # samples from frame to frame: 10 ms
    mels: Annotated[int, Field(ge=1)] = 80
    patch: Annotated[int, Field(ge=1)] = 4  # frames a place
    levels: Annotated[int, Field(ge=2)] = 256  # steps of 0.55 dB

    @property
    def channels(self) -> int:
        """Numbers a place."""
        return self.patch * self.mels

    def clean(self, raw: Any) -> NDArray[np.float32]:
        """Samples [n] at this rate, from (samples, rate), or as they are where given without one.

        ValueError where they are no finite numbers, or none.
        """
        samples, rate = raw if isinstance(raw, tuple) else (raw, self.rate)
        samples = np.asarray(samples)
        if samples.ndim != 1 or samples.dtype.kind != "f":
            raise ValueError(
                f"expected float samples [n] of one channel, got {samples.dtype} {samples.shape}"
            )
        if not samples.size:
            raise ValueError("no samples")
        if not np.isfinite(samples).all():
            raise ValueError("samples must be finite")
        if rate != self.rate:
            resample = require_extra("soxr", "audio", "sound of another rate").resample
            samples = resample(samples.astype(np.float32), rate, self.rate)
        return np.asarray(samples, np.float32)

    def conversions(self, raw: Any) -> tuple[str, ...]:
        rate = raw[1] if isinstance(raw, tuple) else self.rate
        return () if rate == self.rate else (f"{rate} to {self.rate} Hz",)

    def fit(self, records: Iterable[Any]) -> Codec:
        return AudioCodec(self)

    def load(self, folder: Path) -> Codec:
        return AudioCodec(self)

    def space(self, width: int) -> DiscretizedLogistic:
        return DiscretizedLogisticConfig(channels=self.channels, levels=self.levels).build(width)

    def corruption(self) -> Corruption:
        return Hide()


class AudioCodec(Codec):
    """Sound to [N,K]: log-mel between silence, 0, and loudest, 1, quantised; and back."""

    unit = "frame"

    def __init__(self, config: AudioConfig) -> None:
        self.config = config
        self.start = np.full(config.channels, -1.0, dtype=np.float32)  # no sound holds this

    def encode(self, raw: Any) -> Sample:
        """Takes (samples [n], rate in Hz), or samples at the modality's rate."""
        c = self.config
        samples = c.clean(raw)
        whole = np.pad(samples, (0, -len(samples) % (c.patch * c.hop)))
        logs = log_mel(whole, c.rate, c.window, c.hop, c.mels)
        shares = ((logs - SILENCE) / (LOUDEST - SILENCE)).clip(0, 1)
        steps = np.round(shares * (c.levels - 1)) / (c.levels - 1)
        values = steps.reshape(-1, c.channels).astype(np.float32)
        return Sample(values, (len(values),), len(logs))

    def decode(self, values: NDArray[Any], grid: tuple[int, ...]) -> NDArray[np.float32]:
        """Samples at the modality's rate, to listen to: phases are guessed."""
        c = self.config
        shares = np.asarray(values, np.float64).reshape(-1, c.mels).clip(0, 1)
        logs = SILENCE + shares * (LOUDEST - SILENCE)
        return sound(logs, c.rate, c.window, c.hop).astype(np.float32)

    def save(self, folder: Path) -> None:
        """Nothing to keep: the config says all."""
