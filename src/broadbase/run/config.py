"""The config of a run: one tree that says everything it depends on."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from broadbase.core.config import Config, hint
from broadbase.core.contracts import ModalityConfig, ObjectiveConfig, named_towers
from broadbase.core.errors import ConfigError
from broadbase.core.files import write_text
from broadbase.core.formats import FORMAT, check_format
from broadbase.core.sources import SourceConfig
from broadbase.core.trees import brief, read_tree
from broadbase.data.store.prepare import PrepareConfig
from broadbase.model.model import ModelConfig
from broadbase.model.structure import structure_only
from broadbase.train.config import TrainConfig
from broadbase.train.machine import MachineConfig
from broadbase.train.optim import MuonConfig, OptimConfig
from broadbase.train.schedule import ScheduleConfig, WSDConfig
from broadbase.train.teacher import TeacherConfig

# A source's name is also that of the folder of its prepared data
SourceName = Annotated[str, Field(pattern=r"^[^./\\][^/\\]*$", max_length=100)]


class MixedSource(Config):
    """A source of data and its part in the mixture: so many rows of every step."""

    source: SourceConfig
    """Where the raw records come from."""
    modality: str
    """The modality of the records, by its name in model.modalities."""
    batch_size: Annotated[int, Field(ge=1)]
    """The rows of this source in every step, over all ranks and micro-batches."""
    sequence_length: Annotated[int, Field(ge=2)] | None = None
    """The tokens of a row; null: those of a record, if all have as many, as pictures have."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """How many rows to train on, again and again; null: all."""
    max_epochs: Annotated[float, Field(gt=0)] | None = None
    """The run is refused if it would read the rows more often than this; null: no limit."""
    pair_group: str | None = None
    """Sources with the same word here hold the same records, which are aligned row by row."""

    @property
    def row_length(self) -> int:
        """`sequence_length` of a source in a `RunConfig`, which fills it; ConfigError elsewhere."""
        if self.sequence_length is None:
            raise ConfigError("a source has no `sequence_length` before it is part of a RunConfig")
        return self.sequence_length


class DataConfig(PrepareConfig):
    """What to train on, and how it is prepared."""

    sources: Annotated[dict[SourceName, MixedSource], Field(min_length=1)]
    """The sources of the mixture, by a name that is also that of their prepared folder."""
    store: str | None = None
    """The folder of the prepared sources, which runs may share; null: the run's own."""
    validation_rows: Annotated[int, Field(ge=1)] = 64
    """The held-out rows of each source that an evaluation during training reads."""
    final_rows: Annotated[int, Field(ge=1)] = 2048
    """The held-out rows of each source that the evaluation at the end reads."""

    def groups(self) -> dict[str, list[str]]:
        """Return the sources of each group of pairs."""
        groups: dict[str, list[str]] = {}
        for name, mixed in self.sources.items():
            if mixed.pair_group is not None:
                groups.setdefault(mixed.pair_group, []).append(name)
        return groups


def with_lengths(
    sources: Mapping[str, MixedSource], modalities: Mapping[str, ModalityConfig]
) -> dict[str, MixedSource]:
    """Return the sources with the `sequence_length` that follows from their records.

    If records of a modality differ in length, it is that of the records they are paired with, as
    codes are with pictures. ConfigError where none follows, or a row is too short.
    """
    records = {name: _record_length(mixed, modalities) for name, mixed in sources.items()}
    filled = {}
    for name, mixed in sources.items():
        at, length, record = f"data.sources.{name}", mixed.sequence_length, records[name]
        if length is None:
            pairs = (n for n, m in sources.items() if m.pair_group == mixed.pair_group is not None)
            length = record or max((records[n] or 0 for n in pairs), default=0)
        if length == 0:
            raise ConfigError(
                f"{at}.sequence_length: records of {mixed.modality!r} differ in length; set the"
                " tokens of a row"
            )
        if record is not None and length < record:
            raise ConfigError(
                f"{at}.sequence_length: {length} tokens, and every record of {mixed.modality!r}"
                f" takes {record}; leave the setting out, or set {record} or more"
            )
        filled[name] = mixed.replace(sequence_length=length)
    return filled


def _record_length(mixed: MixedSource, modalities: Mapping[str, ModalityConfig]) -> int | None:
    modality = modalities.get(mixed.modality)
    return modality.record_length if modality else None


class RunConfig(Config):
    """Everything a run depends on."""

    recipe: str
    """The recipe that the config came from."""
    depth: Annotated[int | None, Field(ge=1, exclude=True)] = None
    """The depth that an earlier version built the recipe with; it has no effect, and is not
    written."""
    seed: Annotated[int, Field(ge=0)] = 0
    """The seed of all randomness: initial weights, order of rows, masks."""
    model: ModelConfig
    """What the model is made of."""
    objective: ObjectiveConfig
    """What the model learns to predict."""
    data: DataConfig
    """What to train on, and how it is prepared."""
    optim: OptimConfig = MuonConfig()
    """The optimizer."""
    schedule: ScheduleConfig = WSDConfig()
    """How the learning rate changes over the run."""
    train: TrainConfig = TrainConfig()
    """How long to train, and what to keep on the way."""
    machine: MachineConfig = MachineConfig()
    """Where to train, and how numbers are computed there."""
    teacher: TeacherConfig | None = None
    """The model whose outputs the objective learns from; null: none."""
    init_from: str | None = None
    """The run or model folder whose weights and codecs training starts from; null: from scratch."""

    @model_validator(mode="after")
    def _lengths_fit(self) -> Self:
        sources = with_lengths(self.data.sources, self.model.modalities)
        object.__setattr__(self, "data", self.data.replace(sources=sources))
        return self

    @model_validator(mode="after")
    def _data_fit(self) -> Self:
        for name, mixed in self.data.sources.items():
            kind, at = mixed.modality, f"data.sources.{name}"
            if kind not in self.model.modalities:
                other = hint(kind, self.model.modalities)
                raise ValueError(f"{at}.modality: the model has no {kind!r}{other}")
            if mixed.row_length > (most := self.model.max_length(kind)):
                raise ValueError(
                    f"{at}.sequence_length: {mixed.row_length} tokens, and the tower of"
                    f" {kind!r} has positions for {most:g}; set it to that or less"
                )
        self.objective.check({name: mixed.pair_group for name, mixed in self.data.sources.items()})
        for at, tower in named_towers(self.objective, "objective"):
            if tower not in self.model.towers:
                other = hint(tower, self.model.towers)
                raise ValueError(f"{at}: the model has no tower {brief(tower)}{other}")
        for group, names in self.data.groups().items():
            for field in ("batch_size", "limit", "max_epochs"):
                values = {n: getattr(self.data.sources[n], field) for n in names}
                if len(set(values.values())) > 1:
                    raise ValueError(f"sources of pairs {group!r} differ in {field}: {values}")
        return self

    @model_validator(mode="after")
    def _can_be_built(self) -> Self:
        """Refuse, without using memory, what PyTorch would refuse when training begins."""
        try:
            with structure_only():
                self.optim.build(self.model.build())
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(f"no model can be built with these settings: {reason}") from None
        return self

    def open_tree(self) -> dict[str, Any]:
        """Return the settings, with null for each size that follows from others.

        Where the others are changed, the size then follows.
        """
        tree = self.tree()
        for name, head in self.model.heads.items():
            bare = dict.fromkeys(head.derived)
            with suppress(ValueError):
                if head.replace(**bare).sized(self.model.vector_sizes) == head:
                    tree["model"]["heads"][name] |= bare
        for name, mixed in self.data.sources.items():
            others = {**self.data.sources, name: mixed.replace(sequence_length=None)}
            with suppress(ValueError):
                if with_lengths(others, self.model.modalities)[name] == mixed:
                    tree["data"]["sources"][name]["sequence_length"] = None
        return tree

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the config that a YAML file holds; ConfigError if it holds none."""
        tree = read_tree(path, "a config")
        if tree.get("format") == FORMAT:
            del tree["format"]
        return cls.from_tree(tree)

    @classmethod
    def of_run(cls, folder: Path) -> Self:
        """Return the config of a run; DataError if another version of Broadbase wrote it."""
        tree = read_tree(folder / "config.yaml", "a config")
        check_format(tree, folder)
        del tree["format"]
        return cls.from_tree(tree)

    def save(self, folder: Path) -> None:
        """Write the config of a run, with the format of the folder."""
        write_text(folder / "config.yaml", f"format: {FORMAT}\n{self.yaml()}")
