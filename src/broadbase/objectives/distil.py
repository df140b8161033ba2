"""Distillation: a student learns what a teacher finds likely, beside what is there.

loss = hard * H(data, student) + (1 - hard) * T^2 * KL(teacher at T || student at T), each a mean
over the scored places (Hinton et al. 2015, 2). With hard = 0 and T = 1 its gradient is that of
-sum p_teacher log p_student (Gemma 2, 3.2).

Legend: B rows, S scored places, V categories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from broadbase.core.config import Config
from broadbase.core.contracts import Batch, Corruption, Objective
from broadbase.core.errors import ConfigError
from broadbase.core.loss import Loss, TermWeight
from broadbase.core.view import Output, Readout, View
from broadbase.objectives.causal import CausalConfig
from broadbase.objectives.masked import MaskedConfig

SOFT = "/soft"  # what the terms of the teacher's answers end in


class SoftConfig(Config):
    """How the teacher's answers count."""

    temperature: Annotated[float, Field(gt=0)] = 2.0
    hard: Annotated[float, Field(ge=0, le=1)] = 0.5  # the part of the usual loss


class DistilConfig(SoftConfig, CausalConfig):
    """Causal modelling with a teacher of the same vocabulary."""

    name: Literal["distil"] = "distil"  # type: ignore[assignment]

    def build(self) -> Objective:
        return Distil(super().build(), self)


class DistilMaskedConfig(SoftConfig, MaskedConfig):
    """Masked modelling with a teacher: both see the same places (Sanh et al. 2019, DistilBERT)."""

    name: Literal["distil_masked"] = "distil_masked"  # type: ignore[assignment]

    def build(self) -> Objective:
        return Distil(super().build(), self)


class Distil:
    """Each view of an objective twice: the student's, whose places are also told, the teacher's."""

    batch_coupled: ClassVar[bool] = False

    def __init__(self, objective: Objective, config: SoftConfig) -> None:
        self.objective, self.config = objective, config

    def views(self, batch: Batch, corrupt: Mapping[str, Corruption]) -> tuple[View, ...]:
        """Student and teacher by turns."""
        views = self.objective.views(batch, corrupt)
        return tuple(v for view in views for v in (_read(view, hard=True), _read(view, hard=False)))

    def term_weights(self, views: Sequence[View]) -> Mapping[str, TermWeight]:
        weights: dict[str, float] = {}
        for read in (read for view in views if not view.teacher for read in view.readouts):
            weights[read.term] = weights.get(read.term, 0.0) + float(_weight(read).sum())
        hard, sources = self.config.hard, len(weights) / 2
        return {
            term: TermWeight(weight, ((1 - hard) if term.endswith(SOFT) else hard) / sources)
            for term, weight in weights.items()
        }

    def loss(self, outputs: Sequence[Output], views: Sequence[View]) -> Loss:
        totals: dict[str, Tensor] = {}
        for said, told, view in zip(outputs[::2], outputs[1::2], views[::2], strict=True):
            for read in (read for read in view.readouts if read.target is not None):
                hard, soft = read.term, read.term + SOFT
                _must_be_logits(told.predictions[soft], read)
                score_BS = divergence(
                    told.predictions[soft], said.predictions[soft], self.config.temperature
                )
                for term, each_BS in ((hard, said.scores[hard]), (soft, score_BS)):
                    total = (each_BS * _weight(read).to(each_BS.dtype)).sum()
                    totals[term] = totals[term] + total if term in totals else total
        return totals


def divergence(told: Tensor, said: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(softmax(told / T) || softmax(said / T)), nats: logits [B,S,...,V] to [B,S]."""
    wide = torch.promote_types(said.dtype, torch.float32)
    log_p = (told.to(wide) / temperature).log_softmax(dim=-1)
    log_q = (said.to(wide) / temperature).log_softmax(dim=-1)
    each = log_p.exp() * (log_p - log_q)
    return temperature**2 * each.flatten(start_dim=2).sum(dim=-1)


def _must_be_logits(prediction: Tensor, read: Readout) -> None:
    """A distribution over categories has one axis more than the values it is of."""
    assert read.target is not None
    if prediction.ndim != read.target.ndim + 1:
        raise ConfigError(
            f"Space {read.head!r} predicts no logits of categories, and only those are distilled"
        )


def _read(view: View, *, hard: bool) -> View:
    """The view with each Read asked for its prediction; scored too, or for the twin."""
    streams = []
    for stream in view.streams:
        soft = tuple(replace(r, term=r.term + SOFT, target=None) for r in stream.readouts)
        streams.append(replace(stream, readouts=(stream.readouts if hard else ()) + soft))
    return replace(view, streams=tuple(streams), teacher=not hard)


def _weight(read: Readout) -> Tensor:
    assert read.loss_weight is not None, "a scored Read says how much each place counts"
    return read.loss_weight
