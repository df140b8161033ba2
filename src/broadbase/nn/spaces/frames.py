"""The embedder of published audio encoders: frames by convolutions.

Legend: B batch, N positions of two frames each, M numbers of a frame, T frames, D width.
"""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.config import Config
from broadbase.core.spaces import Embedder


class FramesConfig(Config):
    """Settings of frames, two at a position."""

    channels: Annotated[int, Field(ge=1)]
    """The numbers of a frame."""

    def build(self, width: int) -> Frames:
        """Return the embedder for a tower of `width`."""
        return Frames(self, width)


class Frames(Embedder):
    """Two convolutions of width 3, the second by steps of 2 (Radford et al. 2023, 2.2)."""

    def __init__(self, config: FramesConfig, width: int) -> None:
        super().__init__()
        self.channels = config.channels
        self.near = nn.Conv1d(config.channels, width, 3, padding=1)
        self.halve = nn.Conv1d(width, width, 3, stride=2, padding=1)

    def embed_values(self, values: Tensor) -> Tensor:
        """Embed frames [B,N,2*M] as [B,N,D]."""
        values = values.to(self.near.weight.dtype)
        frames_BMT = values.unflatten(-1, (2, self.channels)).flatten(1, 2).transpose(1, 2)  # type: ignore[no-untyped-call]
        x_BDN = F.gelu(self.halve(F.gelu(self.near(frames_BMT))))
        return x_BDN.transpose(1, 2)
