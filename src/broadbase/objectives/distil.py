"""Distillation: a student learns the data and the probabilities that a teacher gives to it.

loss = hard * H(data, student) + (1 - hard) * T^2 * KL(teacher at T || student at T), each a mean
over the scored tokens (Hinton et al. 2015, 2). With hard = 0 and T = 1 its gradient is that of
-sum p_teacher log p_student (Gemma 2, 3.2).

Legend: B rows, S scored tokens, V categories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from broadbase.core.config import Config
from broadbase.core.contracts import Batch, Corruption, Objective
from broadbase.core.errors import ConfigError
from broadbase.core.loss import Loss, TermWeight
from broadbase.core.view import Output, Score, View
from broadbase.objectives.causal import CausalConfig
from broadbase.objectives.masked import MaskedConfig

SOFT = "/soft"  # the ending of the terms that are scored against the teacher


class SoftConfig(Config):
    """How the teacher's predictions count."""

    temperature: Annotated[float, Field(gt=0)] = 2.0
    """The temperature T of both distributions."""
    hard: Annotated[float, Field(ge=0, le=1)] = 0.5
    """The share of the loss against the data; the rest is against the teacher."""


class DistilConfig(SoftConfig, CausalConfig):
    """Causal modelling with a teacher of the same vocabulary."""

    name: Literal["distil"] = "distil"  # type: ignore[assignment]

    def build(self) -> Objective:
        """Return the objective."""
        return Distil(super().build(), self)


class DistilMaskedConfig(SoftConfig, MaskedConfig):
    """Masked modelling with a teacher: both read the same tokens (Sanh et al. 2019, DistilBERT)."""

    name: Literal["distil_masked"] = "distil_masked"  # type: ignore[assignment]

    def build(self) -> Objective:
        """Return the objective."""
        return Distil(super().build(), self)


@dataclass(frozen=True)
class Distil:
    """Each view of an objective twice: the student's, which is also scored, and the teacher's."""

    batch_coupled: ClassVar[bool] = False
    objective: Objective
    config: SoftConfig

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        """Return the student's and the teacher's view by turns."""
        views = self.objective.views(batch, corrupt)
        return tuple(
            v for view in views for v in (_predicts(view, hard=True), _predicts(view, hard=False))
        )

    def term_weights(self, views: Sequence[View]) -> Mapping[str, TermWeight]:
        """Return the sum of the targets' weights by term, scaled by the share of hard or soft."""
        weights: dict[str, float] = {}
        for score in (score for view in views if not view.teacher for score in view.scored):
            for term in (score.term, score.term + SOFT):
                weights[term] = weights.get(term, 0.0) + float(score.loss_weight.sum())
        hard, sources = self.config.hard, len(weights) / 2
        return {
            term: TermWeight(weight, ((1 - hard) if term.endswith(SOFT) else hard) / sources)
            for term, weight in weights.items()
        }

    def loss(self, outputs: Sequence[Output], views: Sequence[View]) -> Loss:
        """Return the weighted sum of scores by term, and that of divergences by its soft term."""
        totals: dict[str, Tensor] = {}
        for student, teacher, view in zip(outputs[::2], outputs[1::2], views[::2], strict=True):
            for score in view.scored:
                hard, soft = score.term, score.term + SOFT
                _require_logits(teacher.predictions[soft], score)
                divergence_BS = divergence(
                    teacher.predictions[soft], student.predictions[soft], self.config.temperature
                )
                for term, score_BS in ((hard, student.scores[hard]), (soft, divergence_BS)):
                    total = (score_BS * score.loss_weight.to(score_BS.dtype)).sum()
                    totals[term] = totals[term] + total if term in totals else total
        return totals


def divergence(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """Return T^2 * KL(softmax(teacher / T) || softmax(student / T)) of logits, in nats.

    Takes logits [B,S,...,V] and gives [B,S].
    """
    wide = torch.promote_types(student.dtype, torch.float32)
    log_p = (teacher.to(wide) / temperature).log_softmax(dim=-1)
    log_q = (student.to(wide) / temperature).log_softmax(dim=-1)
    divergences = log_p.exp() * (log_p - log_q)
    return temperature**2 * divergences.flatten(start_dim=2).sum(dim=-1)


def _require_logits(prediction: Tensor, score: Score) -> None:
    """Check for logits of categories, which have one axis more than their targets."""
    if prediction.ndim != score.target.ndim + 1:
        raise ConfigError(
            f"head {score.head!r} predicts no logits of categories, so it cannot be distilled;"
            " use another objective for this modality"
        )


def _predicts(view: View, *, hard: bool) -> View:
    """Return the view with a prediction for each readout.

    With `hard` it is the student's, whose readouts are scored too; otherwise the teacher's.
    """
    streams = []
    for stream in view.streams:
        soft = tuple(score.predict(score.term + SOFT) for score in stream.scored)
        streams.append(replace(stream, readouts=(stream.readouts if hard else ()) + soft))
    return replace(view, streams=tuple(streams), teacher=not hard)
