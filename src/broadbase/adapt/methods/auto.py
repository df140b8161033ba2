"""The method that suits a task, chosen among several by cross-validation on its labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from broadbase.adapt.delegated import Delegated
from broadbase.adapt.encoder import Encoder
from broadbase.adapt.method import Arrays, Fitted, MethodConfig, Selection
from broadbase.adapt.selecting import Trials, parts_of
from broadbase.adapt.splits import Indices
from broadbase.adapt.target import Target
from broadbase.adapt.task import Task
from broadbase.core.errors import ConfigError
from broadbase.inference.base import Base
from broadbase.inference.embedding import Done, ignored

CANDIDATES = ("centroids", "names", "knn", "probe", "finetune")  # cheap ones first


def _tree(candidate: Any) -> Any:
    """Return the settings of a candidate that is a name."""
    return {"name": candidate} if isinstance(candidate, str) else candidate


Candidate = Annotated[MethodConfig, BeforeValidator(_tree)]


class AutoConfig(MethodConfig):
    """The first of the candidates that is not clearly worse than the best of them.

    They are compared by repeated cross-validation on the labelled records.
    """

    name: Literal["auto"] = "auto"
    selects: ClassVar[bool] = True
    candidates: Annotated[tuple[Candidate, ...], Field(min_length=1, validate_default=True)] = (
        CANDIDATES  # type: ignore[assignment]
    )
    """Names of methods, or methods with settings such as {name: knn}; cheap ones first."""
    repeats: Annotated[int, Field(ge=1)] = 3
    """How often cross-validation is repeated, with other folds each time; of 2,000 labels or more
    it is done once."""
    budget: Annotated[float, Field(ge=0)] = 1.0
    """How often the base may read each labelled record for a candidate that trains it; one that
    takes longer is not tried."""

    @property
    def needs_labels(self) -> bool:  # type: ignore[override]
        """Whether every candidate does."""
        return all(method.needs_labels for method in self.candidates)

    @property
    def uses_unlabelled(self) -> bool:  # type: ignore[override]
        """Whether a candidate does."""
        return any(method.uses_unlabelled for method in self.candidates)

    @property
    def weighs_classes(self) -> bool:  # type: ignore[override]
        """Whether a candidate does."""
        return any(method.weighs_classes for method in self.candidates)

    @property
    def generates(self) -> bool:  # type: ignore[override]
        """Whether a candidate does."""
        return any(method.generates for method in self.candidates)

    def refusal(self, base: Base, task: Task) -> str:
        """Refuse what every candidate refuses, and to choose itself."""
        if any(method.name == self.name for method in self.candidates):
            return "auto cannot be one of its own candidates"
        reasons = [method.unsuited(base, task) for method in self.candidates]
        return "; ".join(reasons) if all(reasons) else ""

    def fit(
        self, encoder: Encoder, task: Task, train: Indices, seed: int = 0, done: Done = ignored
    ) -> Fitted:
        """Try the candidates, and return what the chosen one learned; ConfigError if none can."""
        trials = Trials(encoder, task, train, seed, parts_of(task, train, seed, self.repeats))
        for method in self.candidates:
            if reason := self._reason(method, encoder.base, task, len(train)):
                trials.refuse(method, reason)
            else:
                trials.add(method)
        if not trials.tried:
            reasons = "; ".join(each.refused for each in trials.refused)
            raise ConfigError(f"task {task.name!r}: auto can try no candidate: {reasons}")
        selection, fitted = trials.selection()
        return Chosen(fitted, selection)

    def _reason(self, method: MethodConfig, base: Base, task: Task, labels: int) -> str:
        """Return why a candidate is not tried; empty where it is."""
        if reason := method.unsuited(base, task, labels):
            return reason
        times = 2 * method.readings(labels) if labels else 0.0  # to try it, and to learn
        if times <= self.budget:
            return ""
        return (
            f"the base would read each labelled record {ceil(times):,} times, and the budget is"
            f" {self.budget:g} (--set budget={ceil(times)})"
        )

    def restore(
        self, encoder: Encoder, target: Target, arrays: Arrays, facts: Mapping[str, Any]
    ) -> Fitted:
        """Return what the chosen method learned."""
        saved = facts["selection"]
        method = MethodConfig.from_tree(saved["method"])
        selection = Selection(method, saved["trials"], saved["reason"])
        return Chosen(method.restore(encoder, target, arrays, facts["facts"]), selection)


@dataclass(frozen=True)
class Chosen(Delegated):
    """What the chosen method learned, and why it was chosen."""

    selected: Selection

    @property
    def facts(self) -> Mapping[str, Any]:
        """The selection, and the facts of the chosen method."""
        return {"selection": self.selected.as_json(), "facts": dict(self.learned.facts)}

    @property
    def selection(self) -> Selection | None:
        """The selection."""
        return self.selected
