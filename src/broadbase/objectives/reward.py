"""A reward model: one number for a conversation, higher for the preferred of two answers.

loss = -log sigmoid(reward of chosen - reward of rejected) (Ouyang et al. 2022, eq. 1, of pairs).

Legend: B pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch.nn.functional as F

from broadbase.core.contracts import Batch, Corruption, ObjectiveConfig, TowerName
from broadbase.core.loss import Loss, TermWeight
from broadbase.core.view import Output, Predict, Segment, Stream, View
from broadbase.objectives.documents import paired_with

TERM, CORRECT = "reward", "reward/accuracy"


class RewardConfig(ObjectiveConfig):
    """Two answers to one prompt, of which one is preferred; conversations of paired sources."""

    name: Literal["reward"] = "reward"
    pattern: ClassVar[str] = "causal"
    tower: TowerName = "main"
    """The tower that reads the conversations."""
    head: str = "reward"
    """The head that reads a row as one number."""
    chosen: str = "chosen"
    """The source of the preferred answers, each with its prompt."""
    rejected: str = "rejected"
    """The source of the other answers, paired with the first."""

    def check(self, sources: Mapping[str, str | None]) -> None:
        """Check that both sources are there and paired; ValueError otherwise."""
        paired_with(self.name, sources, self.chosen, self.rejected)

    def build(self) -> Reward:
        """Return the objective."""
        return Reward(self)


@dataclass(frozen=True)
class Reward:
    """A view of each answer, read as one number."""

    batch_coupled: ClassVar[bool] = False
    config: RewardConfig

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        """Return the views of chosen and rejected answers; none if the batch lacks a source."""
        names = (self.config.chosen, self.config.rejected)
        if not set(names) <= batch.segments.keys():
            return ()
        return tuple(reward_view(batch.segments[name], self.config) for name in names)

    def term_weights(self, views: Sequence[View]) -> Mapping[str, TermWeight]:
        """Return the number of pairs; the share of pairs in order is no part of the loss."""
        if not views:
            return {}
        pairs = float(views[0].size)
        return {TERM: TermWeight(pairs), CORRECT: TermWeight(pairs, 0.0)}

    def loss(self, outputs: Sequence[Output], views: Sequence[View]) -> Loss:
        """Return the sum over pairs of the loss, and of those whose chosen answer leads."""
        if not outputs:
            return {}
        chosen_B, rejected_B = (output.predictions[TERM].flatten() for output in outputs)
        leads_B = (chosen_B.detach() > rejected_B.detach()).to(chosen_B.dtype)
        return {TERM: -F.logsigmoid(chosen_B - rejected_B).sum(), CORRECT: leads_B.sum()}


def reward_view(segment: Segment, config: RewardConfig) -> View:
    """Return the view that reads each row of conversations [B,N] as one number [B,1,1]."""
    readout = Predict(config.head, TERM, pooled=True)
    return View((Stream("main", config.tower, (segment,), config.pattern, readouts=(readout,)),))
