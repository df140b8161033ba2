"""Teachers: a twin of the model that answers Views without gradient.

It is the model's own moving average, or a base that was trained before.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.config import Choice
from broadbase.core.view import Output, View
from broadbase.train.ranks import gather, named

Read = Callable[[str], nn.Module]  # a model folder to its model


class TeacherConfig(Choice):
    """Who answers the Views that are marked `twin`."""

    package: ClassVar[str] = "train"

    def build(self, student: nn.Module, read: Read) -> Teacher:
        """The teacher of a student that is not sharded yet; `read` opens a model folder."""
        raise TypeError(f"{type(self).__name__} has no build()")


class Teacher:
    """A model without gradient; this one never moves."""

    kept: ClassVar[bool] = False  # whether a run keeps the teacher at its end, not the student

    def __init__(self, model: nn.Module) -> None:
        self.model = model.requires_grad_(False)

    @torch.no_grad()
    def answer(self, view: View) -> Output:
        """The twin's output for a view; what a tower charges itself is not for a teacher to pay."""
        output: Output = self.model(view)
        return replace(output, penalties={})

    def follow(self, student: nn.Module, step: int, steps: int) -> None:
        """Move after the student's step number `step` (from 0) of `steps`."""

    def identity(self) -> str | None:
        """What a resume must find unchanged, where the checkpoint does not hold it."""
        digest = hashlib.sha256()
        for _, value in sorted(gather(self.model).items()):
            digest.update(value.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def state(self) -> Mapping[str, Tensor]:
        """What a checkpoint keeps of it and fills again, by names that no parameter has."""
        return {}


class FrozenConfig(TeacherConfig):
    """A base that was trained before, as it is (Hinton et al. 2015)."""

    name: Literal["frozen"] = "frozen"
    path: str  # a run's folder or a model folder

    def build(self, student: nn.Module, read: Read) -> Teacher:
        return Teacher(read(self.path))


class AverageConfig(TeacherConfig):
    """The exponential moving average of the student (Tarvainen & Valpola 2017, eq. 3).

    The momentum rises to 1 by half a cosine (Caron et al. 2021, 3.1).
    """

    name: Literal["ema"] = "ema"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.996  # at the first step

    def build(self, student: nn.Module, read: Read) -> Teacher:
        return Average(copy.deepcopy(student), self.momentum)


class Average(Teacher):
    """Parameters follow the student's; buffers are the teacher's own."""

    kept = True

    def __init__(self, model: nn.Module, momentum: float) -> None:
        super().__init__(model)
        self.momentum = momentum

    @torch.no_grad()
    def follow(self, student: nn.Module, step: int, steps: int) -> None:
        part = (1 - self.momentum) * (1 + math.cos(math.pi * step / steps)) / 2
        for mine, theirs in zip(self.model.parameters(), student.parameters(), strict=True):
            mine.lerp_(theirs, part)

    def identity(self) -> str | None:
        return None

    def state(self) -> Mapping[str, Tensor]:
        return {f"teacher/{name}": value for name, value in named(self.model).items()}
