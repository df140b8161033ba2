"""Sound as published encoders read it: log-mel frames of a window of fixed length.

Legend: n samples, N tokens, T = 2 * N frames, M mels.
"""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from broadbase.core.codec import Codec, Sample
from broadbase.core.contracts import Corruption, ModalityConfig
from broadbase.modalities.audio import AudioConfig
from broadbase.modalities.mel import log_mel
from broadbase.modalities.noise import Hide
from broadbase.nn.spaces.frames import Frames, FramesConfig


class SpectrumConfig(ModalityConfig):
    """Whisper's frames (Radford et al. 2023, 2.2): 10 ms apart, two to a token."""

    name: Literal["spectrum"] = "spectrum"
    mels: Annotated[int, Field(ge=1)] = 80
    """The mel bands of a frame."""
    max_length: Annotated[int, Field(ge=1)] = 1500
    """The tokens of the window, of 20 ms each; 1500 are 30 s."""

    def load(self, folder: Path) -> Codec:
        """Return the codec, which has no files."""
        return SpectrumCodec(self)

    def space(self, width: int) -> Frames:
        """Return the embedder of frames."""
        return FramesConfig(channels=self.mels).build(width)

    def corruption(self) -> Corruption:
        """Return a corruption that masks vectors."""
        return Hide()


class SpectrumCodec(Codec):
    """Encodes sound, followed by silence up to the length of the window, as [N,2*M]."""

    unit = "frame"
    has_bos = False

    def __init__(self, config: SpectrumConfig) -> None:
        self.config = config
        self.start = np.zeros(2 * config.mels, dtype=np.float32)

    def encode(self, raw: Any) -> Sample:
        """Encode (samples [n], rate in Hz), or samples at 16 kHz.

        ValueError if they are longer than the window.
        """
        sound, c = AudioConfig(mels=self.config.mels), self.config
        samples, room = sound.clean(raw), 2 * c.max_length * sound.hop
        if len(samples) > room:
            raise ValueError(
                f"{len(samples) / sound.rate:.1f} s of sound, and the window holds"
                f" {room / sound.rate:.1f} s; cut it"
            )
        padded = np.pad(samples, (0, room - len(samples)))
        logs = log_mel(padded, sound.rate, sound.window, sound.hop, c.mels)
        values = ((logs + 4) / 4).reshape(c.max_length, -1).astype(np.float32)
        return Sample(values, (c.max_length,), 2 * c.max_length)

    def encode_content(self, raw: Any) -> Sample:
        """Encode sound without the silence that fills the window, as [N,2*M]."""
        sound = AudioConfig(mels=self.config.mels)
        samples = sound.clean(raw)
        tokens = ceil(len(samples) / (2 * sound.hop))
        return Sample(self.encode(samples).values[:tokens], (tokens,), 2 * tokens)

    def decode(self, values: NDArray[Any], grid: tuple[int, ...]) -> NDArray[np.float32]:
        """Return decimal logarithms of the mel power, [T,M]."""
        logs: NDArray[np.float32] = np.asarray(values).reshape(-1, self.config.mels) * 4 - 4
        return logs

    def save(self, folder: Path) -> None:
        """Write nothing: the config is enough."""
