"""Continued pretraining: a copy of a base goes on learning from records without labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

from broadbase.adapt.continued_objectives import OBJECTIVES, ContinuedObjective
from broadbase.adapt.training import Budget, grown, train_steps
from broadbase.core.config import Config
from broadbase.core.contracts import Batch, Corruption
from broadbase.core.errors import ConfigError
from broadbase.core.keyed_random import KeyedRandom, seed_of
from broadbase.inference.base import Base
from broadbase.inference.embedding import Done, ignored
from broadbase.inference.truncation import Truncated, max_tokens
from broadbase.modalities.noise import corruptions
from broadbase.train.optim import AdamWConfig

ALIKE = 16  # batches among which records are sorted by length, so that little is padded


class PretrainingConfig(Config):
    """How a base goes on."""

    objective: Literal["auto", "neighbours", "views", "masked", "causal"] = "auto"
    """What is learned from the records; auto is causal where attention is, else neighbours."""
    steps: Annotated[int, Field(ge=1)] = 20
    """The number of optimizer steps."""
    batch: Annotated[int, Field(ge=2)] = 32
    """The records in a step."""
    tokens: Annotated[int, Field(ge=2)] = 64
    """How many tokens of a record are read, from its beginning."""
    lr: Annotated[float, Field(gt=0)] = 1e-4
    """The peak learning rate of AdamW."""
    hidden: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """The share of tokens that are hidden by the objectives masked and views."""
    device: str = "cpu"
    """The device to train on."""


@dataclass(frozen=True)
class Pretraining:
    """The continued pretraining of one base on records of one modality."""

    config: PretrainingConfig
    base: Base
    modality: str

    @cached_property
    def objective(self) -> ContinuedObjective:
        """The objective, with `auto` resolved."""
        name = self.config.objective
        if name == "auto":
            causal = self.base.attention_pattern(self.modality) == "causal"
            name = "causal" if causal else "neighbours"
        return OBJECTIVES[name](self.base, self.modality, self.config.hidden)

    def refusal(self, raws: Sequence[Any]) -> str:
        """Say why the base cannot go on by the objective, tried on two records; empty if it can."""
        pattern, wanted = self.base.attention_pattern(self.modality), self.objective.pattern
        name = self.config.objective
        if wanted not in ("", pattern):
            return (
                f"objective {name!r} trains with {wanted} attention, and the base has {pattern}"
                " attention; choose another (--set objective=neighbours)"
            )
        student, built = self._student(seed=0), self.objective.build()
        corrupt = corruptions(student.config.modalities, student.codecs)
        try:
            batch = next(self._batches(raws[:2], corrupt, 0, 0))
            with torch.no_grad():
                views = built.views(batch, corrupt)
                built.loss([student.model(view) for view in views], views)
        except ConfigError as error:
            return f"objective {name!r} cannot train this base: {error}"
        return ""

    def train(
        self, raws: Sequence[Any], seed: int, done: Done = ignored
    ) -> tuple[Base, list[float]]:
        """Return the trained copy of the base, with the parts that it had, and each step's loss.

        Of more records than the steps can read, a sample is read, each record once.
        """
        c, student = self.config, self._student(seed)
        order = np.random.default_rng(seed_of(seed, "records")).permutation(len(raws))
        some = [raws[int(i)] for i in order[: c.steps * c.batch]]
        corrupt = corruptions(student.config.modalities, student.codecs)
        losses = train_steps(
            student.model,
            self.objective.build(),
            AdamWConfig(lr=c.lr, betas=(0.9, 0.999), weight_decay=0.01).build(student.model),
            lambda start: self._batches(some, corrupt, seed, start),
            Budget(c.steps, c.lr, c.device, "continued pretraining"),
            done,
            corrupt,
        )
        trained = grown(student, self.base.config, seed).model
        trained.to(next(self.base.model.parameters()).device)
        return replace(self.base, model=trained.eval()), losses

    def _student(self, seed: int) -> Base:
        return grown(self.base, self.objective.config(), seed)

    def _batches(
        self, raws: Sequence[Any], corrupt: Mapping[str, Corruption], seed: int, start: int
    ) -> Iterator[Batch]:
        """Yield the batches of the steps from `start` on."""
        name, codec = self.base.codec(self.modality)
        limit = min(self.config.tokens, max_tokens(self.base, self.modality))
        reading = replace(self.base, codecs={**self.base.codecs, name: Truncated(codec, limit)})
        objective = replace(self, base=reading).objective
        objective.learn(raws)
        lengths = [len(reading.codecs[name].encode(raw).values) for raw in raws]
        batches = epochs(lengths, self.config.batch, seed)
        for step in range(self.config.steps):
            chosen = next(batches)
            if step < start:
                continue
            rows = reading.read([raws[i] for i in chosen], modality=name, closed=True)
            weight = rows.target_weight.clone()
            weight[:, 0] = 0  # the start is no target
            rows, chance = replace(rows, loss_weight=weight), KeyedRandom(seed, step)
            yield Batch(step, objective.sources(rows, chosen, corrupt[name], chance), chance)


def epochs(lengths: Sequence[int], size: int, seed: int) -> Iterator[Sequence[int]]:
    """Yield batches of `size` record numbers without end, each of records of about one length.

    An epoch has every record at most once: of fewer than `size` left over none. Fewer records than
    `size` are one batch.
    """
    size, epoch = min(size, len(lengths)), 0
    while True:
        rng = np.random.default_rng(seed_of(seed, "continue", epoch))
        order, made = rng.permutation(len(lengths)), list[list[int]]()
        for i in range(0, len(order), ALIKE * size):
            part = sorted(order[i : i + ALIKE * size].tolist(), key=lambda j: lengths[j])
            made += [part[k : k + size] for k in range(0, len(part) - size + 1, size)]
        yield from (made[k] for k in rng.permutation(len(made)))
        epoch += 1
