"""Measures: what `broadbase evaluate` computes for which runs, and how they are discovered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from broadbase.core.config import Slot
from broadbase.core.contracts import ModalityConfig, ObjectiveConfig
from broadbase.core.errors import ConfigError
from broadbase.core.plugins import declared, plugins
from broadbase.core.view import Stream, View
from broadbase.evidence.comparison import Comparison
from broadbase.evidence.interval import paired_interval
from broadbase.inference.base import Base
from broadbase.objectives.mixture import MixtureConfig
from broadbase.run.run import Run

C = TypeVar("C", bound=ObjectiveConfig)
Modalities = tuple[type[ModalityConfig], ...]


def always(_run: Run, _config: Any) -> bool:
    """Apply to every run of a measure's objectives and modalities."""
    return True


@dataclass(frozen=True)
class Measure(Generic[C]):
    """Comparisons on a run's held-out records, for runs of some objectives and modalities.

    `compute` is given the run, the model and the run's objective, and may raise what the user
    should see. `applies` says what the kinds of objective and modalities alone do not: whether the
    measure is defined for this run.
    """

    objectives: tuple[type[C], ...]
    compute: Callable[[Run, Base, C], Iterable[Comparison]]
    modalities: Modalities = (ModalityConfig,)
    applies: Callable[[Run, C], bool] = always

    def fits(self, run: Run) -> bool:
        """Return whether the measure is defined for a run."""
        config = run.config.objective
        return (
            isinstance(config, self.objectives)
            and _all_of(run, self.modalities)
            and self.applies(run, config)
        )

    def evaluate(self, run: Run, base: Base) -> Iterator[Comparison]:
        """Yield the comparisons of a model of a run that fits."""
        config = run.config.objective
        assert isinstance(config, self.objectives)
        yield from self.compute(run, base, config)

    @property
    def targets(self) -> list[str]:
        """Return what the measure is for, in messages: "causal", "mae (audio)"."""
        return _targets(self.objectives, self.modalities)


@dataclass(frozen=True)
class TaskMeasure:
    """Comparisons on a task by its name, for models trained with some objectives and modalities.

    `compute` is given the model and the task: a path, "sample:NAME" or "source:FILE.yaml".
    """

    objectives: tuple[type[ObjectiveConfig], ...]
    compute: Callable[[Base, str], Iterable[Comparison]]
    modalities: Modalities = (ModalityConfig,)

    def fits(self, run: Run) -> bool:
        """Return whether the measure is defined for the model of a run."""
        return isinstance(run.config.objective, self.objectives) and _all_of(run, self.modalities)

    @property
    def targets(self) -> list[str]:
        """Return what the measure is for, in messages."""
        return _targets(self.objectives, self.modalities)


AnyMeasure = TypeVar("AnyMeasure", Measure[Any], TaskMeasure)


def all_measures() -> list[Measure[Any] | TaskMeasure]:
    """Return every measure of this package and of plugins (`broadbase.measures`, or a MEASURE)."""
    return declared("broadbase.evaluate", "MEASURE") + plugins("measures", "MEASURE")


def evaluate(run: Run, base: Base) -> list[Comparison]:
    """Compare a model with baselines on the held-out records of its run.

    Every measure that fits is computed; what one raises is raised. A mixture of objectives that no
    measure fits is evaluated component by component. ConfigError where no measure fits.
    """
    measures = [m for m in all_measures() if isinstance(m, Measure)]
    rows = [row for m, part in _fitting(run, measures) for row in m.evaluate(part, base)]
    return rows or _refuse(run, measures)


def evaluate_task(run: Run, base: Base, task: str) -> list[Comparison]:
    """Compare a model with baselines on a task; ConfigError where no measure of tasks fits."""
    measures = [m for m in all_measures() if isinstance(m, TaskMeasure)]
    rows = [row for m, _ in _fitting(run, measures) for row in m.compute(base, task)]
    return rows or _refuse(run, measures)


def evaluate_against(run: Run, base: Base, other: Base, name: str) -> list[Comparison]:
    """Compare a model with baselines and with another model, called `name`, on the same records.

    ConfigError where a measure keeps no scores by document, which the paired interval needs.
    """
    rows = evaluate(run, base)
    others = {(row.subject, row.metric): row for row in evaluate(run, other)}
    for key, row in {(row.subject, row.metric): row for row in rows}.items():
        if not row.per_item:
            raise ConfigError(f"{row.metric.name} has no scores by document, so no two models can"
                              " be compared by it; leave out the other model")  # fmt: skip
        scores = others[key].per_item
        gap = paired_interval(row.per_item, scores)
        score = others[key].model
        rows.append(replace(row, baseline=name, other=score, gap=gap, other_per_item=scores))
    return rows


def without_targets(view: View) -> View:
    """Return a view whose one readout predicts, under the term "p", and scores nothing."""

    def without(stream: Stream) -> Stream:
        return replace(stream, readouts=tuple(score.predict("p") for score in stream.scored))

    return View(tuple(without(stream) for stream in view.streams))


def _fitting(run: Run, measures: list[AnyMeasure]) -> list[tuple[AnyMeasure, Run]]:
    """Return the measures that fit a run, or the components of its mixture, each with its run."""
    fitting = [(measure, run) for measure in measures if measure.fits(run)]
    config = run.config
    if fitting or not isinstance(config.objective, MixtureConfig):
        return fitting
    for component in config.objective.components.values():
        names = component.sources or config.data.sources
        sources = {name: config.data.sources[name] for name in names}
        data = config.data.replace(sources=sources)
        changed = config.replace(objective=component.objective, data=data)
        part = run.with_config(changed)
        fitting += [(measure, part) for measure in measures if measure.fits(part)]
    return fitting


def _refuse(run: Run, measures: Iterable[Measure[Any] | TaskMeasure]) -> list[Comparison]:
    """Raise ConfigError, which names the objectives and modalities that have a measure."""
    config = run.config
    used = {mixed.modality for mixed in config.data.sources.values()}
    modalities = sorted({config.model.modalities[name].name for name in used})
    targets = sorted({target for measure in measures for target in measure.targets})
    raise ConfigError(
        f"there is no measure of objective {config.objective.name!r} for data of modality"
        f" {', '.join(modalities)}; there is one of: {', '.join(targets)}. `broadbase adapt RUN"
        " --method knn` compares the model's embeddings on labelled data"
    )


def _all_of(run: Run, modalities: Modalities) -> bool:
    """Return whether all sources of a run are of some modalities."""
    config = run.config
    used = [config.model.modalities[mixed.modality] for mixed in config.data.sources.values()]
    return all(isinstance(modality, modalities) for modality in used)


def _targets(objectives: tuple[type[ObjectiveConfig], ...], modalities: Modalities) -> list[str]:
    kinds = ", ".join(_names(modalities, ModalityConfig.choices))
    suffix = f" ({kinds})" if modalities != (ModalityConfig,) else ""
    return [f"{name}{suffix}" for name in _names(objectives, ObjectiveConfig.choices)]


def _names(kinds: Iterable[type[Slot]], choices: Mapping[str, type[Slot]]) -> list[str]:
    """Return the names of the choices of some kinds, which may be no choices themselves."""
    return sorted(name for name, choice in choices.items() if issubclass(choice, tuple(kinds)))
