"""Sound as any number of log-mel frames, of which a few make a token.

Legend: n samples, N tokens, K = patch * mels.
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
    rate: Annotated[int, Field(ge=4000)] = 16_000
    """The sampling rate in Hz; sound of another rate is resampled."""
    window: Annotated[int, Field(ge=2)] = 400
    """The samples of a frame; 400 are 25 ms at 16 kHz."""
    hop: Annotated[int, Field(ge=1)] = 160
    """The samples from one frame to the next; 160 are 10 ms at 16 kHz."""
    mels: Annotated[int, Field(ge=1)] = 80
    """The mel bands of a frame."""
    patch: Annotated[int, Field(ge=1)] = 4
    """The frames of a token."""
    levels: Annotated[int, Field(ge=2)] = 256
    """The steps to which a log-mel value is quantised; 256 are steps of 0.55 dB."""

    @property
    def vector_size(self) -> int:
        """The numbers of a token."""
        return self.patch * self.mels

    def clean(self, raw: Any) -> NDArray[np.float32]:
        """Return samples [n] at this rate, from (samples, rate) or from samples at this rate.

        ValueError if there are none, or if they are not finite numbers.
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
        """Return the change of the sampling rate, if there is one."""
        rate = raw[1] if isinstance(raw, tuple) else self.rate
        return () if rate == self.rate else (f"{rate} to {self.rate} Hz",)

    def fit(self, records: Iterable[Any]) -> Codec:
        """Return the codec, which learns nothing from the records."""
        return AudioCodec(self)

    def load(self, folder: Path) -> Codec:
        """Return the codec, which has no files."""
        return AudioCodec(self)

    def space(self, width: int) -> DiscretizedLogistic:
        """Return the embedder and head of a token's K numbers."""
        return DiscretizedLogisticConfig(channels=self.vector_size, levels=self.levels).build(width)

    def corruption(self) -> Corruption:
        """Return a corruption that masks vectors."""
        return Hide()


class AudioCodec(Codec):
    """Encodes sound as [N,K]: quantised log-mel values from 0, silence, to 1, the loudest."""

    unit = "frame"

    def __init__(self, config: AudioConfig) -> None:
        self.config = config
        self.start = np.full(config.vector_size, -1.0, dtype=np.float32)  # no sound holds this

    def encode(self, raw: Any) -> Sample:
        """Encode (samples [n], rate in Hz), or samples at the modality's rate."""
        c = self.config
        samples = c.clean(raw)
        padded = np.pad(samples, (0, -len(samples) % (c.patch * c.hop)))
        logs = log_mel(padded, c.rate, c.window, c.hop, c.mels)
        shares = ((logs - SILENCE) / (LOUDEST - SILENCE)).clip(0, 1)
        steps = np.round(shares * (c.levels - 1)) / (c.levels - 1)
        values = steps.reshape(-1, c.vector_size).astype(np.float32)
        return Sample(values, (len(values),), len(logs))

    def decode(self, values: NDArray[Any], grid: tuple[int, ...]) -> NDArray[np.float32]:
        """Return samples [n] at the modality's rate; their phases are estimated."""
        c = self.config
        shares = np.asarray(values, np.float64).reshape(-1, c.mels).clip(0, 1)
        logs = SILENCE + shares * (LOUDEST - SILENCE)
        return sound(logs, c.rate, c.window, c.hop).astype(np.float32)

    def save(self, folder: Path) -> None:
        """Write nothing: the config is enough."""
