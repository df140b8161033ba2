"""A Space of prototypes: what self-distillation assigns a record to (Caron et al. 2021, 3.1).

Legend: B rows, D width, E bottleneck, K prototypes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.config import Config
from broadbase.core.contracts import SampleFn
from broadbase.core.errors import DivergedError

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class PrototypesConfig(Config):
    """The projection head, and how a student and a teacher answer through it."""

    prototypes: Annotated[int, Field(ge=2)] = 1024
    hidden_width: Count = 256
    bottleneck: Count = 64
    temperature: Positive = 0.1  # of the student
    teacher_temperature_start: Positive = 0.04  # of the teacher, at the start
    teacher_temperature: Positive = 0.04  # and after the warm-up
    warmup: Share = 0.3  # of the run
    center_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9  # of the centre
    least: Annotated[float, Field(ge=0)] = 0.01  # nats of information; below: collapsed
    grace: Share = 0.2  # of the run: before, the centre has yet to find its place

    def build(self, width: int) -> Prototypes:
        return Prototypes(self, width)


class Prototypes(nn.Module):
    """Three layers, a unit vector, and its cosine with K prototypes.

    `predict` gives (cosine - centre) / temperature. A student's centre is 0 and its temperature
    fixed; a teacher is led: its centre follows the mean of what it answers, its temperature the
    warm-up. So an objective compares two predictions and needs no state.
    """

    centre: Tensor  # [K]
    temperature: Tensor  # []

    def __init__(self, config: PrototypesConfig, width: int) -> None:
        super().__init__()
        self.width, self.config = width, config
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
        self._leads = False
        self._noted: Tensor | None = None  # [2K+2] of this step: cosines, answers, entropy, count

    def predict(self, x: Tensor) -> Tensor:
        """Pooled states [B,1,D] to logits [B,1,K]."""
        unit = F.normalize(self.head(x), dim=-1)
        cosine = F.linear(unit, F.normalize(self.last.weight, dim=-1))
        logits = (cosine - self.centre) / self.temperature
        if self._leads and self.training:
            self._note(cosine.flatten(0, 1), logits.flatten(0, 1))
        return logits

    @torch.no_grad()
    def _note(self, cosine_BK: Tensor, logits_BK: Tensor) -> None:
        log_BK = logits_BK.to(self.centre.dtype).log_softmax(dim=-1)
        answer_BK = log_BK.exp()
        entropy, count = -(answer_BK * log_BK).sum(), log_BK.new_tensor(float(len(log_BK)))
        sums = [cosine_BK.sum(dim=0).to(log_BK), answer_BK.sum(dim=0), entropy[None], count[None]]
        noted = torch.cat(sums)
        self._noted = noted if self._noted is None else self._noted + noted

    @torch.no_grad()
    def lead(self, done: float, add: Callable[[Tensor], Tensor]) -> Mapping[str, float]:
        """As a teacher, before the first step and after each: `done` is the share of the run.

        Returns the entropy of the mean answer and the information that an answer has of its
        record, nats over the step's global batch. DivergedError where, after a time of grace, there
        is none: every record is answered alike, by one prototype or by all.
        """
        c, self._leads = self.config, True
        rise = min(1.0, done / c.warmup) if c.warmup else 1.0
        self.temperature.fill_(
            c.teacher_temperature_start
            + (c.teacher_temperature - c.teacher_temperature_start) * rise
        )
        if self._noted is None:
            return {}
        noted, self._noted = add(self._noted), None
        K, count = c.prototypes, noted[-1]
        self.centre.lerp_(noted[:K] / count, 1 - c.center_momentum)
        entropy = float(torch.special.entr(noted[K : 2 * K] / count).sum())
        information = entropy - float(noted[-2] / count)
        if done > c.grace and not information >= c.least:
            raise DivergedError(
                f"self-distillation collapsed: the teacher's answer tells {information:.2g} nats of"
                f" its record (entropy of the mean {entropy:.2f} of {math.log(K):.2f}); lower"
                " optim.lr or the Space's `last` temperature, or raise the teacher's momentum"
            )
        return {"entropy": entropy, "information": information}

    def embed(self, values: Tensor, hidden: Tensor | None = None) -> Tensor:
        raise TypeError("a Space of prototypes has no values to embed")

    def score(self, x: Tensor, target: Tensor) -> Tensor:
        raise TypeError("prototypes are compared with a teacher's, by self-distillation")

    def sample(self, prediction: Tensor, choose: SampleFn) -> Tensor:
        """The number of a prototype."""
        return choose(prediction)
