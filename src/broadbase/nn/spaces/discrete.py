"""Ids of a vocabulary, for every modality that has one.

Legend: B batch, N positions, S scored positions, D width, V vocabulary.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.config import Config, Slot
from broadbase.core.errors import ConfigError
from broadbase.core.loss import AuxLosses
from broadbase.core.spaces import Embedder, Head, SampleFn
from broadbase.nn.cross_entropy import cross_entropy_and_total, linear_cross_entropy
from broadbase.nn.feedforward import ACTIVATIONS, Activation
from broadbase.nn.laws import OutputLinear
from broadbase.nn.norm import LayerNormConfig, NormConfig


class HeadTransformConfig(Slot):
    """What stands between the tower and the output matrix of a vocabulary."""

    package: ClassVar[str] = "nn"

    @abstractmethod
    def build(self, width: int) -> nn.Module:
        """Return the module, [B,S,D] -> [B,S,D]."""


class IdentityHeadConfig(HeadTransformConfig):
    """No transform before the output matrix (GPT, Llama)."""

    name: Literal["identity"] = "identity"

    def build(self, width: int) -> nn.Module:
        """Build the module for states of `width`."""
        return nn.Identity()


class NoHeadConfig(HeadTransformConfig):
    """The transform of weights without an output: their ids are embedded and not predicted."""

    name: Literal["none"] = "none"

    def build(self, width: int) -> nn.Module:
        """Build the module for states of `width`."""
        return NoHead()


class NoHead(nn.Module):
    """Refuse to predict: a checkpoint of the backbone alone has no output."""

    def forward(self, x_BSD: Tensor) -> Tensor:
        """Raise ConfigError."""
        raise ConfigError(
            "this checkpoint has no LM head, so it can embed but not predict; train one with"
            " --init-from"
        )


class ScaledConfig(HeadTransformConfig):
    """Division by sqrt(width), for an output matrix that is the embedding (Raffel et al. 2020)."""

    name: Literal["scaled"] = "scaled"

    def build(self, width: int) -> nn.Module:
        """Build the module for states of `width`."""
        return Scaled(width)


class Scaled(nn.Module):
    """A division by sqrt(width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.factor = 1 / math.sqrt(width)

    def forward(self, x_BSD: Tensor) -> Tensor:
        """Return the states [B,S,D], divided."""
        return x_BSD * self.factor


class MLMHeadConfig(HeadTransformConfig):
    """Settings of a linear map, an activation and a norm (BERT's masked-language-model head)."""

    name: Literal["mlm"] = "mlm"
    activation: Activation = "gelu"
    """The activation after the linear map."""
    norm: NormConfig = LayerNormConfig(eps=1e-12)
    """The norm after the activation."""
    bias: bool = True
    """Whether the linear map has a bias."""

    def build(self, width: int) -> nn.Module:
        """Build the module for states of `width`."""
        return MLMHead(self, width)


class MLMHead(nn.Module):
    """A linear map, an activation and a norm, in this order."""

    def __init__(self, config: MLMHeadConfig, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width, bias=config.bias)
        self.activation = ACTIVATIONS[config.activation]
        self.norm = config.norm.build(width)

    def forward(self, x_BSD: Tensor) -> Tensor:
        """Return the transformed states [B,S,D]."""
        return self.norm(self.activation(self.linear(x_BSD)))  # type: ignore[no-any-return]


class DiscreteConfig(Config):
    """Settings of values that are ids of a vocabulary."""

    vocab_size: Annotated[int, Field(ge=2)]
    """The ids that records are made of."""
    extra_ids: Annotated[int, Field(ge=0)] = 0
    """Further ids, which only objectives use."""
    scale: float = 1.0
    """The factor of the embeddings (Gemma: sqrt(width))."""
    softcap: float | None = None
    """The bound of logits, softcap * tanh(logits / softcap) (Gemma 2); null: none."""
    tie_embeddings: bool = True
    """Whether the output matrix is the embedding (Press & Wolf 2017)."""
    bias: bool = False
    """Whether logits have a bias."""
    z_loss_coef: Annotated[float, Field(ge=0)] = 0.0
    """The coefficient of the z-loss, which keeps logits small (PaLM: 1e-4)."""
    head: HeadTransformConfig = IdentityHeadConfig()
    """What stands between the tower and the output matrix."""
    mask_id: int | None = None
    """The id that a masked position is embedded as (BERT's [MASK]); null: a mask vector."""
    token_dropout: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The usual fraction of masked positions, where token dropout is used (ESM: 0.12); null: it
    is not."""

    def build(self, width: int) -> Discrete:
        """Return the embedder and head for a tower of `width`."""
        return Discrete(self, width)


class Discrete(Embedder, Head):
    """Ids [B,N]: embedded by a table, predicted by logits, scored by cross-entropy."""

    id_tables = ("embedding.weight", "output.weight", "bias")

    def __init__(self, config: DiscreteConfig, width: int) -> None:
        super().__init__()
        self.scale, self.cap = config.scale, config.softcap
        self.vocabulary, self.controls = config.vocab_size, config.extra_ids
        ids = config.vocab_size + config.extra_ids
        self.embedding = nn.Embedding(ids, width)
        self.z_loss_coef = config.z_loss_coef
        self.mask_id, self.token_dropout = config.mask_id, config.token_dropout
        vector = config.mask_id is None and config.token_dropout is None
        self.mask = nn.Parameter(torch.zeros(width)) if vector else None
        self.head = config.head.build(width)
        self.output = None if config.tie_embeddings else OutputLinear(width, ids, bias=False)
        self.bias = nn.Parameter(torch.zeros(ids)) if config.bias else None

    def embed(
        self, values: Tensor, masked: Tensor | None = None, document: Tensor | None = None
    ) -> Tensor:
        """Embed ids [B,N] as [B,N,D], masked ones as the mask vector, the mask id or nothing."""
        if masked is not None and self.mask_id is not None:
            values = values.masked_fill(masked, self.mask_id)
        if self.token_dropout is not None:
            x_BND = self.embed_values(values)
            return rescaled(x_BND, masked, document, self.token_dropout)
        return super().embed(values, masked if self.mask_id is None else None, document)

    def embed_values(self, values: Tensor) -> Tensor:
        """Embed ids [B,N] as [B,N,D]."""
        x_BND: Tensor = self.embedding(values)
        return x_BND if self.scale == 1 else x_BND * self.scale

    def predict(self, x: Tensor) -> Tensor:
        """Return logits [B,S,V]."""
        x = self.head(x)
        if self.output is None:
            logits = F.linear(x, self.embedding.weight, self.bias)
        else:
            logits = self.output(x) if self.bias is None else self.output(x) + self.bias
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)

    @property
    def aux_loss_weights(self) -> Mapping[str, float]:
        """The coefficient of the z-loss, where there is one."""
        return {"z": self.z_loss_coef} if self.z_loss_coef else {}

    @property
    def _weight(self) -> Tensor:
        """The output matrix [V,D]."""
        return self.embedding.weight if self.output is None else self.output.weight

    def score(self, x: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy of ids [B,S] in nats, [B,S]."""
        return self.score_with_aux(x, target)[0]

    def score_with_aux(self, x: Tensor, target: Tensor) -> tuple[Tensor, AuxLosses]:
        """Return the cross-entropy, and the z-loss where it has a coefficient, [B,S] each.

        The z-loss is the squared log-sum-exp of the logits (Chowdhery et al. 2022, PaLM, 5).
        """
        plain = self.output is None or isinstance(
            self.output, OutputLinear
        )  # not one laid out for use
        if self.cap is None and plain:
            score_BS, total_BS = linear_cross_entropy(self.head(x), self._weight, self.bias, target)
        else:
            score_BS, total_BS = cross_entropy_and_total(self.predict(x), target)
        return score_BS, {"z": total_BS.square()} if self.z_loss_coef else {}

    def is_extension_of(self, other: nn.Module) -> bool:
        """Return whether the ids of `other` mean the same here, and new ones come last."""
        return isinstance(other, Discrete) and (
            self.vocabulary == other.vocabulary
            or (self.vocabulary > other.vocabulary and not other.controls)
        )

    def untie(self) -> None:
        """Give the output matrix a linear map, whose numbers are the embedding's if tied."""
        if self.output is None:
            ids, width = self.embedding.weight.shape
            self.output = OutputLinear(width, ids, bias=False, device="meta")
            self.output.weight = self.embedding.weight

    def sample(self, prediction: Tensor, choose: SampleFn) -> Tensor:
        """Draw ids [B,S] from logits."""
        return choose(prediction)


def rescaled(
    x_BND: Tensor, masked: Tensor | None, document: Tensor | None, token_dropout: float
) -> Tensor:
    """Embed masked positions and padding as nothing, and scale the others (ESM's token dropout).

    The factor is 1 minus the usual fraction of masked positions over 1 minus that of the row (Lin
    et al. 2022, A.1.1), and so is below 1 where nothing is masked.
    """
    some_BN = x_BND[..., 0]
    real_BN = torch.ones_like(some_BN) if document is None else (document >= 0).to(some_BN)
    seen_BN = real_BN if masked is None else real_BN * ~masked
    share_B1 = seen_BN.sum(dim=1, keepdim=True) / real_BN.sum(dim=1, keepdim=True).clamp(min=1)
    factor_BN = seen_BN * (1 - token_dropout) / share_B1.clamp(min=1e-6)
    return x_BND * factor_BN.unsqueeze(-1)
