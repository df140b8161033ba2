"""Learning-rate schedules: a factor of the peak rate as a pure function of the step."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from broadbase.core.config import Slot

Fraction = Annotated[float, Field(ge=0, le=1)]


class ScheduleConfig(Slot):
    """How the learning rate moves over a run.

    It knows the step and the number of steps alone. So a run that is resumed with more steps goes
    on at once at the rate that the longer schedule has at this step, without a new warm-up; after
    a decay to 0 the rate rises again.
    """

    package: ClassVar[str] = "train"
    warmup: Annotated[int, Field(ge=0)] = 20
    """The steps over which the learning rate rises linearly at the start."""
    min_lr_ratio: Fraction = 0.0
    """The learning rate at the end, as a share of the peak."""

    def factor(self, step: int, steps: int) -> float:
        """Return the factor of step 0, ..., steps - 1; above 0 and at most 1."""
        rise = min(1.0, (step + 1) / (self.warmup + 1))
        return rise * self._after(step, steps)

    @abstractmethod
    def _after(self, step: int, steps: int) -> float:
        """Return the factor once the warm-up has ended."""


class WSDConfig(ScheduleConfig):
    """Warm-up, stable, linear decay (Hu et al. 2024, MiniCPM, 4)."""

    name: Literal["wsd"] = "wsd"
    decay: Fraction = 0.6
    """The share of the steps, at the end, over which the learning rate falls linearly."""

    def _after(self, step: int, steps: int) -> float:
        left = (steps - step) / max(1.0, self.decay * steps)
        return self.min_lr_ratio + (1 - self.min_lr_ratio) * min(1.0, left)


class CosineConfig(ScheduleConfig):
    """Warm-up, then half a cosine (Loshchilov & Hutter 2017, eq. 5)."""

    name: Literal["cosine"] = "cosine"

    def _after(self, step: int, steps: int) -> float:
        return self.min_lr_ratio + (1 - self.min_lr_ratio) * 0.5 * (
            1 + math.cos(math.pi * step / steps)
        )
