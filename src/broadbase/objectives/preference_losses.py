"""The losses of preferences, each as its paper states it. Legend: B pairs."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from broadbase.objectives.preference import Answers, PreferenceLossConfig

Positive = Annotated[float, Field(gt=0)]


class DPOConfig(PreferenceLossConfig):
    """-log sigmoid(beta (ratio chosen - ratio rejected)) (Rafailov et al. 2023, eq. 7)."""

    name: Literal["dpo"] = "dpo"
    beta: Positive = 0.1
    """How strongly the model is kept near the reference."""

    def losses(self, chosen: Answers, rejected: Answers, other: Answers | None) -> Tensor:
        """Return the loss of each pair [B]."""
        return -F.logsigmoid(self.beta * (chosen.ratio - rejected.ratio))


class IPOConfig(PreferenceLossConfig):
    """(h - 1 / (2 tau))^2 of the difference h of the ratios (Azar et al. 2023, eq. 17).

    Ratios are means over the tokens of an answer, as in the authors' later work and in trl.
    """

    name: Literal["ipo"] = "ipo"
    tau: Positive = 0.1
    """How strongly the model is kept near the reference."""

    def losses(self, chosen: Answers, rejected: Answers, other: Answers | None) -> Tensor:
        """Return the loss of each pair [B]."""
        gap_B = self.rewards(chosen) - self.rewards(rejected)
        return (gap_B - 1 / (2 * self.tau)).square()

    def rewards(self, answers: Answers) -> Tensor:
        """Return the mean of the ratio over tokens [B]."""
        return answers.ratio / answers.tokens.clamp(min=1)


class KTOConfig(PreferenceLossConfig):
    """Each answer by itself against a reference point z (Ethayarajh et al. 2024, eq. 8).

    chosen: 1 - sigmoid(beta (ratio - z)); rejected: 1 - sigmoid(beta (z - ratio)). z is the mean
    ratio of answers to other prompts of the batch, at least 0, without gradient. On several ranks
    it is that of the rank's own rows.
    """

    name: Literal["kto"] = "kto"
    mismatched: ClassVar[bool] = True
    beta: Positive = 0.1
    """How strongly the model is kept near the reference."""
    desirable: Positive = 1.0
    """The weight of chosen answers."""
    undesirable: Positive = 1.0
    """The weight of rejected answers."""

    def losses(self, chosen: Answers, rejected: Answers, other: Answers | None) -> Tensor:
        """Return the sum of both losses of each pair [B]."""
        assert other is not None
        z = other.ratio.detach().mean().clamp(min=0)
        good_B = 1 - torch.sigmoid(self.beta * (chosen.ratio - z))
        bad_B = 1 - torch.sigmoid(self.beta * (z - rejected.ratio))
        return self.desirable * good_B + self.undesirable * bad_B


class ORPOConfig(PreferenceLossConfig):
    """The likelihood of the chosen answer and the log of an odds ratio (Hong et al. 2024, 4.3).

    It has no reference. Log-likelihoods are means over the tokens of an answer.
    """

    name: Literal["orpo"] = "orpo"
    reference: ClassVar[bool] = False
    likelihood: ClassVar[float] = 1.0
    weight: Positive = 0.1
    """The weight of the odds ratio (lambda in the paper)."""

    def losses(self, chosen: Answers, rejected: Answers, other: Answers | None) -> Tensor:
        """Return the loss of the odds ratio of each pair [B]."""
        return -self.weight * F.logsigmoid(self.rewards(chosen) - self.rewards(rejected))

    def rewards(self, answers: Answers) -> Tensor:
        """Return the log of the odds of an answer, p / (1 - p), of its mean likelihood p [B]."""
        return answers.mean - torch.log(-torch.expm1(answers.mean))


class SimPOConfig(PreferenceLossConfig):
    """-log sigmoid(beta (mean chosen - mean rejected) - gamma) (Meng et al. 2024, eq. 6).

    It has no reference.
    """

    name: Literal["simpo"] = "simpo"
    reference: ClassVar[bool] = False
    beta: Positive = 2.0
    """The factor of the difference."""
    gamma: Annotated[float, Field(ge=0)] = 1.0
    """The margin by which the chosen answer is to lead."""

    def losses(self, chosen: Answers, rejected: Answers, other: Answers | None) -> Tensor:
        """Return the loss of each pair [B]."""
        return -F.logsigmoid(self.beta * (chosen.mean - rejected.mean) - self.gamma)

    def rewards(self, answers: Answers) -> Tensor:
        """Return the mean log-likelihood over tokens [B]."""
        return answers.mean
