"""Continued pretraining: a copy of a base goes on learning from records without labels.

Legend: B records, N tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field

from broadbase.adapt.training import Budget, grown, train_steps
from broadbase.adapt.truncation import Truncated, max_tokens
from broadbase.core.config import Config
from broadbase.core.contracts import Batch, Corruption, Objective
from broadbase.core.errors import ConfigError
from broadbase.core.keyed_random import KeyedRandom, seed_of
from broadbase.core.view import Segment
from broadbase.inference.base import Base
from broadbase.inference.embedding import Done, ignored
from broadbase.modalities.noise import corruptions
from broadbase.model.model import ModelConfig
from broadbase.nn.spaces.joint import JointConfig
from broadbase.objectives.causal import CausalConfig
from broadbase.objectives.contrastive import InfoNCEConfig, Side
from broadbase.objectives.masked import MaskedConfig
from broadbase.train.optim import AdamWConfig
from broadbase.weights.warm_start import config_with_head

VIEWS, MASKED, CAUSAL = "views", "masked", "causal"
PATTERNS = {VIEWS: "full", MASKED: "full", CAUSAL: "causal"}  # who sees whom, by objective
SIDES = ("first view", "second view")  # of a record: the names of their sources and heads
SCALE = 20.0  # of the cosine of two views: a temperature of 0.05 (Gao et al. 2021, 6.2)
ALIKE = 16  # batches among which records are sorted by length, so that little is padded


class PretrainingConfig(Config):
    """How a base goes on."""

    objective: Literal["auto", "views", "masked", "causal"] = "auto"
    """What is learned: causal, masked, or views; auto is causal for a base with causal attention,
    and views for others."""
    steps: Annotated[int, Field(ge=1)] = 30
    """The number of optimizer steps."""
    batch: Annotated[int, Field(ge=2)] = 32
    """The records in a step."""
    tokens: Annotated[int, Field(ge=2)] = 64
    """How many tokens of a record are read, from its beginning."""
    lr: Annotated[float, Field(gt=0)] = 3e-5
    """The peak learning rate of AdamW."""
    hidden: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """The share of tokens that a view lacks, or that are predicted by masked."""
    device: str = "cpu"
    """The device to train on."""


@dataclass(frozen=True)
class Pretraining:
    """The continued pretraining of one base on records of one modality.

    `views` matches two views of each record among those of a batch; each lacks a share of the
    tokens, which are hidden (SimCSE, Gao et al. 2021, with the views of Mirror-BERT, Liu et al.
    2021). It suits a base whose mean over tokens stands for a record, such as a sentence encoder.
    `masked` and `causal` are the objectives of these names (Gururangan et al. 2020).
    """

    config: PretrainingConfig
    base: Base
    modality: str

    @property
    def objective(self) -> str:
        """The name of the objective, with `auto` resolved."""
        if self.config.objective != "auto":
            return self.config.objective
        return CAUSAL if self.base.attention_pattern(self.modality) == CAUSAL else VIEWS

    def refusal(self, raws: Sequence[Any]) -> str:
        """Say why the base cannot go on by the objective, tried on two records; empty if it can."""
        pattern, name = self.base.attention_pattern(self.modality), self.objective
        if PATTERNS[name] != pattern:
            return (
                f"objective {name!r} trains with {PATTERNS[name]} attention, and the base has"
                f" {pattern} attention; leave objective=auto"
            )
        student, objective, corrupt = self._student(seed=0)
        try:
            batch = next(self._batches(raws[:2], corrupt, 0, 0))
            with torch.no_grad():
                views = objective.views(batch, corrupt)
                objective.loss([student.model(view) for view in views], views)
        except ConfigError as error:
            return f"objective {name!r} cannot train this base: {error}"
        return ""

    def train(
        self, raws: Sequence[Any], seed: int, done: Done = ignored
    ) -> tuple[Base, list[float]]:
        """Return the trained copy of the base, with the parts that it had, and each step's loss."""
        c = self.config
        student, objective, corrupt = self._student(seed)
        losses = train_steps(
            student.model,
            objective,
            AdamWConfig(lr=c.lr, betas=(0.9, 0.999), weight_decay=0.01).build(student.model),
            lambda start: self._batches(raws, corrupt, seed, start),
            Budget(c.steps, c.lr, c.device, "continued pretraining"),
            done,
            corrupt,
        )
        trained = grown(student, self.base.config, seed).model
        trained.to(next(self.base.model.parameters()).device)
        return replace(self.base, model=trained.eval()), losses

    def _student(self, seed: int) -> tuple[Base, Objective, Mapping[str, Corruption]]:
        """Return a copy of the base with the heads of the objective, this, and the noise."""
        base, tower = self.base, self.base.tower(self.modality)
        config, objective = config_with_head(base), self._objective(tower)
        if self.objective == VIEWS:
            tree = base.config.tree()
            for name, scale in zip(SIDES, (None, SCALE), strict=True):
                head = JointConfig(embedding_dim=None, scale=scale, max_scale=SCALE)
                tree["heads"][name], tree["tower_of"][name] = head.tree(), tower
            config = ModelConfig.from_tree(tree)
        student = grown(base, config, seed)
        return student, objective, corruptions(student.config.modalities, student.codecs)

    def _objective(self, tower: str) -> Objective:
        if self.objective == CAUSAL:
            return CausalConfig(tower=tower).build()
        if self.objective == MASKED:
            return MaskedConfig(tower=tower, mask_ratio=self.config.hidden).build()
        first, second = (Side(source=name, tower=tower, joint=name) for name in SIDES)
        return InfoNCEConfig(first=first, second=second).build()

    def _batches(
        self, raws: Sequence[Any], corrupt: Mapping[str, Corruption], seed: int, start: int
    ) -> Iterator[Batch]:
        """Yield the batches of the steps from `start` on; an epoch has each record at most once."""
        name, codec = self.base.codec(self.modality)
        limit = min(self.config.tokens, max_tokens(self.base, self.modality))
        reading = replace(self.base, codecs={**self.base.codecs, name: Truncated(codec, limit)})
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
            segments = {name: rows}
            if self.objective == VIEWS:
                segments = {side: self._view(rows, corrupt[name], chance, side) for side in SIDES}
            yield Batch(step, segments, chance)

    def _view(self, rows: Segment, noise: Corruption, chance: KeyedRandom, side: str) -> Segment:
        """Return records [B,N] without a share of their tokens."""
        B, N = rows.position.shape[:2]
        draws = chance.uniform(side, B, 2 * N)
        chosen_BN = (draws[:, :N] < self.config.hidden) & (rows.target_weight > 0)
        values, masked_BN = noise.noise(rows.values, chosen_BN, draws[:, N:])
        return replace(rows, values=values, masked=masked_BN)


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
