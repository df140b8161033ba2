"""The Space of published audio encoders: frames in by convolutions, nothing out.

Legend: B batch, N places of two frames each, M numbers of a frame, D width.
"""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.config import Config
from broadbase.core.contracts import SampleFn
from broadbase.core.errors import ConfigError


class FramesConfig(Config):
    """Two frames a place."""

    channels: Annotated[int, Field(ge=1)]  # of a frame

    def build(self, width: int) -> Frames:
        return Frames(self, width)


class Frames(nn.Module):
    """Two convolutions of width 3, the second by steps of 2 (Radford et al. 2023, 2.2)."""

    def __init__(self, config: FramesConfig, width: int) -> None:
        super().__init__()
        self.width, self.channels = width, config.channels
        self.near = nn.Conv1d(config.channels, width, 3, padding=1)
        self.halve = nn.Conv1d(width, width, 3, stride=2, padding=1)

    def embed(self, values: Tensor, hidden: Tensor | None = None) -> Tensor:
        """[B,N,2*M] to [B,N,D]."""
        values = values.to(self.near.weight.dtype)
        frames_BMT = values.unflatten(-1, (2, self.channels)).flatten(1, 2).transpose(1, 2)  # type: ignore[no-untyped-call]
        x_BDN = F.gelu(self.halve(F.gelu(self.near(frames_BMT))))
        return x_BDN.transpose(1, 2)

    def predict(self, x: Tensor) -> Tensor:
        raise ConfigError("frames of published encoders are read, and not predicted")

    def score(self, x: Tensor, target: Tensor) -> Tensor:
        raise ConfigError("frames of published encoders are read, and not predicted")

    def sample(self, prediction: Tensor, choose: SampleFn) -> Tensor:
        """The vector itself."""
        return prediction
