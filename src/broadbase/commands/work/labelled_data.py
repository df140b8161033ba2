"""Labelled data as the options of `adapt` name them, and the task that they make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from broadbase.adapt.kinds import CLASSES, EXACT, GENERATION, KINDS, NUMBERS, PER_TOKEN, Kind
from broadbase.adapt.labelled import Read
from broadbase.adapt.method import MethodConfig
from broadbase.adapt.reading import as_read, kind_of, reader
from broadbase.adapt.target import ClassWeights
from broadbase.adapt.task import Task
from broadbase.adapt.task_data import read_task
from broadbase.commands.options import log
from broadbase.core.config import hint
from broadbase.core.errors import BroadbaseError, ConfigError, DataError
from broadbase.core.sources import Record, SourceConfig
from broadbase.data.detect import labelled, unlabelled
from broadbase.data.sources.left_out import notes
from broadbase.inference.base import Base


@dataclass(frozen=True)
class LabelledData:
    """Where labelled records are, in one table or in given splits; ConfigError as `check`."""

    data: str | None = None
    train: str | None = None
    validation: str | None = None
    test: str | None = None
    unlabelled: str | None = None
    field: str = "text"
    second: str | None = None
    label: str = "label"
    group: str | None = None
    time: str | None = None

    def check(self, method: MethodConfig, sizes: Sequence[int | None], kind: Kind | None) -> None:
        """ConfigError where options do not fit each other; `sizes` are those of train and test."""
        if self.unlabelled is not None and not method.uses_unlabelled:
            raise ConfigError(
                f"--unlabelled: {method.name} learns from labelled records alone; leave it out, or"
                " take --method centroids or continue"
            )
        if (self.data is None) == (self.train is None):
            raise ConfigError("give the labelled records with --data, or with --train and --test")
        if (self.train is None) != (self.test is None):
            lacks = "--test" if self.test is None else "--train"
            raise ConfigError(f"given splits need {lacks} too; or give one table with --data")
        if self.validation is not None and self.train is None:
            raise ConfigError("--validation is for given splits; give --train and --test too")
        splits = {"--group": self.group, "--time": self.time, "--test": self.test}
        if len(given := [name for name, value in splits.items() if value is not None]) > 1:
            raise ConfigError(f"{' and '.join(given)} are different ways to split; give one")
        if self.test is not None and any(sizes):
            raise ConfigError("--train-size and --test-size are for random splits, not --test")
        if self.second is not None and kind is PER_TOKEN:
            raise ConfigError("a pair has no label for each token; leave out --second")
        if self.second == self.field:
            raise ConfigError(f"--field and --second are both {self.field}; name two fields")
        if self.time is not None and sizes[0] is not None:
            raise ConfigError("--train-size is for random splits, not --time: all older are used")

    @property
    def name(self) -> str:
        """The name of the task."""
        return Path(self.data or self.train or "").stem

    def sources(self) -> list[SourceConfig]:
        """Return one source; or those to train on, for validation, and to test on."""
        columns = _given(second=self.second, group=self.group, key=self.time)
        paths = [path for path in (self.data, self.train, self.validation, self.test) if path]
        return [labelled(path, self.field, self.label, columns) for path in paths]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a record is made of."""
        return (self.field,) if self.second is None else (self.field, self.second)

    @property
    def read(self) -> dict[str, Any]:
        """What is read, as the folder of an adapted base keeps it."""
        fields = {"field": self.field, **_given(second=self.second), "label": self.label}
        return {"data": self.data or self.train, **fields}


def _given(**columns: str | None) -> dict[str, str]:
    """Return those that are given."""
    return {name: column for name, column in columns.items() if column is not None}


def kind_named(
    name: str | None, *, regression: bool, per_token: bool, macro: bool, exact: bool = False
) -> Kind | None:
    """Return the kind of labels that the options say; None where it is to be guessed."""
    options = {"--regression": (regression, NUMBERS), "--per-token": (per_token, PER_TOKEN)}
    said = {option: kind for option, (on, kind) in options.items() if on}
    if name is not None:
        if name not in KINDS:
            raise ConfigError(f"`--kind {name}`: there is no such kind{hint(name, KINDS)}")
        said[f"--kind {name}"] = KINDS[name]
    if len(set(map(id, said.values()))) > 1:
        raise ConfigError(f"{' and '.join(said)} are different kinds of labels; give one")
    kind = next(iter(said.values()), None)
    if macro and (exact or kind not in (None, CLASSES, PER_TOKEN)):
        raise ConfigError(f"--macro is for classes, not {next(iter(said), '--exact')}")
    if exact and kind not in (None, GENERATION):
        raise ConfigError(f"--exact is for texts that are generated, not {next(iter(said))}")
    if exact:
        return EXACT
    return CLASSES if macro and kind is None else kind


def weights_of(words: Sequence[str]) -> ClassWeights:
    """Return the weights in `balanced` or CLASS=WEIGHT, ...; ConfigError where one is neither."""
    if list(words) == ["balanced"]:
        return "balanced"
    weights: dict[str, float] = {}
    for word in words:
        name, equals, weight = word.rpartition("=")
        try:
            weights[name.strip()] = float(weight)
        except ValueError:
            equals = ""
        if not equals:
            raise ConfigError(
                f"`--class-weights {word}`: give CLASS=WEIGHT for each class, or balanced alone"
            )
    return weights


def task_of(
    base: Base,
    data: LabelledData,
    modality: str | None,
    kind: Kind | None,
    macro: bool,
    test_size: int | None,
    weights: ClassWeights | None = None,
    pooled: bool = False,
) -> Task:
    """Read the labelled records as the base reads them, and say what they are.

    With `pooled` those without a label join the unlabelled records.
    """
    sources = data.sources()
    modality = modality or kind_of(base, sources[0])
    read = reader(base, modality)
    by_time = data.time is not None
    how: dict[str, Any] = {"kind": kind, "macro": macro, "by_time": by_time, "newest": test_size}
    task = read_task(data.name, modality, *sources, read=read, pooled=pooled, **how)
    task = replace(as_read(base, task), columns=data.columns)
    if weights:
        task = replace(task, target=task.target.with_weights(weights))
    if data.unlabelled is not None:
        pool = _pool(data, modality, read)
        task = replace(task, unlabelled=[*task.unlabelled, *pool])
    said = [line for source in sources for line in notes(source)]
    for line in (task.summary, *task.notes, *dict.fromkeys(said)):
        log.say(line)
    return task


def _pool(data: LabelledData, modality: str, read: Read) -> list[Any]:
    """Return the unlabelled records, cleaned, and say how many there are."""
    path = data.unlabelled or ""
    source = unlabelled(path, data.field, _given(second=data.second))
    pool = [record.raw for record in read_all(source, path, modality, read)]
    log.say(f"{len(pool):,} unlabelled records in {path}")
    return pool


def read_all(source: SourceConfig, path: str, modality: str, read: Read) -> list[Record]:
    """Return the records of a source, cleaned; those that cannot be read are counted and said.

    DataError where none can.
    """
    records, rejected = list[Record](), list[str]()
    for item in source.records():
        try:
            if not isinstance(item, Record):
                raise ValueError(item.reason)
            records.append(replace(item, raw=read(item.raw)))
        except BroadbaseError:
            raise
        except (TypeError, ValueError) as error:
            rejected.append(f"{item.origin}: {error}")
    first = f" (first: {rejected[0]})" if rejected else ""
    if not records:
        raise DataError(f"{path} has no record that can be read as {modality}{first}")
    if rejected:
        log.say(f"{len(rejected):,} of the records in {path} cannot be read{first}")
    return records
