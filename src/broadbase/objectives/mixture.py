"""Several objectives on one base, each on its sources or on all (UL2 and the like)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field, model_validator
from torch import Tensor

from broadbase.core.config import Config, hint
from broadbase.core.contracts import Batch, Corruption, Objective, ObjectiveConfig
from broadbase.core.loss import Loss, TermWeight
from broadbase.core.usage import DataFacts, Usage
from broadbase.core.view import Output, View
from broadbase.inference.usages import plain_usage


class Component(Config):
    """One objective of a mixture."""

    objective: ObjectiveConfig
    """The objective."""
    sources: tuple[str, ...] = ()
    """The sources that it is trained on; empty: all."""
    scale: Annotated[float, Field(gt=0)] = 1.0
    """How much its loss counts, relative to the scales of the other components."""


class MixtureConfig(ObjectiveConfig):
    """A weighted sum of objectives; their terms are named component/term."""

    name: Literal["mixture"] = "mixture"
    components: Annotated[dict[str, Component], Field(min_length=1)] = Field(default_factory=dict)
    """The objectives, by a name of your choice."""

    @model_validator(mode="after")
    def _has_components(self) -> MixtureConfig:
        if not self.components:
            raise ValueError("objective 'mixture' has no components; name at least one")
        return self

    def check(self, sources: Mapping[str, str | None]) -> None:
        """Check that every component's sources exist and fit it; ValueError otherwise."""
        for name, component in self.components.items():
            for source in component.sources:
                if source not in sources:
                    raise ValueError(
                        f"components.{name}.sources: no source {source!r}{hint(source, sources)}"
                    )
            component.objective.check(sources)

    @property
    def pattern(self) -> str:  # type: ignore[override]
        """The pattern of all components if they have the same; full otherwise."""
        patterns = {component.objective.pattern for component in self.components.values()}
        return patterns.pop() if len(patterns) == 1 else "full"

    def likelihoods(self, sources: Iterable[str]) -> Mapping[str, str]:
        """Return the terms of all components that are likelihoods, with their sources."""
        every = tuple(sources)
        return {
            f"{name}/{term}": source
            for name, component in self.components.items()
            for term, source in component.objective.likelihoods(component.sources or every).items()
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
        """Return the objective."""
        return Mixture(self)


class Mixture:
    """Objectives whose views are distinguished by the name of their component."""

    def __init__(self, config: MixtureConfig) -> None:
        """Build the objective of every component."""
        self.components = config.components
        self.objectives = {name: c.objective.build() for name, c in config.components.items()}
        self.batch_coupled = any(o.batch_coupled for o in self.objectives.values())

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        """Return the views of all components, one component after another."""
        result: list[View] = []
        for name, component in self.components.items():
            sources = component.sources or tuple(batch.segments)
            segments = {k: s for k, s in batch.segments.items() if k in sources}
            views = self.objectives[name].views(replace(batch, segments=segments), corrupt)
            result += [replace(view, component=name) for view in views]
        return tuple(result)

    def term_weights(self, views: Sequence[View]) -> Mapping[str, TermWeight]:
        """Return the components' term weights, scaled by their shares of the sum of scales."""
        total = sum(component.scale for component in self.components.values())
        return {
            f"{name}/{term}": TermWeight(weight.weight, weight.scale * component.scale / total)
            for name, component in self.components.items()
            for term, weight in self.objectives[name].term_weights(_of(name, views)).items()
        }

    def loss(self, outputs: Sequence[Output], views: Sequence[View]) -> Loss:
        """Return the totals of all components."""
        pairs = list(zip(outputs, views, strict=True))
        totals: dict[str, Tensor] = {}
        for name, objective in self.objectives.items():
            selected = [output for output, view in pairs if view.component == name]
            for term, total in objective.loss(selected, _of(name, views)).items():
                totals[f"{name}/{term}"] = total
        return totals


def _of(name: str, views: Sequence[View]) -> list[View]:
    return [view for view in views if view.component == name]
