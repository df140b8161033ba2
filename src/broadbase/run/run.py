"""A run: one config tree that says everything, and the folder that keeps what it did.

runs/NAME/config.yaml        the resolved config; `broadbase pretrain` repeats it
runs/NAME/env.json           versions, git state, fingerprints of the data
runs/NAME/data/SOURCE/       the prepared stores
runs/NAME/metrics.jsonl      one line per step
runs/NAME/samples.jsonl      what the model generated after evaluations
runs/NAME/checkpoints/       resumable states
runs/NAME/model/             the model folder, at the end
runs/NAME/lock               held by the process that trains
runs/NAME/process.json       that process
runs/NAME/last_error.json    why the last one ended before its last step

Paths in config.yaml are absolute, so that a run is good in every working folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from broadbase.core.codec import Codec
from broadbase.core.errors import (
    BroadbaseError,
    ConfigError,
    DivergedError,
    PreemptedError,
    out_of_memory,
)
from broadbase.core.files import sweep, write_json
from broadbase.inference.base import Base
from broadbase.modalities.noise import corruptions
from broadbase.model.initialise import initialise
from broadbase.run.config import RunConfig
from broadbase.run.corpus import Corpus
from broadbase.run.facts import data_facts
from broadbase.run.prepare import (
    alone,
    anchored,
    beginning,
    check_reference,
    data_folder,
    load_codecs,
    open_stores,
    prepare_data,
)
from broadbase.run.process import recorded
from broadbase.run.samples import Samples
from broadbase.train import checkpoint
from broadbase.train.loop import Trainer
from broadbase.train.machine import environment, find_device
from broadbase.train.metrics_log import MetricsLog
from broadbase.train.ranks import Ranks, gather
from broadbase.train.saver import Saver
from broadbase.train.teacher import Teacher
from broadbase.train.tracker import Guarded
from broadbase.weights import folder as model_folder
from broadbase.weights.warm_start import load_from

Change = Callable[[Mapping[str, Any]], Mapping[str, Any]]  # of a config tree


@dataclass(frozen=True)
class Run(Corpus):
    """A config, its folder, and the prepared data."""

    folder: Path
    codecs: Mapping[str, Codec]  # by modality

    @classmethod
    def create(cls, config: RunConfig, folder: Path, console: Console | None = None) -> Run:
        """Create a new run: settle every `auto`, prepare the data, write the folder."""
        ranks = Ranks(find_device(config.machine.device), config.machine)
        if ranks.main:
            _must_be_new(folder)
            with beginning(folder):
                _must_be_new(folder)  # another process may just have made it
                config = config.replace(machine=config.machine.resolve())
                config = anchored(config)
                stores, codecs = prepare_data(config, data_folder(config, folder), console)
                run = cls(config, stores, folder, codecs)
                write_json(folder / "env.json", run.environment(), indent=1)
                config.save(folder)
        ranks.wait()
        return run if ranks.main else cls.open(folder)

    @classmethod
    def open(cls, folder: Path, *, change: Change | None = None, compare: bool = False) -> Run:
        """Open a run that exists, with its config as `change` makes it, and its prepared data.

        DataError where these are damaged, or, with `compare`, where the files that they were made
        of are still there and have changed.
        """
        if not (folder / "config.yaml").exists():
            inside = (folder.parent / "config.yaml").exists()
            remedy = f"; give the folder of the run, {folder.parent}" if inside else ""
            raise ConfigError(f"{folder} holds no run: there is no config.yaml in it{remedy}")
        config = RunConfig.of_run(folder)
        if change is not None:
            config = anchored(RunConfig.from_tree(change(config.tree())))
        check_reference(config)
        prepared = data_folder(config, folder)
        stores = open_stores(config, prepared, compare=compare)
        return cls(config, stores, folder, load_codecs(config, prepared))

    def trainer(self, journal: MetricsLog) -> Trainer:
        """Build everything, at step 0; `restore` a checkpoint into it to go on."""
        if any(m.max_epochs for m in self.config.data.sources.values()):
            self.check_repeats()
        c = self.config
        device = find_device(c.machine.device)
        ranks = Ranks(device, c.machine)
        model = c.model.build()
        initialise(model, c.seed)
        if c.init_from is not None:
            load_from(c.init_from, c.objective, model, journal.say if ranks.main else None)
        model.to(device)
        teacher = c.teacher.build(model, ranks, self._taught_by) if c.teacher else Teacher()
        c.machine.checkpoint_activations(model)
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
                start,
                c.train.steps,
                workers=c.train.workers,
                rank=ranks.data_rank,
                world=ranks.data_world_size,
            ),
            validation=lambda: self.held_out(c.data.validation_rows),
            teacher=teacher,
            saver=Saver(
                self.folder / "checkpoints", c.train.keep_last, c.train.keep_every, ranks.peers
            ),
            identity={**self.identity(), "teacher": teacher.identity()},
        )

    def _taught_by(self, path: str) -> nn.Module:
        base = model_folder.load(path)
        model_folder.check_compatible(base, self.codecs, self.config.model, f"teacher.path={path}")
        return base.model

    def train(self, console: Console | None = None) -> dict[str, dict[str, Any]]:
        """Train from the newest good checkpoint, or from step 0, to the end; keep the model folder.

        Returns, by term, the loss on the first `final_rows` held-out rows of each source: nats a
        token; of a likelihood bits per unit.
        """
        ranks = Ranks(find_device(self.config.machine.device), self.config.machine)
        with ranks.watched(), alone(self.folder), recorded(self.folder):
            return self._trained(console if ranks.main else None)

    def _trained(self, console: Console | None) -> dict[str, dict[str, Any]]:
        bits = self.bits()
        units = {term: self.stores[source].unit for term, source in self.likelihoods().items()}
        path, steps = self.folder / "metrics.jsonl", self.config.train.steps
        journal = MetricsLog(path, console, steps=steps, bits=bits, units=units)
        trainer = self.trainer(journal)
        if not trainer.ranks.main:
            journal.path = None
        self._restore(trainer)
        if trainer.ranks.peers is None:
            samples = Samples.of(self, self.codecs, self.base(), self.folder, trainer.step)
            trainer.evaluated = lambda step: samples.draw(
                lambda: self.base(gather(trainer.final_model)), step, journal.say
            )
        if (tracking := self.config.train.tracker) is not None and trainer.ranks.main:
            journal.tracker = Guarded(tracking.build(self.folder), journal.say)
            journal.tracker.start(self.config.tree())
        begun = trainer.step
        try:
            with journal:
                trainer.train()
        except (DivergedError, PreemptedError) as error:
            raise type(error)(f"{error}. {self._remedy(error)}") from None
        except (RuntimeError, ValueError, IndexError) as error:
            explained = isinstance(error, BroadbaseError) or out_of_memory(error)
            if explained or trainer.step > begun or trainer.ranks.peers is not None:
                raise
            raise ConfigError(
                f"the first step cannot be computed: {str(error).splitlines()[0][:200]}; parts of"
                " the config do not fit together, or not to the data: undo what was changed last"
            ) from error
        base = self.base(gather(trainer.final_model))
        if trainer.ranks.main:
            model_folder.save(base, self.folder / "model")
        trainer.validation = lambda: self.held_out(self.config.data.final_rows)
        losses = trainer.evaluate()
        return {
            name: {"nats_per_token": loss}
            | ({"unit": units[name], "bits_per_unit": loss * bits[name]} if name in bits else {})
            for name, loss in losses.items()
        }

    def base(self, weights: Mapping[str, torch.Tensor] | None = None) -> Base:
        """Return the run's model as a Base, with the given weights; without them, from random init.

        It keeps the codecs of the base that it started from.
        """
        model = self.config.model.build()
        initialise(model, self.config.seed)
        if weights is not None:
            model.load_state_dict(dict(weights))
        start = model_folder.load(self.config.init_from) if self.config.init_from else None
        codecs = {**self.codecs, **(start.codecs if start else {}), **self.codecs}
        usage = self.config.objective.usage(data_facts(self.config, self.stores, self.codecs))
        if start is not None:
            attention_of = {**start.usage.attention_of, **usage.attention_of}
            usage = usage.replace(attention_of=attention_of)
        return Base(self.config.model, model.eval(), codecs, usage, start.origin if start else None)

    def identity(self) -> dict[str, Any]:
        """Return what a resumed run must find unchanged: all that the weights depend on."""
        tree = self.config.tree()
        for key in ("evaluate_every", "samples", "save_every", "keep_last", "keep_every"):
            del tree["train"][key]
        for key in ("workers", "tracker"):
            del tree["train"][key]
        for key in ("validation_rows", "final_rows", "processes", "store"):
            del tree["data"][key]
        for key in ("activation_checkpointing", "matmul", "tensor_parallel", "timeout"):
            del tree["machine"][key]
        return {"config": tree, "data": {n: s.fingerprint for n, s in self.stores.items()}}

    def with_config(self, config: RunConfig) -> Run:
        """Change the config of the run; a resume refuses what would change the result."""
        return Run(config, self.stores, self.folder, self.codecs)

    def environment(self) -> dict[str, Any]:
        """Return versions, git state and fingerprints of the data."""
        return {**environment(), "data": {n: s.fingerprint for n, s in self.stores.items()}}

    def _restore(self, trainer: Trainer) -> None:
        """Go on from the newest good checkpoint, remove what a killed process left, say so."""
        folder, config, journal = self.folder / "checkpoints", self.config, trainer.journal
        saved, skipped = trainer.ranks.agree(partial(checkpoint.newest, folder))
        for bad in skipped:
            journal.say(f"skipped {bad.path.name}: {bad.reason}")
        if saved is None:  # killed before there was one: step 1 is written again
            journal.rewind(0)
        else:
            changes = trainer.restore(saved)
            journal.say(f"resuming after step {saved.step}")
            if changes:
                journal.changed(saved.step, changes)
        if trainer.ranks.main:
            sweep(self.folder)
            checkpoint.prune(folder, trainer.step, config.train.keep_last, config.train.keep_every)
            if RunConfig.of_run(self.folder) != config:
                config.save(self.folder)
        if trainer.step < config.train.steps:
            journal.say(self._size(trainer))

    def _size(self, trainer: Trainer) -> str:
        """Say in a line how large the model and the training are."""
        sources, steps = self.config.data.sources, self.config.train.steps
        parameters = sum(each.numel() for each in trainer.model.parameters())
        tokens = sum(mixed.batch_size * mixed.row_length for mixed in sources.values())
        epochs = ", ".join(f"{n:.2g} of {name}" for name, n in self.epochs().items())
        return (
            f"{parameters:,} parameters; {steps:,} steps of {tokens:,} tokens: {steps * tokens:,}"
            f" tokens, epochs: {epochs}"
        )

    def _remedy(self, error: DivergedError | PreemptedError) -> str:
        """Say what to type after a run has stopped."""
        resume = f"`broadbase resume {self.folder}"
        if isinstance(error, PreemptedError):
            return f"{resume}` continues it"
        optim = self.config.optim.tree()
        lower = [f"--set optim.{k}={v / 2:g}" for k, v in optim.items() if k in ("lr", "muon_lr")]
        good, _ = checkpoint.newest(self.folder / "checkpoints")
        where = f"from step {good.step}" if good else "from the start, as there is no checkpoint"
        return f"{resume} {' '.join(lower)}` goes on {where}, with half the learning rate"


def _must_be_new(folder: Path) -> None:
    if (folder / "config.yaml").exists():
        raise ConfigError(
            f"{folder} already holds a run; continue it with `broadbase resume {folder}`, or give"
            " another --out"
        )
