"""Several objectives on one base: each on sources of its own, or on the same (UL2 and the like)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field, model_validator

from broadbase.core.config import Config, hint
from broadbase.core.contracts import Batch, Corruption, Objective, ObjectiveConfig
from broadbase.core.loss import Loss, TermWeight
from broadbase.core.usage import DataFacts, Usage
from broadbase.core.view import Output, View
from broadbase.inference.usages import plain_usage


class Component(Config):
    """One objective, what it is trained on, and how much it counts."""

    objective: ObjectiveConfig
    sources: tuple[str, ...] = ()  # none: all
    scale: Annotated[float, Field(gt=0)] = 1.0


class MixtureConfig(ObjectiveConfig):
    """A weighted sum; the terms of each part are named part/term."""

    name: Literal["mixture"] = "mixture"
    components: Annotated[dict[str, Component], Field(min_length=1)] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_parts(self) -> MixtureConfig:
        if not self.components:
            raise ValueError("parts: name at least one objective")
        return self

    def check(self, sources: Mapping[str, str | None]) -> None:
        for name, part in self.components.items():
            for source in part.sources:
                if source not in sources:
                    raise ValueError(f"parts.{name}.sources: no {source!r}{hint(source, sources)}")
            part.objective.check(sources)

    @property
    def pattern(self) -> str:  # type: ignore[override]
        """That of all parts, where they have one."""
        found = {part.objective.pattern for part in self.components.values()}
        return found.pop() if len(found) == 1 else "full"

    def likelihoods(self, sources: Iterable[str]) -> Mapping[str, str]:
        every = tuple(sources)
        return {
            f"{name}/{term}": source
            for name, part in self.components.items()
            for term, source in part.objective.likelihoods(part.sources or every).items()
        }

    def usage(self, facts: DataFacts) -> Usage:
        """Return what the usages of all parts have in common.

        Parts that differ in attention or in conditioning leave a base that does not generate, or
        one that continues its prompt.
        """
        first, *others = (part.objective.usage(facts) for part in self.components.values())
        if all(other == first for other in others):
            return first
        return plain_usage(self.pattern, facts=facts)

    def build(self) -> Objective:
        return Mixture(self)


class Mixture:
    """Every part makes its views; which outputs are whose follows from their order."""

    def __init__(self, config: MixtureConfig) -> None:
        self.parts = config.components
        self.built = {name: part.objective.build() for name, part in config.components.items()}
        self.batch_coupled = any(objective.batch_coupled for objective in self.built.values())

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        """All parts' views, one part after another."""
        found: list[View] = []
        for name, part in self.parts.items():
            wanted = part.sources or tuple(batch.segments)
            some = {k: s for k, s in batch.segments.items() if k in wanted}
            views = self.built[name].views(replace(batch, segments=some), corrupt)
            found += [replace(view, component=name) for view in views]
        return tuple(found)

    def term_weights(self, views: Sequence[View]) -> Mapping[str, TermWeight]:
        """The parts' shares, each scaled by its part of all scales."""
        whole = sum(part.scale for part in self.parts.values())
        return {
            f"{name}/{term}": TermWeight(share.weight, share.scale * part.scale / whole)
            for name, part in self.parts.items()
            for term, share in self.built[name].term_weights(_of(name, views)).items()
        }

    def loss(self, outputs: Sequence[Output], views: Sequence[View]) -> Loss:
        """The parts' totals."""
        pairs = list(zip(outputs, views, strict=True))
        found = {}
        for name, objective in self.built.items():
            mine = [output for output, view in pairs if view.component == name]
            for term, total in objective.loss(mine, _of(name, views)).items():
                found[f"{name}/{term}"] = total
        return found


def _of(name: str, views: Sequence[View]) -> list[View]:
    return [view for view in views if view.component == name]
