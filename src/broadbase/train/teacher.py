"""Teachers: a twin of the model that answers Views without gradient.

It is the model's own moving average, or a base that was trained before.
"""

from __future__ import annotations

import copy
import hashlib
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.config import Slot
from broadbase.core.errors import ConfigError
from broadbase.core.spaces import Head
from broadbase.core.view import Output, View
from broadbase.train.ranks import Ranks, gather, named

Read = Callable[[str], nn.Module]  # a model folder to its model
Add = Callable[[Tensor], Tensor]  # the sum of a tensor over the ranks


class TeacherConfig(Slot):
    """The model that answers the Views that are marked `twin`."""

    package: ClassVar[str] = "train"
    is_start: ClassVar[bool] = False  # whether it is the student before its first step

    @abstractmethod
    def build(self, student: nn.Module, ranks: Ranks, read: Read) -> Teacher:
        """Build the teacher of a student that is not sharded yet; `read` opens a model folder."""


class Teacher:
    """What all teachers have in common; by itself no teacher, for runs that need none."""

    final_model: nn.Module | None = None  # what a run keeps at its end, where it is not the student

    def answer(self, view: View) -> Output:
        """Return the twin's output for a view."""
        raise ConfigError(
            "this objective learns from a teacher, and the run has none; set teacher.name=ema, or"
            " teacher.name=frozen and teacher.path to a model folder"
        )

    def update(self, student: nn.Module, step: int, steps: int, add: Add) -> Mapping[str, float]:
        """Move after the student's step number `step` (from 0) of `steps`; what is to be watched.

        `add` sums a tensor over the ranks.
        """
        return {}

    def identity(self) -> str | None:
        """Return what a resume must find unchanged, where the checkpoint does not hold it."""
        return None

    def state(self) -> Mapping[str, Tensor]:
        """Return what a checkpoint keeps of it and fills again, by names that no parameter has."""
        return {}


class Twin(Teacher):
    """A model without gradient, sharded like the student."""

    def __init__(self, model: nn.Module, ranks: Ranks) -> None:
        """Take the model, and shard it like the student."""
        self.model = model.requires_grad_(False).to(ranks.device)
        ranks.shard(self.model, trained=False)

    @torch.no_grad()
    def answer(self, view: View) -> Output:
        """Return the twin's output for a view, without auxiliary losses: a teacher has none."""
        output: Output = self.model(view)
        return replace(output, aux_losses={})


class FrozenConfig(TeacherConfig):
    """A base that was trained before, as it is (Hinton et al. 2015)."""

    name: Literal["frozen"] = "frozen"
    path: str
    """The run's folder or model folder of the teacher."""

    def build(self, student: nn.Module, ranks: Ranks, read: Read) -> Teacher:
        """Open the base that teaches."""
        return Frozen(read(self.path), ranks)


class StartConfig(TeacherConfig):
    """The model as its training starts, frozen: the reference of preferences.

    It is copied from the student, so that no other model can take its place; a resume compares it.
    """

    name: Literal["start"] = "start"
    is_start: ClassVar[bool] = True

    def build(self, student: nn.Module, ranks: Ranks, read: Read) -> Teacher:
        """Copy the student, which has not moved yet."""
        return Frozen(copy.deepcopy(student), ranks)


class Frozen(Twin):
    """It never moves; a checkpoint holds only its name."""

    def identity(self) -> str | None:
        """Return the SHA-256 of the weights."""
        digest = hashlib.sha256()
        for _, value in sorted(gather(self.model).items()):
            digest.update(value.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


class AverageConfig(TeacherConfig):
    """The exponential moving average of the student (Tarvainen & Valpola 2017, eq. 3).

    The momentum rises to 1 by half a cosine (Caron et al. 2021, 3.1).
    """

    name: Literal["ema"] = "ema"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.996
    """The share of the average that stays at the first step; it rises to 1 over the run."""

    def build(self, student: nn.Module, ranks: Ranks, read: Read) -> Teacher:
        """Copy the student as the first average."""
        return Average(copy.deepcopy(student), ranks, self.momentum)


class Average(Twin):
    """Parameters follow the student's; buffers are the teacher's own."""

    def __init__(self, model: nn.Module, ranks: Ranks, momentum: float) -> None:
        """Take the model, and how much of the average stays at the first step."""
        super().__init__(model, ranks)
        self.final_model, self.momentum = self.model, momentum
        self._lead(0.0, ranks.sum)

    @torch.no_grad()
    def update(self, student: nn.Module, step: int, steps: int, add: Add) -> Mapping[str, float]:
        """Move the average towards the student."""
        part = (1 - self.momentum) * (1 + math.cos(math.pi * step / steps)) / 2
        for average, parameter in zip(self.model.parameters(), student.parameters(), strict=True):
            average.lerp_(parameter, part)
        return self._lead((step + 1) / steps, add)

    def _lead(self, done: float, add: Add) -> Mapping[str, float]:
        """Call `on_step` of every head; return its numbers as "head/number"."""
        return {
            f"{name.rpartition('.')[2]}/{what}": value
            for name, module in self.model.named_modules()
            if isinstance(module, Head)
            for what, value in module.on_step(done, add).items()
        }

    def state(self) -> Mapping[str, Tensor]:
        """Return the weights under `teacher/`."""
        return {f"teacher/{name}": value for name, value in named(self.model).items()}
