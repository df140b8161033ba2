"""A run: one config tree that says everything, and the folder that keeps what it did.

runs/NAME/config.yaml        the resolved config; `broadbase pretrain` repeats it
runs/NAME/env.json           versions, git state, fingerprints of the data
runs/NAME/data/SOURCE/       the prepared stores
runs/NAME/metrics.jsonl      one line a step
runs/NAME/checkpoints/       resumable states
runs/NAME/model/             the model folder, at the end
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Self

import torch
import yaml
from pydantic import Field, model_validator
from rich.console import Console
from torch import nn

from broadbase.core.config import Config, hint
from broadbase.core.contracts import Batch, Codec, ObjectiveConfig, SourceConfig
from broadbase.core.errors import ConfigError
from broadbase.core.random import Draws
from broadbase.data.batches import Mixture, held_out
from broadbase.data.pairs import aligned
from broadbase.data.prepare import PrepareConfig, prepare
from broadbase.data.rows import Row, Rows, alone
from broadbase.data.shards import Wanted
from broadbase.data.store import Store, open_store
from broadbase.data.workers import Progress, run_here, run_shown
from broadbase.modalities.noise import corruptions
from broadbase.model.base import Base
from broadbase.model.initialise import initialise
from broadbase.model.model import ModelConfig
from broadbase.train import checkpoint
from broadbase.train.journal import Journal, bits_per_unit
from broadbase.train.loop import TrainConfig, Trainer
from broadbase.train.machine import MachineConfig, environment, find_device
from broadbase.train.optim import MuonConfig, OptimConfig
from broadbase.train.ranks import Ranks, gather
from broadbase.train.schedule import ScheduleConfig, StableConfig
from broadbase.train.teacher import Teacher, TeacherConfig
from broadbase.weights import folder as model_folder
from broadbase.weights.start import agree, carry


class MixedSource(Config):
    """A source of data and its part in the mixture: so many rows of every step."""

    source: SourceConfig
    modality: str
    rows: Annotated[int, Field(ge=1)]
    length: Annotated[int, Field(ge=2)]  # places a row
    limit: Annotated[int, Field(ge=1)] | None = None  # rows to train on, again and again; None: all
    repeats: Annotated[float, Field(gt=0)] | None = None  # the most epochs allowed; None: any
    pairs: str | None = None  # sources with the same word here tell the same records, row by row


class DataConfig(PrepareConfig):
    """What to train on, and how it is prepared."""

    sources: Annotated[dict[str, MixedSource], Field(min_length=1)]
    store: str | None = None  # the folder of the prepared sources; None: the run's own
    validation_rows: Annotated[int, Field(ge=1)] = 64  # of each source, at an evaluation on the way
    final_rows: Annotated[int, Field(ge=1)] = 2048  # of each source, at the end

    def groups(self) -> dict[str, list[str]]:
        """The sources of each group of pairs."""
        found: dict[str, list[str]] = {}
        for name, mixed in self.sources.items():
            if mixed.pairs is not None:
                found.setdefault(mixed.pairs, []).append(name)
        return found


class RunConfig(Config):
    """Everything a run depends on."""

    recipe: str
    depth: int
    seed: Annotated[int, Field(ge=0)] = 0
    model: ModelConfig
    objective: ObjectiveConfig
    data: DataConfig
    optim: OptimConfig = MuonConfig()
    schedule: ScheduleConfig = StableConfig()
    train: TrainConfig = TrainConfig()
    machine: MachineConfig = MachineConfig()
    teacher: TeacherConfig | None = None
    start: str | None = None  # a run or a model folder, whose weights and codecs it goes on with

    @model_validator(mode="after")
    def _data_fit(self) -> Self:
        for name, mixed in self.data.sources.items():
            kind, at = mixed.modality, f"data.sources.{name}"
            if kind not in self.model.modalities:
                known = hint(kind, self.model.modalities)
                raise ValueError(f"{at}.modality: the model has no {kind!r}{known}")
            if mixed.length > (most := self.model.places(kind)):
                raise ValueError(
                    f"{at}.length: {mixed.length} places, and the tower of {kind!r} has positions"
                    f" for {most:g}; set it to that or less"
                )
        self.objective.check({name: mixed.pairs for name, mixed in self.data.sources.items()})
        for group, names in self.data.groups().items():
            for field in ("rows", "limit", "repeats"):
                found = {n: getattr(self.data.sources[n], field) for n in names}
                if len(set(found.values())) > 1:
                    raise ValueError(f"sources of pairs {group!r} differ in {field}: {found}")
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """The config that a YAML file holds; ConfigError where it is none."""
        try:
            tree = yaml.safe_load(path.read_text())
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(f"{path} cannot be read as YAML: {error}") from None
        if not isinstance(tree, dict):
            raise ConfigError(f"{path} holds {type(tree).__name__}, not a config tree")
        return cls.from_tree(tree)


@dataclass(frozen=True)
class Run:
    """A config, its folder, and the prepared data."""

    config: RunConfig
    folder: Path
    stores: Mapping[str, Store]
    codecs: Mapping[str, Codec]  # by modality

    @classmethod
    def create(cls, config: RunConfig, folder: Path, console: Console | None = None) -> Run:
        """A new run: settles every `auto`, prepares the data, writes the folder."""
        ranks = Ranks(find_device(config.machine.device), config.machine)
        if ranks.main:
            if (folder / "config.yaml").exists():
                raise ConfigError(
                    f"{folder} already holds a run; continue it with `broadbase resume {folder}`,"
                    " or give another --out"
                )
            config = config.model_copy(update={"machine": config.machine.resolve()})
            stores, codecs = prepare_data(config, data_folder(config, folder), console)
            run = cls(config, folder, stores, codecs)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "env.json").write_text(json.dumps(run.environment(), indent=1))
            draft = folder / "config.yaml.draft"
            draft.write_text(config.yaml())
            draft.replace(folder / "config.yaml")
        ranks.wait()
        return run if ranks.main else cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> Run:
        """A run that exists; DataError where its data changed since."""
        if not (folder / "config.yaml").exists():
            raise ConfigError(f"{folder} holds no run: there is no config.yaml in it")
        config = RunConfig.read(folder / "config.yaml")
        stores = {
            name: open_store(data_folder(config, folder) / name, verify=True, source=mixed.source)
            for name, mixed in config.data.sources.items()
        }
        return cls(config, folder, stores, _load_codecs(config, data_folder(config, folder)))

    def trainer(self, journal: Journal) -> Trainer:
        """Everything built, at step 0; `restore` a checkpoint into it to go on."""
        if any(m.repeats for m in self.config.data.sources.values()):
            self._within_repeats()
        c = self.config
        device = find_device(c.machine.device)
        ranks = Ranks(device, c.machine)
        model = c.model.build()
        initialise(model, c.seed)
        if c.start is not None:
            carry(c.start, c.objective, model, journal.say if ranks.main else None)
        model.to(device)
        teacher = c.teacher.build(model, ranks, self._taught_by) if c.teacher else Teacher()
        c.machine.thin(model)
        ranks.shard(model)
        return Trainer(
            config=c.train,
            model=model,
            objective=c.objective.build(),
            corrupt=corruptions(c.model.modalities, self.codecs),
            optim=c.optim.build(model),
            schedule=c.schedule,
            machine=c.machine,
            ranks=ranks,
            journal=journal,
            batches=lambda start: self.mixture().batches(
                start, c.train.steps, workers=c.train.workers, rank=ranks.part, world=ranks.parts
            ),
            validation=lambda: self.held_out(c.data.validation_rows),
            teacher=teacher,
            saver=checkpoint.Saver(
                self.folder / "checkpoints", c.train.keep_last, c.train.keep_every, ranks.peers
            ),
            identity={**self.identity(), "teacher": teacher.identity()},
        )

    def _taught_by(self, path: str) -> nn.Module:
        base = model_folder.base_at(path)
        model_folder.must_agree(base, self.codecs, self.config.model, f"teacher.path={path}")
        return base.model

    def train(self, console: Console | None = None) -> dict[str, dict[str, Any]]:
        """Train from the newest good checkpoint, or from step 0, to the end; keep the model folder.

        Returns, by term, the loss on the first `final_rows` held-out rows of each source: nats a
        place; of a likelihood bits a unit.
        """
        bits = self.bits()
        units = {term: self.stores[source].unit for term, source in self.likelihoods().items()}
        path, steps = self.folder / "metrics.jsonl", self.config.train.steps
        journal = Journal(path, console, steps=steps, bits=bits, units=units)
        trainer = self.trainer(journal)
        if not trainer.ranks.main:
            console = trainer.journal.console = trainer.journal.path = None
        self._restore(trainer, console)
        with trainer.ranks.watched(), journal:
            trainer.train()
        base = self.base(gather(trainer.kept))
        if trainer.ranks.main:
            model_folder.save(base, self.folder / "model")
        trainer.validation = lambda: self.held_out(self.config.data.final_rows)
        losses = trainer.evaluate()
        return {
            name: {"nats_per_place": loss}
            | ({"unit": units[name], "bits_per_unit": loss * bits[name]} if name in bits else {})
            for name, loss in losses.items()
        }

    def base(self, weights: Mapping[str, torch.Tensor] | None = None) -> Base:
        """The run's model as a Base, with the given weights or, without, from its random init.

        It keeps the codecs of the base that it started from.
        """
        model = self.config.model.build()
        initialise(model, self.config.seed)
        if weights is not None:
            model.load_state_dict(dict(weights))
        start = model_folder.base_at(self.config.start) if self.config.start else None
        codecs = {**self.codecs, **(start.codecs if start else {}), **self.codecs}
        pattern, origin = self.config.objective.pattern, start.origin if start else None
        return Base(self.config.model, model.eval(), codecs, pattern, origin)

    def rows(self, split: str) -> dict[str, Rows]:
        """The rows of every source: split is "train" or "validation".

        Row i of paired sources is one record; other rows are packed.
        """
        mixed = self.config.data.sources
        found = {
            name: Rows(self.stores[name].split(split), m.length)
            for name, m in mixed.items()
            if m.pairs is None
        }
        for names in self.config.data.groups().values():
            splits = aligned({name: self.stores[name] for name in names}, split)
            found |= {n: Rows(s, mixed[n].length, alone) for n, s in splits.items()}
        return {name: found[name] for name in mixed}

    def mixture(self) -> Mixture:
        """Which rows every step takes."""
        mixed = self.config.data.sources
        return Mixture(
            self.rows("train"),
            spaces={name: m.modality for name, m in mixed.items()},
            counts={name: m.rows for name, m in mixed.items()},
            seed=self.config.seed,
            limits={name: m.limit for name, m in mixed.items()},
            pairs={name: m.pairs for name, m in mixed.items()},
        )

    def epochs(self) -> dict[str, float]:
        """How often the whole run reads each source's training rows."""
        rows, steps = self.rows("train"), self.config.train.steps
        return {
            name: steps * m.rows / min(len(rows[name]), m.limit or len(rows[name]))
            for name, m in self.config.data.sources.items()
        }

    def _within_repeats(self) -> None:
        for name, epochs in self.epochs().items():
            most = self.config.data.sources[name].repeats
            if most is not None and epochs > most:
                raise ConfigError(
                    f"data.sources.{name}.repeats: the run would read its rows {epochs:.1f} times,"
                    f" {most:g} are allowed; give it more data, fewer rows a step or fewer steps"
                )

    def seen(self, source: str) -> list[Row]:
        """The different rows of a source that the run trained on."""
        mixture, mixed = self.mixture(), self.config.data.sources[source]
        rows, order = mixture.rows[source], mixture.orders[source]
        return [
            rows[i] for i in sorted({order[g] for g in range(self.config.train.steps * mixed.rows)})
        ]

    def likelihoods(self) -> Mapping[str, str]:
        """The terms of the loss that are the likelihood of a source, and of which."""
        return self.config.objective.likelihoods(self.config.data.sources)

    def bits(self) -> dict[str, float]:
        """What turns nats a place into bits a unit, by likelihood, over the held-out documents."""
        found = {}
        for term, source in self.likelihoods().items():
            split = self.stores[source].split("validation")
            found[term] = bits_per_unit(split.targets, split.units)
        return found

    def held_out(self, limit: int | None = None) -> Iterator[Batch]:
        """The validation rows in order, one source (or one group of pairs) a batch.

        `limit` rows of each source.
        """
        mixed, rows = self.config.data.sources, self.rows("validation")
        single = [[name] for name, m in mixed.items() if m.pairs is None]
        for names in (*single, *self.config.data.groups().values()):
            parts = (held_out(rows[n], mixed[n].modality, mixed[n].rows, limit) for n in names)
            for i, segments in enumerate(zip(*parts, strict=True)):
                # A stream of chance of its own, the same at every evaluation.
                draws = Draws(self.config.seed + 1, i)
                yield Batch(i, dict(zip(names, segments, strict=True)), draws)

    def identity(self) -> dict[str, Any]:
        """What a resumed run must find unchanged: all that the weights depend on."""
        tree = self.config.tree()
        for key in ("evaluate_every", "save_every", "keep_last", "keep_every", "workers"):
            del tree["train"][key]
        for key in ("validation_rows", "final_rows", "processes", "store"):
            del tree["data"][key]
        for key in ("recompute", "matmul", "tensor", "timeout"):
            del tree["machine"][key]
        return {"config": tree, "data": {n: s.fingerprint for n, s in self.stores.items()}}

    def with_config(self, config: RunConfig) -> Run:
        """The same run under a changed config; a resume refuses what would change the result."""
        return Run(config, self.folder, self.stores, self.codecs)

    def environment(self) -> dict[str, Any]:
        """Versions, git state and fingerprints of the data."""
        return {**environment(), "data": {n: s.fingerprint for n, s in self.stores.items()}}

    def _restore(self, trainer: Trainer, console: Console | None) -> None:
        newest = partial(checkpoint.newest, self.folder / "checkpoints")
        saved, skipped = trainer.ranks.agree(newest)
        if console is not None:
            for bad in skipped:
                console.print(f"skipped {bad.path.name}: {bad.reason}", highlight=False)
        if saved is None:  # killed before there was one: step 1 is written again
            trainer.journal.rewind(0)
        else:
            trainer.restore(saved)
            if console is not None:
                console.print(f"resuming after step {saved.step}", highlight=False)


def data_folder(config: RunConfig, folder: Path) -> Path:
    """Where the prepared sources of a run lie."""
    return Path(config.data.store).expanduser() if config.data.store else folder / "data"


def prepare_data(
    config: RunConfig,
    folder: Path,
    console: Console | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, Store], dict[str, Codec]]:
    """The stores `folder`/SOURCE of a config's data, made or brought up to date; and the codecs."""
    wanted = {
        name: Wanted(m.source, config.model.modalities[m.modality], m.modality, bool(m.pairs))
        for name, m in config.data.sources.items()
    }
    progress = progress or (run_here if console is None else run_shown(console))
    base = model_folder.base_at(config.start) if config.start else None
    stores, codecs = prepare(wanted, folder, config.data, progress, base.codecs if base else {})
    if base:
        agree(base, codecs, config.model, str(config.start))
    if console is not None:
        for name, store in stores.items():
            console.print(f"{name}: {store.summary()}", highlight=False, soft_wrap=True)
    return stores, codecs


def _load_codecs(config: RunConfig, folder: Path) -> dict[str, Codec]:
    first = {m.modality: name for name, m in reversed(config.data.sources.items())}
    return {
        modality: config.model.modalities[modality].load(folder / source / "codec")
        for modality, source in first.items()
    }
