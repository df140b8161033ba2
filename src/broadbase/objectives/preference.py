"""Preferences: of two answers to a prompt the chosen one becomes likelier than the rejected one.

The slot `by` has one class a loss; all of them see the log-likelihoods of the two answers, and most
see those under a reference, which is the model as its training starts (`teacher.name=start`).

Legend: B pairs, S scored tokens.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from broadbase.core.config import Slot
from broadbase.core.contracts import Batch, Corruption, ObjectiveConfig, TowerName
from broadbase.core.loss import Loss, TermWeight
from broadbase.core.usage import DataFacts, Usage
from broadbase.core.view import Output, Score, Segment, Stream, View
from broadbase.inference.usages import plain_usage
from broadbase.objectives.documents import Document, assemble, next_token_targets, paired_with

TERM, LIKELIHOOD, CORRECT = "preference", "preference/chosen", "preference/accuracy"


@dataclass(frozen=True)
class Answers:
    """One answer of each pair, and what two models think of it."""

    logprob: Tensor  # [B] log-likelihood of the answer after its prompt, in nats
    tokens: Tensor  # [B] how many tokens it has
    reference: Tensor  # [B] the same log-likelihood under the reference; zeros where there is none

    @property
    def ratio(self) -> Tensor:
        """The log of the likelihood ratio of model and reference [B]."""
        return self.logprob - self.reference

    @property
    def mean(self) -> Tensor:
        """The log-likelihood a token [B]."""
        return self.logprob / self.tokens.clamp(min=1)


class PreferenceLossConfig(Slot):
    """How the likelihoods of two answers become a loss."""

    package: ClassVar[str] = "objectives"
    reference: ClassVar[bool] = True  # whether it compares with the likelihoods of a reference
    mismatched: ClassVar[bool] = False  # whether it needs answers to other prompts of the batch
    likelihood: ClassVar[float] = 0.0  # the coefficient of the chosen answers' own likelihood

    @abstractmethod
    def losses(self, chosen: Answers, rejected: Answers, other: Answers | None) -> Tensor:
        """Return the loss of each pair [B]; `other` are the `mismatched` answers."""

    def rewards(self, answers: Answers) -> Tensor:
        """Return by what answers are compared [B]; by default the likelihood ratio."""
        return answers.ratio


class PreferenceConfig(ObjectiveConfig):
    """Two answers to one prompt, of which one is preferred; conversations of paired sources."""

    name: Literal["preference"] = "preference"
    pattern: ClassVar[str] = "causal"
    tower: TowerName = "main"
    """The tower that reads the conversations."""
    chosen: str = "chosen"
    """The source of the preferred answers, each with its prompt."""
    rejected: str = "rejected"
    """The source of the other answers, paired with the first."""
    by: PreferenceLossConfig = Field(default_factory=lambda: PreferenceLossConfig.named("dpo")())
    """The loss: dpo, ipo, kto, orpo or simpo."""

    @property
    def needs_start(self) -> bool:
        """Whether the loss has a reference, which is the model as training starts."""
        return self.by.reference

    def check(self, sources: Mapping[str, str | None]) -> None:
        """Check that both sources are there and paired; ValueError otherwise."""
        paired_with(self.name, sources, self.chosen, self.rejected)

    def usage(self, facts: DataFacts) -> Usage:
        """Return the usage of a base that continues its prompt."""
        return plain_usage(self.pattern, facts=facts)

    def build(self) -> Preference:
        """Return the objective."""
        return Preference(self)


class Preference:
    """A view of each answer by the model, and one by the reference where the loss has it."""

    def __init__(self, config: PreferenceConfig) -> None:
        """Take the settings."""
        self.config, self.by = config, config.by
        self.batch_coupled = config.by.mismatched

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        """Return the views of chosen, rejected and, if needed, mismatched answers.

        All of the model come first, then all of the reference. None if the batch lacks a source.
        """
        names = (self.config.chosen, self.config.rejected)
        if not set(names) <= batch.segments.keys():
            return ()
        chosen, rejected = (batch.segments[name] for name in names)
        segments = [chosen, rejected]
        if self.by.mismatched:
            segments.append(mismatched(chosen))
        views = tuple(self._view(segment) for segment in segments)
        teacher = (replace(view, teacher=True) for view in views) if self.by.reference else ()
        return (*views, *teacher)

    def term_weights(self, views: Sequence[View]) -> Mapping[str, TermWeight]:
        """Return the number of pairs, and of the chosen tokens where their likelihood counts.

        The share of pairs in which the chosen answer leads is reported and is no part of the loss.
        """
        if not views:
            return {}
        pairs = float(_complete(views).sum())
        weights = {TERM: TermWeight(pairs), CORRECT: TermWeight(pairs, 0.0)}
        if self.by.likelihood:
            tokens = float(_weight(views[0]).sum())
            weights[LIKELIHOOD] = TermWeight(tokens, self.by.likelihood)
        return weights

    def loss(self, outputs: Sequence[Output], views: Sequence[View]) -> Loss:
        """Return the sum over pairs, and the sum of the chosen tokens' nats where it counts."""
        if not outputs:
            return {}
        count = len(outputs) // (1 + self.by.reference)
        logprobs = [_logprob(*each) for each in zip(outputs, views, strict=True)]
        answers = [
            Answers(
                logprobs[i],
                _weight(views[i]).sum(dim=1).to(logprobs[i].dtype),
                logprobs[count + i] if self.by.reference else torch.zeros_like(logprobs[i]),
            )
            for i in range(count)
        ]
        chosen, rejected, *other = answers
        keep_B = _complete(views).to(chosen.logprob.dtype)
        losses_B = self.by.losses(chosen, rejected, other[0] if other else None)
        leads_B = self.by.rewards(chosen).detach() > self.by.rewards(rejected).detach()
        loss = {TERM: (losses_B * keep_B).sum(), CORRECT: (leads_B * keep_B).sum()}
        if self.by.likelihood:
            loss[LIKELIHOOD] = -chosen.logprob.sum()
        return loss

    def _view(self, segment: Segment) -> View:
        inputs, target, weight = next_token_targets(segment)
        score = Score(segment.space, TERM, target, weight)
        return View((Stream("main", self.config.tower, (inputs,), "causal", readouts=(score,)),))


def mismatched(segment: Segment) -> Segment:
    """Return the prompt of each row with the answer of the next row, cut at the row's length.

    The answer is all that follows the first target.
    """
    weight_BN, N = segment.target_weight, segment.position.shape[1]
    real_BN = weight_BN >= 0 if segment.document is None else segment.document >= 0
    first_B = torch.where((weight_BN > 0).any(1), (weight_BN > 0).int().argmax(1), N).tolist()
    rows = []
    for b in range(len(weight_BN)):
        c = (b + 1) % len(weight_BN)
        end_b, end_c = (int(real_BN[i].sum()) for i in (b, c))
        before, after = slice(0, min(first_B[b], end_b)), slice(first_B[c], end_c)
        values = torch.cat([segment.values[b, before], segment.values[c, after]])
        weights = torch.cat([torch.zeros_like(weight_BN[b, before]), weight_BN[c, after]])
        rows.append([Document(values, weights)])
    return assemble(segment.space, rows, N)


def _score(view: View) -> Score:
    (score,) = view.scored
    return score


def _weight(view: View) -> Tensor:
    """Return the weights of the scored tokens [B,S]."""
    return _score(view).loss_weight


def _complete(views: Sequence[View]) -> Tensor:
    """Return in which pairs a token of each answer is left within the row: [B] bool."""
    chosen, rejected = ((_weight(view) > 0).any(dim=1) for view in views[:2])
    return chosen & rejected


def _logprob(output: Output, view: View) -> Tensor:
    """Return the log-likelihood of each answer [B]."""
    score_BS, score = output.scores[TERM], _score(view)
    return -(score_BS * score.loss_weight.to(score_BS.dtype)).sum(dim=1)
