"""A way to adapt a base to a task: the slot of adaptation methods.

A method is a file of `adapt/methods`, or comes from outside (`broadbase.adapt.methods`). It learns
from labelled records (`fit`); what it learned predicts outputs, and is saved as arrays.

Legend: M records, or tokens where tokens are labelled; F features, K columns of outputs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch.nn import Parameter

from broadbase.adapt.encoder import Encoder
from broadbase.adapt.inputs import Inputs
from broadbase.adapt.splits import Indices
from broadbase.adapt.target import Outputs, Target
from broadbase.adapt.task import Task
from broadbase.core.config import Slot
from broadbase.inference.base import Base
from broadbase.inference.embedding import Done, ignored
from broadbase.inference.truncation import max_tokens
from broadbase.nn.adapters.adapter import AdapterWeights

Arrays = Mapping[str, NDArray[Any]]
Part = tuple[Indices, Indices]  # records to learn from, and others to predict


@dataclass(frozen=True)
class Selection:
    """Which of several methods learned a task, and why it was chosen."""

    method: MethodConfig
    trials: Sequence[Mapping[str, Any]]  # a row of plain values for each candidate
    reason: str

    def as_json(self) -> dict[str, Any]:
        """Return the selection as plain values."""
        rows = [dict(row) for row in self.trials]
        return {"method": self.method.tree(), "trials": rows, "reason": self.reason}


class Fitted(ABC):
    """What a method learned for one task."""

    @property
    @abstractmethod
    def base(self) -> Base:
        """The base that reads records: the one that was given, or one that the method trained."""

    @property
    def stored_base(self) -> Base:
        """The base that `MethodConfig.restore` needs."""
        return self.base

    @abstractmethod
    def outputs(self, inputs: Inputs) -> Outputs:
        """Return a logit for each class, or a number, for each record, [M,K]."""

    @abstractmethod
    def arrays(self) -> Arrays:
        """Return the learned numbers that `MethodConfig.restore` needs, without the base."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """Plain values that `MethodConfig.restore` needs, and that a reader may want to see."""
        return {}

    def members(self, inputs: Inputs) -> Sequence[Outputs]:
        """Return the outputs [M,K] of each of several predictors that `outputs` combines, if any.

        They are those of each order of the examples in a prompt.
        """
        return ()

    @property
    def remarks(self) -> Sequence[str]:
        """What is odd with the records that were predicted so far."""
        return ()

    @property
    def trained(self) -> bool:
        """Whether the base was trained for the task, so that it counts among what was learned."""
        return False

    @property
    def adapter(self) -> AdapterWeights | None:
        """What was learned for the linear maps of `stored_base`, apart from these, if anything."""
        return None

    @property
    def parameters(self) -> int:
        """The number of learned numbers."""
        return sum(array.size for array in self.arrays().values()) + sum(
            p.numel() for p in self._trained()
        )

    @property
    def size(self) -> int:
        """The bytes of the learned numbers."""
        return sum(array.nbytes for array in self.arrays().values()) + sum(
            p.nbytes for p in self._trained()
        )

    def _trained(self) -> Iterator[Parameter]:
        """Yield the parameters of the base, where it was trained."""
        if self.trained:
            yield from self.base.model.parameters()

    @property
    def columns(self) -> Mapping[str, Any]:
        """The names of what `annotated` adds to a row, each with its type: str or float."""
        return {}

    def annotated(
        self, raws: Sequence[Any], rows: Sequence[dict[str, Any]]
    ) -> Sequence[dict[str, Any]]:
        """Return predicted rows with what else is to be said of each record: by default nothing."""
        return rows

    @property
    def selection(self) -> Selection | None:
        """Which method learned it, where one was chosen among several."""
        return None


class MethodConfig(Slot):
    """The settings of a way to adapt a base."""

    package: ClassVar[str] = "adapt.methods"
    trains_base: ClassVar[bool] = False
    """Whether what reads records changes, so that its vectors cannot be computed once."""

    by_neighbours: ClassVar[bool] = False
    """Whether it is compared with neighbours by hand-made features, not with models of these."""

    generates: ClassVar[bool] = False
    """Whether it learns texts too (`Target.generates`)."""

    needs_labels: ClassVar[bool] = True
    """Whether it learns from labelled records; otherwise it may be fitted to none."""

    weighs_classes: ClassVar[bool] = False
    """Whether it learns by the target's weights of classes, as `Target.ridge` does."""

    selects: ClassVar[bool] = False
    """Whether it selects one of several methods, which `Fitted.selection` then has."""

    uses_unlabelled: ClassVar[bool] = False
    """Whether it learns from records without labels too, where the task has some."""

    @property
    def reads_vectors(self) -> bool:
        """Whether it learns from vectors of the base, which are then computed once for all."""
        return not self.trains_base

    @property
    def saves_base(self) -> bool:
        """Whether a base of its own is saved; otherwise the base that was given is named."""
        return self.trains_base

    @property
    def work(self) -> int:
        """How many steps of `fit` are reported by `done`; 0 where it takes no steps."""
        return 0

    def joins(self, base: Base, modality: str, paired: bool, target: Target) -> bool:
        """Say whether a record takes half of the room of the base.

        So it does where both items of a pair, or a record and its text, are read as one document.
        """
        return False

    def record_tokens(self, base: Base, modality: str, paired: bool, target: Target) -> int:
        """Return how many tokens of a record are read at most, or of each item of a pair."""
        return max_tokens(base, modality, self.joins(base, modality, paired, target))

    @property
    def unchanged(self) -> MethodConfig | None:
        """The method on the base as it is that this one must beat to be worth its cost, if any."""
        return None

    def readings(self, records: int) -> float:
        """Return how many times the base reads each of so many records in `fit`, about.

        A training step is three. It is 0 where kept vectors are enough, however often it is fitted.
        """
        return 0.0

    def refusal(self, base: Base, task: Task) -> str:
        """Say why the method cannot learn this task from this base; empty where it can.

        The rest is in `unsuited`.
        """
        return ""

    def unsuited(self, base: Base, task: Task, labels: int = 1) -> str:
        """Say why the method cannot learn this task from so many labels; empty where it can."""
        if self.needs_labels and not labels:
            return (
                f"{self.name} learns from labels, and has none; give it some (--train-size), or"
                " take the names of the classes (--method names)"
            )
        if task.target.is_weighted and not self.weighs_classes:
            return (
                f"{self.name} cannot weigh classes (--class-weights); take --method probe, knn or"
                " finetune"
            )
        if task.target.generates and not self.generates:
            return (
                f"{self.name} predicts no text; learn texts with --method finetune, or knn, which"
                " gives the text of the nearest record"
            )
        return self.refusal(base, task)

    @abstractmethod
    def fit(
        self, encoder: Encoder, task: Task, train: Indices, seed: int = 0, done: Done = ignored
    ) -> Fitted:
        """Learn the task from the records `train` alone, with all chance from `seed`."""

    def cross_fit(
        self,
        encoder: Encoder,
        task: Task,
        train: Indices,
        parts: Sequence[Part],
        seed: int = 0,
        done: Done = ignored,
    ) -> tuple[Fitted, list[Outputs]]:
        """Learn from `train`, and return outputs for held-out records of it as well.

        Of each part the outputs [M,K] are for its second records, and learned from its first alone.
        """
        fitted, held = self.fit(encoder, task, train, seed, done), []
        for fit, rest in parts:
            part = self.fit(encoder, task, fit, seed, done) if self.needs_labels else fitted
            held.append(part.outputs(task.inputs(rest)))
        return fitted, held

    def restore(
        self, encoder: Encoder, target: Target, arrays: Arrays, facts: Mapping[str, Any]
    ) -> Fitted:
        """Return what was learned, from its saved arrays and facts: by default a `Linear`.

        The base of `encoder` is that of `Fitted.base`.
        """
        return Linear(encoder, weight=arrays["weight"], bias=arrays["bias"], **facts)


@dataclass(frozen=True)
class Linear(Fitted):
    """A linear map of one representation of a frozen base."""

    encoder: Encoder
    representation: str
    weight: NDArray[np.float64]  # [F,K]
    bias: NDArray[np.float64]  # [K]
    normalise: bool = False  # whether vectors are brought to length 1 first

    def __post_init__(self) -> None:
        """Keep the weight in the order of its file, so that sums are the same after loading."""
        object.__setattr__(self, "weight", np.ascontiguousarray(self.weight))

    @property
    def base(self) -> Base:
        """The frozen base."""
        return self.encoder.base

    def outputs(self, inputs: Inputs) -> Outputs:
        """Return the linear map of the vectors of records, [M,K]."""
        vectors = self.encoder.vectors(inputs, self.representation).astype(np.float64)
        if self.normalise:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        outputs: Outputs = vectors @ self.weight + self.bias
        return outputs

    def arrays(self) -> Arrays:
        """Return the weight [F,K] and the bias [K]."""
        return {"weight": self.weight, "bias": self.bias}

    @property
    def facts(self) -> Mapping[str, Any]:
        """The representation, and whether vectors are normalised."""
        return {"representation": self.representation, "normalise": self.normalise}

    @classmethod
    def folded(cls, encoder: Encoder, target: Target, representation: str, model: Any) -> Linear:
        """Return the linear map that a fitted linear scikit-learn model computes."""
        size = model.n_features_in_
        bias = target.outputs(model, np.zeros((1, size)))[0]
        return cls(encoder, representation, target.outputs(model, np.eye(size)) - bias, bias)
