"""What a measure is, and where measures are found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from broadbase.core.config import Choice
from broadbase.core.contracts import ModalityConfig, ObjectiveConfig
from broadbase.core.errors import ConfigError, DataError
from broadbase.core.plugins import declared, outside
from broadbase.core.view import Read, Stream, View
from broadbase.evidence.comparison import paired_interval
from broadbase.inference.base import Base
from broadbase.objectives.mixture import MixtureConfig
from broadbase.run.config import RunConfig
from broadbase.run.run import Run


@dataclass(frozen=True)
class Measured:
    """A base beside one baseline on the same held-out items, with the 95 % interval of the gap."""

    source: str
    measure: str  # what the two numbers are: "bits a byte", "exact spans"
    baseline: str
    items: int
    base: float
    other: float
    difference: float  # base - other
    low: float
    high: float
    own: tuple[float, ...] = ()  # of the base, document by document

    def row(self) -> dict[str, Any]:
        """The record as plain values, for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "own"}


@dataclass(frozen=True)
class Measure:
    """What is told of the runs of some objectives, where sources are of some modalities.

    Of the run's held-out records; or, where it is `on_task`, of a task that is named: `run` is then
    given its path, "sample:NAME" or "source:FILE.yaml" too.
    """

    objectives: tuple[type[ObjectiveConfig], ...]
    run: Callable[..., Iterable[Measured]]  # Run, Base, and the task where it is on one
    modalities: tuple[type[ModalityConfig], ...] = (ModalityConfig,)
    on_task: bool = False

    def fits(self, config: RunConfig) -> bool:
        """Whether it can be told of such a run."""
        kinds = [config.model.modalities[m.modality] for m in config.data.sources.values()]
        mine = all(isinstance(kind, self.modalities) for kind in kinds)
        return mine and isinstance(config.objective, self.objectives)

    @property
    def known(self) -> list[str]:
        """What it is of, for messages: "causal", "mae (audio)"."""
        kinds = ", ".join(_names(self.modalities, ModalityConfig.choices))
        names = _names(self.objectives, ObjectiveConfig.choices)
        of = f" ({kinds})" if self.modalities != (ModalityConfig,) else ""
        return [f"{name}{of}" for name in names]


def _names(kinds: Iterable[type[Choice]], choices: Mapping[str, type[Choice]]) -> list[str]:
    """The names of choices that are one of some kinds, which may be no choices themselves."""
    return sorted(name for name, each in choices.items() if issubclass(each, tuple(kinds)))


def all_measures() -> list[Measure]:
    """Every measure of this package and from outside (`broadbase.measures`, or a MEASURE)."""
    return declared("broadbase.evaluate", "MEASURE") + outside("measures", "MEASURE")


def measured(run: Run, base: Base, task: str | None = None) -> list[Measured]:
    """Every source of a run against its baselines, or the base on a task by its name.

    ConfigError where nobody can measure it.
    """
    config = run.config
    measures = [m for m in all_measures() if m.on_task is (task is not None)]
    found = _told([m for m in measures if m.fits(config)], run, base, task)
    if isinstance(config.objective, MixtureConfig) and not found:  # of its parts, then
        for part in config.objective.parts.values():
            sources = config.data.sources
            data = config.data.model_copy(
                update={"sources": {n: sources[n] for n in part.sources or sources}}
            )
            some = config.model_copy(update={"objective": part.objective, "data": data})
            fitting = [m for m in measures if m.fits(some)]
            found += _told(fitting, run.with_config(some), base, task)
    if not found:
        used = {mixed.modality for mixed in config.data.sources.values()}
        kinds = sorted({config.model.modalities[name].name for name in used})
        known = sorted({each for measure in measures for each in measure.known})
        raise ConfigError(
            f"there is no measure of objective {config.objective.name!r} where the data"
            f" are of {', '.join(kinds)}; there is one of: {', '.join(known)}. `broadbase adapt RUN"
            " --method knn` compares its embeddings on labelled data"
        )
    return found


def _told(measures: Sequence[Measure], run: Run, base: Base, task: str | None) -> list[Measured]:
    """All that some measures tell; one may refuse (vectors, not ids) where another does not."""
    found: list[Measured] = []
    refused: list[ConfigError] = []
    for measure in measures:
        try:
            found += list(measure.run(run, base, *([] if task is None else [task])))
        except ConfigError as error:
            refused.append(error)
    if refused and not found:
        raise refused[0]
    return found


def beside(run: Run, base: Base, other: Base, name: str) -> list[Measured]:
    """What is measured of a base on the data of its run, with another base as one more baseline.

    ConfigError where the measure keeps no documents to pair.
    """
    mine = measured(run, base)
    theirs = {(row.source, row.measure): row for row in measured(run, other)}
    for key, row in {(row.source, row.measure): row for row in mine}.items():
        if not row.own:
            raise ConfigError(f"{row.measure} cannot be compared document by document")
        gap = paired_interval(row.own, theirs[key].own)
        mine.append(
            replace(
                row,
                baseline=name,
                other=theirs[key].base,
                difference=gap[0],
                low=gap[1],
                high=gap[2],
            )
        )
    return mine


def compared(
    source: str, measure: str, found: Mapping[str, Sequence[Sequence[float]]]
) -> Iterator[Measured]:
    """A row for each baseline in `found`, which has the scores of the items of every document.

    The base's are under "base". The interval is over documents, each with the mean of its items;
    DataError where there is but one.
    """
    own = [float(np.mean(items)) for items in found["base"]]
    if len(own) < 2:
        raise DataError(
            f"{source}: {len(own)} held-out record(s) are too few to compare on; give more data, or"
            " train with a larger data.holdout"
        )
    for name, each in found.items():
        if name != "base":
            other = [float(np.mean(items)) for items in each]
            yield Measured(
                source,
                measure,
                name,
                sum(map(len, each)),
                float(np.mean(own)),
                float(np.mean(other)),
                *paired_interval(own, other),
                own=tuple(own),
            )


def asked(view: View) -> View:
    """The same view with its one Read's targets left out: it predicts under "p", scores nothing."""

    def without(stream: Stream) -> Stream:
        reads = tuple(Read(read.space, "p", index=read.index) for read in stream.reads)
        return replace(stream, reads=reads)

    return View(tuple(without(stream) for stream in view.streams))
