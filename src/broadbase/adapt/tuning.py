"""What methods share that train a copy of the base by gradient descent on the labels."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from broadbase.adapt import answers
from broadbase.adapt.lessons import Lesson, batches, labels, texts
from broadbase.adapt.method import MethodConfig
from broadbase.adapt.splits import Indices
from broadbase.adapt.target import Target
from broadbase.adapt.task import Task
from broadbase.adapt.training import Budget, train_steps
from broadbase.inference.base import Base
from broadbase.inference.embedding import Done
from broadbase.train.optim import Optim


class TuningConfig(MethodConfig):
    """The settings of the training: on labels with a new head, or on texts without one."""

    trains_base: ClassVar[bool] = True
    weighs_classes: ClassVar[bool] = True
    generates: ClassVar[bool] = True
    steps: Annotated[int, Field(ge=1)] = 100
    """The number of optimizer steps."""
    batch: Annotated[int, Field(ge=1)] = 32
    """The labelled records in a step."""
    lr: Annotated[float, Field(gt=0)] = 1e-3
    """The peak learning rate of AdamW."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    """How much matrices shrink per step, times the learning rate."""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """What tokens of a text are drawn with; with 0 the likeliest are taken."""
    device: str = "cpu"
    """The device to train on."""

    @property
    def work(self) -> int:
        """The number of steps."""
        return self.steps

    def readings(self, records: int) -> float:
        """Return how often a record is in a batch, times three: forwards, and twice backwards."""
        return 3 * self.steps * min(self.batch, records) / records

    def refusal(self, base: Base, task: Task) -> str:
        """Refuse labels of tokens, and texts that the base cannot generate."""
        if task.token_labels is not None:
            return f"{self.name} learns labels of records; learn labels of tokens with probe or knn"
        if not task.target.generates:
            return ""
        return answers.refusal(base, task.modality, task.paired)

    def joins(self, base: Base, modality: str, paired: bool, target: Target) -> bool:
        """Both items of a pair are read as one document; without an encoder so is a text."""
        return paired or (target.generates and answers.shares_room(base, modality))

    def lesson(
        self, base: Base, task: Task, train: Indices, seed: int, share: bool = False
    ) -> Lesson:
        """Return what is trained and on what; `share` as in `lessons.labels`."""
        if task.target.generates:
            return texts(base, task, train, seed, self.temperature, share)
        return labels(base, task, train, seed, share)

    def train(
        self, lesson: Lesson, optim: Optim, train: Indices, seed: int, what: str, done: Done
    ) -> None:
        """Train the model of a lesson in place on the records `train`; `what` it is, for errors."""
        train_steps(
            lesson.fitted.base.model,
            lesson.objective,
            optim,
            lambda first: batches(lesson.rows, train, self.batch, seed, range(first, self.steps)),
            Budget(self.steps, self.lr, self.device, what),
            done,
        )
