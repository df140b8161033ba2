"""The head of self-distillation: the prototypes of a record (Caron et al. 2021, 3.1).

Legend: B rows, D width, E bottleneck, K prototypes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.errors import DivergedError
from broadbase.core.spaces import Head, HeadConfig, SampleFn

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class PrototypesConfig(HeadConfig):
    """Settings of the projection head that a student and its teacher both have."""

    name: Literal["prototypes"] = "prototypes"
    prototypes: Annotated[int, Field(ge=2)] = 1024
    """The number of prototypes."""
    hidden_width: Count = 256
    """The width of the two hidden layers."""
    bottleneck: Count = 64
    """The dimensions of the vector that is compared with the prototypes."""
    temperature: Positive = 0.1
    """The temperature of the student."""
    teacher_temperature_start: Positive = 0.04
    """The temperature of the teacher at the first step."""
    teacher_temperature: Positive = 0.04
    """The temperature of the teacher after the warm-up."""
    warmup: Fraction = 0.3
    """The part of the run over which the teacher's temperature moves."""
    center_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """The momentum of the running mean that the teacher's cosines are centred by."""
    least: Annotated[float, Field(ge=0)] = 0.01
    """The least information that the teacher may have of a record, in nats, before the run is
    stopped as collapsed."""
    grace: Fraction = 0.2
    """The part of the run, at its start, in which no collapse is looked for."""

    def build(self, width: int) -> Prototypes:
        """Return the head for a tower of `width`."""
        return Prototypes(self, width)


class Prototypes(Head):
    """Three layers, a unit vector, and its cosine with K prototypes.

    `predict` gives (cosine - centre) / temperature. The centre of a student is 0 and its
    temperature fixed. Those of a teacher move by `on_step`: the centre follows the mean of its
    cosines, the temperature the warm-up. So an objective compares two predictions and has no state.
    """

    centre: Tensor  # [K]
    temperature: Tensor  # []

    def __init__(self, config: PrototypesConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.head = nn.Sequential(
            nn.Linear(width, config.hidden_width),
            nn.GELU(),
            nn.Linear(config.hidden_width, config.hidden_width),
            nn.GELU(),
            nn.Linear(config.hidden_width, config.bottleneck),
        )
        self.last = nn.Linear(config.bottleneck, config.prototypes, bias=False)
        self.register_buffer("centre", torch.zeros(config.prototypes))
        self.register_buffer("temperature", torch.tensor(config.temperature))
        self._is_teacher = False
        self._sums: Tensor | None = None  # [2K+2] of this step: cosines, answers, entropy, count

    def predict(self, x: Tensor) -> Tensor:
        """Return the logits [B,1,K] of pooled states [B,1,D]."""
        unit = F.normalize(self.head(x), dim=-1)
        cosine = F.linear(unit, F.normalize(self.last.weight, dim=-1))
        logits = (cosine - self.centre) / self.temperature
        if self._is_teacher and self.training:
            self._accumulate(cosine.flatten(0, 1), logits.flatten(0, 1))
        return logits

    @torch.no_grad()
    def _accumulate(self, cosine_BK: Tensor, logits_BK: Tensor) -> None:
        log_BK = logits_BK.to(self.centre.dtype).log_softmax(dim=-1)
        answer_BK = log_BK.exp()
        entropy, count = -(answer_BK * log_BK).sum(), log_BK.new_tensor(float(len(log_BK)))
        cosine_K, answer_K = cosine_BK.sum(dim=0).to(log_BK), answer_BK.sum(dim=0)
        sums = torch.cat([cosine_K, answer_K, entropy[None], count[None]])
        self._sums = sums if self._sums is None else self._sums + sums

    @torch.no_grad()
    def on_step(self, progress: float, add: Callable[[Tensor], Tensor]) -> Mapping[str, float]:
        """Move the centre and the temperature of a teacher.

        Returns the entropy of the mean answer and the information that an answer has of its
        record, in nats over the step's global batch. DivergedError where, after the time of grace,
        there is none: every record gets one answer, a single prototype or all of them.
        """
        c, self._is_teacher = self.config, True
        rise = min(1.0, progress / c.warmup) if c.warmup else 1.0
        self.temperature.fill_(
            c.teacher_temperature_start
            + (c.teacher_temperature - c.teacher_temperature_start) * rise
        )
        if self._sums is None:
            return {}
        sums, self._sums = add(self._sums), None
        K, count = c.prototypes, sums[-1]
        self.centre.lerp_(sums[:K] / count, 1 - c.center_momentum)
        entropy = float(torch.special.entr(sums[K : 2 * K] / count).sum())
        information = entropy - float(sums[-2] / count)
        if progress > c.grace and not information >= c.least:
            raise DivergedError(
                f"self-distillation collapsed: the teacher's answer has {information:.2g} nats of"
                f" information on its record (entropy of the mean {entropy:.2f} of"
                f" {math.log(K):.2f}); lower"
                " optim.lr or the head's teacher_temperature, or raise the teacher's momentum"
            )
        return {"entropy": entropy, "information": information}

    def sample(self, prediction: Tensor, choose: SampleFn) -> Tensor:
        """Draw the numbers of prototypes [B,1] from logits."""
        return choose(prediction)
