"""The transformer tower. Legend: B batch, T places, D width."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from broadbase.core.config import Config
from broadbase.core.contracts import TowerConfig
from broadbase.core.errors import ConfigError
from broadbase.core.view import Hidden, Tokens
from broadbase.nn.block import Block, BlockConfig, Context
from broadbase.nn.cache import Cache
from broadbase.nn.norm import NormConfig, RMSNormConfig
from broadbase.nn.patterns import mask
from broadbase.nn.positions import PositionsConfig, RotaryConfig


class LayersConfig(Config):
    """`repeat` layers of one kind."""

    block: BlockConfig
    repeat: Annotated[int, Field(ge=1)]


class TransformerConfig(TowerConfig):
    """A stack of layers; a mixture of kinds is a list of them."""

    name: Literal["transformer"] = "transformer"
    layers: tuple[LayersConfig, ...]
    positions: PositionsConfig = RotaryConfig()
    input_norm: NormConfig | None = None  # after the embedding (BERT)
    final_norm: NormConfig | None = RMSNormConfig()

    def build(self) -> Transformer:
        return Transformer(self)


class Transformer(nn.Module):
    """Embedded places [B,T,D] in, hidden states [B,T,D] out."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.width = width = config.width
        attention = config.layers[0].block.attention
        self.positions = config.positions.build(width, attention.heads, attention.head_dim)
        self.input_norm = config.input_norm.build(width) if config.input_norm else nn.Identity()
        self.blocks = nn.ModuleList(
            layers.block.build(width) for layers in config.layers for _ in range(layers.repeat)
        )
        self.penalties = {
            name: scale
            for layers in config.layers
            for name, scale in layers.block.feedforward.penalties.items()
        }
        self.reads_context = any(layers.block.cross for layers in config.layers)
        self.final_norm = config.final_norm.build(width) if config.final_norm else nn.Identity()

    def forward(
        self,
        x_BTD: Tensor,
        tokens: Tokens,
        pattern: str,
        *,
        context: Hidden | None = None,
        cache: Cache | None = None,
        layers: bool = False,
    ) -> Hidden:
        """Run the stack; `layers` also keeps the stream after each block (for probes)."""
        if context is not None and not self.reads_context:
            raise ConfigError("a stream has a context, but no layer of its tower has `cross`")
        memory = context and Context(context.x, mask("full", tokens, context.tokens))
        x_BTD = self.input_norm(self.positions.embed(x_BTD, tokens))
        rotation = self.positions.rotation(tokens)
        keys = cache.append(tokens) if cache else tokens
        seen = mask(pattern, tokens, keys, self.positions.bias(tokens, keys))
        taps: list[Tensor] = []
        charges: dict[str, Tensor] = {}
        for i, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            x_BTD = block(x_BTD, seen, rotation, cache.layers[i] if cache else None, memory)
            for name, charge_B in block.charges().items():
                charges[name] = charges[name] + charge_B if name in charges else charge_B
            if layers:
                taps.append(x_BTD)
        return Hidden(self.final_norm(x_BTD), tokens, tuple(taps), charges)
