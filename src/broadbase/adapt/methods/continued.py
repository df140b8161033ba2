"""Continued pretraining on records without labels, then another method on the trained base.

Gururangan et al. 2020, "Don't stop pretraining".

Legend: M records, or tokens where tokens are labelled; K columns of outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from broadbase.adapt.delegated import Delegated, ThenConfig
from broadbase.adapt.encoder import Encoder
from broadbase.adapt.inputs import Inputs
from broadbase.adapt.method import Arrays, Fitted, MethodConfig
from broadbase.adapt.methods.probe import ProbeConfig
from broadbase.adapt.pretraining import Pretraining, PretrainingConfig
from broadbase.adapt.splits import Indices
from broadbase.adapt.target import Target
from broadbase.adapt.task import Task
from broadbase.inference.base import Base
from broadbase.inference.embedding import Done, ignored

ENDS = 10  # steps at either end whose mean loss is kept


class ContinueConfig(PretrainingConfig, ThenConfig):
    """The base goes on pretraining on the records without labels and those to learn from.

    A copy of it is trained; then the method `then` learns the labels with the trained base.
    """

    name: Literal["continue"] = "continue"
    trains_base: ClassVar[bool] = True
    uses_unlabelled: ClassVar[bool] = True
    then: MethodConfig = ProbeConfig()
    """The method that learns the labels; its name, or its name and settings."""

    @property
    def needs_labels(self) -> bool:  # type: ignore[override]
        """As the method that learns the labels."""
        return self.then.needs_labels

    @property
    def work(self) -> int:
        """The number of steps."""
        return self.steps + self.then.work

    def readings(self, records: int) -> float:
        """Return how often a record is in a batch, times three, and those of `then`."""
        return 3 * self.steps * self.batch / records + self.then.readings(records)

    @property
    def unchanged(self) -> MethodConfig | None:
        """The method `then`, on the base as it is."""
        return self.then

    def refusal(self, base: Base, task: Task) -> str:
        """Refuse a task without unlabelled records, and a base that the objective cannot train."""
        if not task.unlabelled:
            return (
                "continue learns from records without labels, and there are none; give some"
                " (--unlabelled DATA, or rows of the data with an empty label)"
            )
        reason = Pretraining(self, base, task.modality).refusal(Inputs(task.unlabelled).items.raws)
        return reason or self.then.refusal(base, task)

    def fit(
        self, encoder: Encoder, task: Task, train: Indices, seed: int = 0, done: Done = ignored
    ) -> Fitted:
        """Train a copy of the base, and learn the labels with it."""
        inputs = task.inputs(train)
        labelled = [inputs.raws[int(i)] for i in inputs.used]
        raws = Inputs([*task.unlabelled, *labelled]).items.raws
        base, losses = Pretraining(self, encoder.base, task.modality).train(raws, seed, done)
        trained = Encoder(base, task.modality, cache=None)
        fitted = self.then.fit(trained, task, train, seed, done)
        first, last = (sum(part) / len(part) for part in (losses[:ENDS], losses[-ENDS:]))
        about = {"records": len(raws), "loss": [first, last]}
        return Continued(fitted, about)

    def restore(
        self, encoder: Encoder, target: Target, arrays: Arrays, facts: Mapping[str, Any]
    ) -> Fitted:
        """Return what `then` learned on the trained base, which `encoder` has."""
        about = {name: value for name, value in facts.items() if name != "then"}
        return Continued(self.then.restore(encoder, target, arrays, facts["then"]), about)


@dataclass(frozen=True)
class Continued(Delegated):
    """What a method learned on a base that was trained before."""

    about: Mapping[str, Any]  # the records of the pretraining, its loss at first and at last

    @property
    def trained(self) -> bool:
        """It was."""
        return True

    @property
    def facts(self) -> Mapping[str, Any]:
        """Those of the method, how many records were trained on, and the loss first and last."""
        return {"then": dict(self.learned.facts), **self.about}
