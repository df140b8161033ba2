"""The two Spaces that serve all modalities: discrete values, and vectors with quantised channels.

Legend: B batch, N places, S scored places, D width, V vocabulary, K channels, L levels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.config import Config, Slot
from broadbase.core.contracts import SampleFn
from broadbase.core.errors import ConfigError
from broadbase.nn.cross_entropy import cross_entropy, cross_entropy_and_total, linear_cross_entropy
from broadbase.nn.feedforward import ACTIVATIONS, Activation
from broadbase.nn.laws import OutputLinear
from broadbase.nn.norm import LayerNormConfig, NormConfig


class HeadConfig(Slot):
    """What stands between the tower and the output matrix of a discrete Space."""

    package: ClassVar[str] = "nn"

    def build(self, width: int) -> nn.Module:
        """The module [B,S,D] -> [B,S,D]."""
        raise TypeError(f"{type(self).__name__} has no build()")


class IdentityHeadConfig(HeadConfig):
    """Nothing (GPT, Llama)."""

    name: Literal["identity"] = "identity"

    def build(self, width: int) -> nn.Module:
        return nn.Identity()


class NoHeadConfig(HeadConfig):
    """Of weights that hold the backbone alone: their Space predicts nothing."""

    name: Literal["none"] = "none"

    def build(self, width: int) -> nn.Module:
        return NoHead()


class NoHead(nn.Module):
    """ConfigError where a prediction is asked for."""

    def forward(self, x_BSD: Tensor) -> Tensor:
        raise ConfigError("these weights came without a head: they embed, and predict nothing")


class ScaledConfig(HeadConfig):
    """x / sqrt(width), for an output matrix that is the embedding (T5; Raffel et al. 2020)."""

    name: Literal["scaled"] = "scaled"

    def build(self, width: int) -> nn.Module:
        return Scaled(width)


class Scaled(nn.Module):
    """x / sqrt(width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.factor = 1 / math.sqrt(width)

    def forward(self, x_BSD: Tensor) -> Tensor:
        return x_BSD * self.factor


class MLMHeadConfig(HeadConfig):
    """Linear, activation, norm (BERT's masked-language-model head)."""

    name: Literal["mlm"] = "mlm"
    activation: Activation = "gelu"
    norm: NormConfig = LayerNormConfig(eps=1e-12)
    bias: bool = True

    def build(self, width: int) -> nn.Module:
        return MLMHead(self, width)


class MLMHead(nn.Module):
    """norm(activation(linear(x)))."""

    def __init__(self, config: MLMHeadConfig, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width, bias=config.bias)
        self.activation = ACTIVATIONS[config.activation]
        self.norm = config.norm.build(width)

    def forward(self, x_BSD: Tensor) -> Tensor:
        return self.norm(self.activation(self.linear(x_BSD)))  # type: ignore[no-any-return]


class DiscreteConfig(Config):
    """Values are ids of a vocabulary."""

    vocab_size: Annotated[int, Field(ge=2)]
    extra_ids: Annotated[int, Field(ge=0)] = 0  # more ids, which only objectives use
    scale: float = 1.0  # of the embedding (Gemma: sqrt(width))
    softcap: float | None = None  # logits become cap * tanh(logits / cap) (Gemma 2)
    tie_embeddings: bool = True  # output matrix = embedding (Press & Wolf 2017)
    bias: bool = False
    z_loss_coef: Annotated[float, Field(ge=0)] = 0.0  # of the z-loss; PaLM's: 1e-4
    head: HeadConfig = IdentityHeadConfig()
    mask_id: int | None = (
        None  # the id that stands for hidden (BERT's [MASK]); None: a vector of its own
    )

    token_dropout: Annotated[float, Field(gt=0, lt=1)] | None = (
        None  # token dropout, as is usual; ESM: 0.12
    )

    def build(self, width: int) -> Discrete:
        return (Discrete if self.token_dropout is None else DroppedDiscrete)(self, width)


class Discrete(nn.Module):
    """Ids [B,N]: embedding in, logits and cross-entropy out."""

    tables: ClassVar[tuple[str, ...]] = ("embedding.weight", "output.weight", "bias")  # by id

    def __init__(self, config: DiscreteConfig, width: int) -> None:
        super().__init__()
        self.width, self.scale, self.cap = width, config.scale, config.softcap
        self.vocabulary, self.controls = config.vocab_size, config.extra_ids
        ids = config.vocab_size + config.extra_ids
        self.embedding = nn.Embedding(ids, width)
        self.penalties: Mapping[str, float] = (
            {"z": config.z_loss_coef} if config.z_loss_coef else {}
        )
        self._charges: dict[str, Tensor] = {}
        self.mask_id = config.mask_id
        self.mask = nn.Parameter(torch.zeros(width)) if config.mask_id is None else None
        self.head = config.head.build(width)
        self.output = None if config.tie_embeddings else OutputLinear(width, ids, bias=False)
        self.bias = nn.Parameter(torch.zeros(ids)) if config.bias else None

    def embed(self, values: Tensor, hidden: Tensor | None = None) -> Tensor:
        if hidden is not None and self.mask_id is not None:
            values = values.masked_fill(hidden, self.mask_id)
        x_BND: Tensor = self.embedding(values)
        x_BND = x_BND if self.scale == 1 else x_BND * self.scale
        if hidden is not None and self.mask is not None:
            x_BND = torch.where(hidden.unsqueeze(-1), self.mask, x_BND)
        return x_BND

    def predict(self, x: Tensor) -> Tensor:
        """Logits [B,S,V]."""
        x = self.head(x)
        if self.output is None:
            logits = F.linear(x, self.embedding.weight, self.bias)
        else:
            logits = self.output(x) if self.bias is None else self.output(x) + self.bias
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)

    @property
    def _weight(self) -> Tensor:
        """The output matrix [V,D]."""
        return self.embedding.weight if self.output is None else self.output.weight

    def score(self, x: Tensor, target: Tensor) -> Tensor:
        plain = self.output is None or isinstance(
            self.output, OutputLinear
        )  # not one laid out for use
        if self.cap is None and plain:
            told = linear_cross_entropy(self.head(x), self._weight, self.bias, target)
        else:
            told = cross_entropy_and_total(self.predict(x), target)
        score_BS, total_BS = told
        self._charges = {"z": total_BS.square()} if self.penalties else {}
        return score_BS

    def is_extension_of(self, other: nn.Module) -> bool:
        """Whether the ids of another such Space mean the same in this one: new ones come last."""
        return isinstance(other, Discrete) and (
            self.vocabulary == other.vocabulary
            or (self.vocabulary > other.vocabulary and not other.controls)
        )

    def untie(self) -> None:
        """Give the output matrix a linear map, of the embedding's numbers where they are shared."""
        if self.output is None:
            ids, width = self.embedding.weight.shape
            self.output = OutputLinear(width, ids, bias=False, device="meta")
            self.output.weight = self.embedding.weight

    def charges(self) -> Mapping[str, Tensor]:
        """Of the last score: the squared log-sum-exp (Chowdhery et al. 2022, 5), [B,S]."""
        return self._charges

    def sample(self, prediction: Tensor, choose: SampleFn) -> Tensor:
        return choose(prediction)


class DroppedDiscrete(Discrete):
    """Hidden places are embedded as nothing, and all others larger by as much (ESM's token dropout;
    Lin et al. 2022, A.1.1).

    The factor is 1 minus the usual share of hidden places over 1 minus that of the row, and so is
    below 1 where nothing is hidden. Padding is embedded as nothing too.
    """

    def __init__(self, config: DiscreteConfig, width: int) -> None:
        super().__init__(config, width)
        assert config.token_dropout is not None
        self.kept, self.mask = 1 - config.token_dropout, None

    def balance(self, x: Tensor, hidden: Tensor | None, document: Tensor | None) -> Tensor:
        """Embedded places [B,N,D] of rows, of which some are hidden or padding: [B,N,D]."""
        real_BN = torch.ones_like(x[..., 0]) if document is None else (document >= 0).to(x.dtype)
        seen_BN = real_BN if hidden is None else real_BN * ~hidden
        share_B1 = seen_BN.sum(dim=1, keepdim=True) / real_BN.sum(dim=1, keepdim=True).clamp(min=1)
        factor_BN = seen_BN * self.kept / share_B1.clamp(min=1e-6)
        return x * factor_BN.unsqueeze(-1)


class QuantizedVectorConfig(Config):
    """Values are vectors of channels in [0, 1], predicted as one of `levels` steps each."""

    channels: Annotated[int, Field(ge=1)]
    levels: Annotated[int, Field(ge=2)] = 16

    def build(self, width: int) -> QuantizedVector:
        return QuantizedVector(self, width)


class QuantizedVector(nn.Module):
    """Vectors [B,N,K]: a projection in, a categorical distribution for each channel out.

    The likelihood is a real one, of the values quantised to `levels` steps, so that it can be
    compared with any other model of the same quantised values. Channels are independent given
    the past.
    """

    def __init__(self, config: QuantizedVectorConfig, width: int) -> None:
        super().__init__()
        self.width = width
        self.channels, self.levels = config.channels, config.levels
        self.input = nn.Linear(config.channels, width)
        self.mask = nn.Parameter(torch.zeros(width))
        self.output = OutputLinear(width, config.channels * config.levels)

    def embed(self, values: Tensor, hidden: Tensor | None = None) -> Tensor:
        x_BND: Tensor = self.input(values)
        return x_BND if hidden is None else torch.where(hidden.unsqueeze(-1), self.mask, x_BND)

    def predict(self, x: Tensor) -> Tensor:
        """Logits [B,S,K,L]."""
        return self.output(x).unflatten(-1, (self.channels, self.levels))  # type: ignore[no-any-return]

    def score(self, x: Tensor, target: Tensor) -> Tensor:
        level_BSK = (target.clamp(0, 1) * (self.levels - 1)).round().long()
        return cross_entropy(self.predict(x), level_BSK).sum(dim=-1)

    def sample(self, prediction: Tensor, choose: SampleFn) -> Tensor:
        return choose(prediction).to(self.input.weight.dtype) / (self.levels - 1)
