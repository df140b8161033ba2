"""A Space of vectors with many channels, finely quantised, told by two numbers a channel.

Legend: B batch, N places, S scored places, D width, K channels, L levels.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.config import Config
from broadbase.core.contracts import SampleFn
from broadbase.nn.laws import OutputLinear


class DiscretizedLogisticConfig(Config):
    """Values are vectors of channels in [0, 1], predicted as one of `levels` steps each."""

    channels: Annotated[int, Field(ge=1)]
    levels: Annotated[int, Field(ge=2)] = 256

    def build(self, width: int) -> DiscretizedLogistic:
        return DiscretizedLogistic(self, width)


class DiscretizedLogistic(nn.Module):
    """Vectors [B,N,K]: a projection in, a discretised logistic for each channel out.

    A real likelihood of the quantised values, as `Vector` has one, for the price of a mean and a
    scale instead of a number a level (Salimans et al. 2017, PixelCNN++, 2.1).
    """

    MEAN, SCALE, NARROWEST = 0.5, -2.0, -7.0  # where predictions begin; the least log-scale

    def __init__(self, config: DiscretizedLogisticConfig, width: int) -> None:
        super().__init__()
        self.width, self.channels, self.levels = width, config.channels, config.levels
        self.input = nn.Linear(config.channels, width)
        self.mask = nn.Parameter(torch.zeros(width))
        self.output = OutputLinear(width, 2 * config.channels)

    def embed(self, values: Tensor, hidden: Tensor | None = None) -> Tensor:
        x_BND: Tensor = self.input(values)
        return x_BND if hidden is None else torch.where(hidden.unsqueeze(-1), self.mask, x_BND)

    def predict(self, x: Tensor) -> Tensor:
        """Mean and logarithm of the scale [B,S,K,2]."""
        mean, scale = self.output(x).unflatten(-1, (self.channels, 2)).unbind(-1)
        scale = (scale + self.SCALE).clamp(min=self.NARROWEST)
        return torch.stack([mean + self.MEAN, scale], dim=-1)

    def score(self, x: Tensor, target: Tensor) -> Tensor:
        level_BSK = (target.clamp(0, 1) * (self.levels - 1)).round()
        return -self._log_probability(self.predict(x), level_BSK).sum(dim=-1)

    def sample(self, prediction: Tensor, choose: SampleFn) -> Tensor:
        level_L = torch.arange(self.levels, device=prediction.device, dtype=prediction.dtype)
        logits_BSKL = self._log_probability(prediction.unsqueeze(-2), level_L)
        return choose(logits_BSKL).to(prediction.dtype) / (self.levels - 1)

    def _log_probability(self, prediction: Tensor, level: Tensor) -> Tensor:
        """Of levels: the logistic's mass within half a step, all the rest at both ends.

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
