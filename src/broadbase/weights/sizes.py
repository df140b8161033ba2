"""The sizes of a model, as the config.json of a published family says them."""

from __future__ import annotations

from dataclasses import dataclass

from broadbase.core.contracts import ModalityConfig
from broadbase.core.spaces import HeadConfig
from broadbase.model.model import ModelConfig
from broadbase.nn.attention import GroupedQueryConfig
from broadbase.nn.feedforward import Activation, FeedForwardConfig, GatedConfig, MLPConfig
from broadbase.nn.norm import NormConfig
from broadbase.nn.positions import LearnedConfig, PositionsConfig
from broadbase.nn.spaces.discrete import DiscreteConfig
from broadbase.nn.tower import TransformerConfig

NAMES: dict[Activation, str] = {
    "gelu": "gelu",
    "gelu_tanh": "gelu_pytorch_tanh",
    "gelu_quick": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
}


@dataclass(frozen=True)
class Ends:
    """What a config.json says that stands in no tower."""

    start: int = 0  # ids of a document's two ends
    end: int | None = 1
    length: int = 512  # places, where positions are counted


@dataclass(frozen=True)
class Shape:
    """How large a tower is; of its slots what a family keeps, where they are of its kind."""

    width: int
    layers: int
    attention: GroupedQueryConfig
    feedforward: FeedForwardConfig
    norm: NormConfig | None
    positions: PositionsConfig

    @classmethod
    def of(cls, model: ModelConfig, tower: str) -> Shape | None:
        """That of a tower's first layer; None where there is no such tower."""
        config = model.towers.get(tower)
        if not isinstance(config, TransformerConfig):
            return None
        block = config.layers[0].block
        if not isinstance(block.attention, GroupedQueryConfig):
            return None
        layers = sum(each.repeat for each in config.layers)
        norm, positions = block.residual.norm, config.positions
        return cls(config.width, layers, block.attention, block.feedforward, norm, positions)

    def eps(self, kind: type[NormConfig], usual: float) -> float:
        """Of its norms, where they are of a `kind`."""
        return getattr(self.norm, "eps", usual) if isinstance(self.norm, kind) else usual

    @property
    def plain(self) -> MLPConfig | None:
        """Its feed-forward, where it has one activation between two maps."""
        return self.feedforward if isinstance(self.feedforward, MLPConfig) else None

    @property
    def hidden(self) -> int:
        """Of a plain feed-forward: its own or, of as many numbers as others have, 4 widths."""
        return self.plain.hidden_width if self.plain else 4 * self.width

    def activation(self, usual: str) -> str:
        """Of a plain feed-forward, as transformers calls it."""
        return NAMES[self.plain.activation] if self.plain else usual

    @property
    def gated(self) -> int:
        """The hidden width of a gated feed-forward: its own, or of as many numbers."""
        gated = isinstance(self.feedforward, GatedConfig)
        return self.feedforward.hidden_width if gated else 8 * -(-self.width // 3)

    def max_length(self, said: Ends) -> int:
        """The length of its table of positions."""
        learned = isinstance(self.positions, LearnedConfig)
        return self.positions.num_positions if learned else said.length  # type: ignore[attr-defined]


def ids(modality: ModalityConfig | HeadConfig | None) -> DiscreteConfig | None:
    """The Space of a modality of ids, controls counted among them; None of others."""
    found = getattr(modality, "discrete", None)
    if not isinstance(found, DiscreteConfig):
        return None
    count = found.vocab_size + found.extra_ids
    return found.model_copy(update={"vocab_size": count, "extra_ids": 0, "z_loss_coef": 0.0})


def only_ids(model: ModelConfig) -> DiscreteConfig | None:
    """The Space of a model that has but one, of ids."""
    first, *others = model.modalities.values()
    return None if others else ids(first)
