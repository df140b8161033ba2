"""The sizes of a model that a config.json of a published family contains."""

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
    """What a config.json contains that is no setting of a tower."""

    start: int = 0  # the id before a document
    end: int | None = 1  # the id after it
    length: int = 512  # the most tokens of a row, for models without a table of positions


@dataclass(frozen=True)
class Shape:
    """The sizes of a tower, and the slots whose settings a family may take over."""

    width: int
    layers: int
    attention: GroupedQueryConfig
    feedforward: FeedForwardConfig
    norm: NormConfig | None
    positions: PositionsConfig

    @classmethod
    def of(cls, model: ModelConfig, tower: str) -> Shape | None:
        """Return the shape of a tower's first layer; None if there is no such tower."""
        config = model.towers.get(tower)
        if not isinstance(config, TransformerConfig):
            return None
        block = config.layers[0].block
        if not isinstance(block.attention, GroupedQueryConfig):
            return None
        layers = sum(entry.repeat for entry in config.layers)
        norm, positions = block.residual.norm, config.positions
        return cls(config.width, layers, block.attention, block.feedforward, norm, positions)

    def eps(self, kind: type[NormConfig], usual: float) -> float:
        """Return the eps of norms of a `kind`; `usual` for others."""
        return getattr(self.norm, "eps", usual) if isinstance(self.norm, kind) else usual

    @property
    def plain(self) -> MLPConfig | None:
        """Return the feed-forward if it is a plain MLP."""
        return self.feedforward if isinstance(self.feedforward, MLPConfig) else None

    @property
    def hidden(self) -> int:
        """Return the hidden width of a plain feed-forward; 4 widths if it is of another kind."""
        return self.plain.hidden_width if self.plain else 4 * self.width

    def activation(self, usual: str) -> str:
        """Return the name in transformers of a plain feed-forward's activation, or `usual`."""
        return NAMES[self.plain.activation] if self.plain else usual

    @property
    def gated(self) -> int:
        """Return the hidden width of a gated feed-forward; 8/3 widths if it is of another kind."""
        gated = isinstance(self.feedforward, GatedConfig)
        return self.feedforward.hidden_width if gated else 8 * -(-self.width // 3)

    def max_length(self, ends: Ends) -> int:
        """Return the length of the table of positions, or `ends.length` without one."""
        learned = isinstance(self.positions, LearnedConfig)
        return self.positions.num_positions if learned else ends.length  # type: ignore[attr-defined]


def ids(modality: ModalityConfig | HeadConfig | None) -> DiscreteConfig | None:
    """Return the settings of a modality of ids, extra ids included; None for others."""
    discrete = modality.id_settings if isinstance(modality, ModalityConfig) else None
    if not isinstance(discrete, DiscreteConfig):
        return None
    count = discrete.vocab_size + discrete.extra_ids
    return discrete.replace(vocab_size=count, extra_ids=0, z_loss_coef=0.0)


def only_ids(model: ModelConfig) -> DiscreteConfig | None:
    """Return the settings of a model's only modality if it is one of ids; else None."""
    first, *others = model.modalities.values()
    return None if others else ids(first)
