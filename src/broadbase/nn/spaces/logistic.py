"""Vectors of many channels in fine steps, predicted by two numbers a channel.

Legend: B batch, N positions, S scored positions, D width, K channels, L levels.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.config import Config
from broadbase.core.spaces import Embedder, Head, SampleFn
from broadbase.nn.laws import OutputLinear


class DiscretizedLogisticConfig(Config):
    """Settings of vectors with channels in [0, 1]."""

    channels: Annotated[int, Field(ge=1)]
    """The numbers of a vector."""
    levels: Annotated[int, Field(ge=2)] = 256
    """The steps that a channel is predicted in."""

    def build(self, width: int) -> DiscretizedLogistic:
        """Return the embedder and head for a tower of `width`."""
        return DiscretizedLogistic(self, width)


class DiscretizedLogistic(Embedder, Head):
    """Vectors [B,N,K]: embedded by a projection, predicted by a logistic for each channel.

    The likelihood is exact for the quantised values, as that of `QuantizedVector`, and takes a mean
    and a scale a channel instead of a logit a level (Salimans et al. 2017, PixelCNN++, 2.1).
    """

    MEAN, SCALE, NARROWEST = 0.5, -2.0, -7.0  # at the start of training; the least log-scale

    def __init__(self, config: DiscretizedLogisticConfig, width: int) -> None:
        super().__init__()
        self.channels, self.levels = config.channels, config.levels
        self.input = nn.Linear(config.channels, width)
        self.mask = nn.Parameter(torch.zeros(width))
        self.output = OutputLinear(width, 2 * config.channels)

    def embed_values(self, values: Tensor) -> Tensor:
        """Embed vectors [B,N,K] as [B,N,D]."""
        return self.input(values)  # type: ignore[no-any-return]

    def predict(self, x: Tensor) -> Tensor:
        """Return the mean and the logarithm of the scale, [B,S,K,2]."""
        mean, scale = self.output(x).unflatten(-1, (self.channels, 2)).unbind(-1)
        scale = (scale + self.SCALE).clamp(min=self.NARROWEST)
        return torch.stack([mean + self.MEAN, scale], dim=-1)

    def score(self, x: Tensor, target: Tensor) -> Tensor:
        """Return the loss of vectors [B,S,K] in nats, summed over the channels: [B,S]."""
        level_BSK = (target.clamp(0, 1) * (self.levels - 1)).round()
        return -self._log_probability(self.predict(x), level_BSK).sum(dim=-1)

    def sample(self, prediction: Tensor, choose: SampleFn) -> Tensor:
        """Draw vectors [B,S,K] from a prediction."""
        level_L = torch.arange(self.levels, device=prediction.device, dtype=prediction.dtype)
        logits_BSKL = self._log_probability(prediction.unsqueeze(-2), level_L)
        return choose(logits_BSKL).to(prediction.dtype) / (self.levels - 1)

    def _log_probability(self, prediction: Tensor, level: Tensor) -> Tensor:
        """Return the log-probability of levels.

        It is that of the mass of the logistic within half a step, and at both ends of all the rest:
        sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)).
        """
        mean, scale = prediction.float().unbind(-1)
        step = torch.exp(-scale) / (self.levels - 1)
        above = step * (level + 0.5) - mean * torch.exp(-scale)
        low, high = level == 0, level == self.levels - 1
        inner = torch.log(-torch.expm1(-step))
        up = torch.where(high, 0.0, F.logsigmoid(above))
        down = torch.where(low, 0.0, F.logsigmoid(step - above))
        return up + down + torch.where(low | high, 0.0, inner)
