"""The transformer tower. Legend: B batch, T places, D width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from broadbase.core.config import Config
from broadbase.core.contracts import TowerConfig
from broadbase.core.errors import ConfigError
from broadbase.core.loss import AuxLosses, add_losses
from broadbase.core.view import Tokens, TowerOutput
from broadbase.nn.block import Block, BlockConfig
from broadbase.nn.cache import Cache
from broadbase.nn.conditioning import NoiseLevelConfig
from broadbase.nn.laws import SMALL, Initialised, Law, ResidualLinear
from broadbase.nn.layer import Context, LayerInputs
from broadbase.nn.norm import NormConfig, RMSNormConfig
from broadbase.nn.patterns import Mask, mask
from broadbase.nn.positions import Positions, PositionsConfig, RotaryConfig, Rotation


class LayersConfig(Config):
    """`repeat` layers of one kind."""

    block: BlockConfig
    repeat: Annotated[int, Field(ge=1, le=256)]


class TransformerConfig(TowerConfig):
    """A stack of layers; a mixture of kinds is a list of them."""

    name: Literal["transformer"] = "transformer"
    layers: Annotated[tuple[LayersConfig, ...], Field(min_length=1)]
    positions: PositionsConfig = RotaryConfig()
    input_norm: NormConfig | None = None  # after the embedding (BERT)
    registers: Annotated[int, Field(ge=0)] = 0  # learned places put first, and dropped at the end
    noise_level: NoiseLevelConfig | None = None
    """How the noise level of tokens becomes a condition of the layers; None: tokens have none."""
    final_norm: NormConfig | None = RMSNormConfig()

    @property
    def max_length(self) -> float:
        return self.positions.max_length

    def build(self) -> Transformer:
        return Transformer(self)


class Transformer(nn.Module, Initialised):
    """Embedded places [B,T,D] in, hidden states [B,T,D] out."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.width = width = config.width
        blocks = [layers.block for layers in config.layers for _ in range(layers.repeat)]
        self.positions = _positions(config.positions, blocks[0], width)
        self.input_norm = config.input_norm.build(width) if config.input_norm else nn.Identity()
        self.registers = (
            nn.Parameter(torch.zeros(config.registers, width)) if config.registers else None
        )
        self.blocks = nn.ModuleList(_stacked([block.build(width) for block in blocks]))
        sights = {(block.attention.span, block.positions): block for block in blocks}
        self.reaches = [reach for reach, _ in sights]
        self.own = nn.ModuleDict(
            {
                str(i): _positions(own, block, width)
                for i, ((_, own), block) in enumerate(sights.items())
                if own is not None
            }
        )
        self.sight = [list(sights).index((b.attention.span, b.positions)) for b in blocks]
        self.aux_loss_weights, self.shares = _weighed(
            [block.feedforward.aux_loss_weights for block in blocks]
        )
        self.reads_context = any(layers.block.cross for layers in config.layers)
        self.noise_level = config.noise_level.build(width) if config.noise_level else None
        self.reads_condition = any(layers.block.reads_condition for layers in config.layers)
        self.final_norm = config.final_norm.build(width) if config.final_norm else nn.Identity()

    def init_law(self, name: str) -> Law:
        """Start registers as embeddings."""
        return SMALL

    def forward(
        self,
        x_BTD: Tensor,
        tokens: Tokens,
        pattern: str,
        *,
        context: TowerOutput | None = None,
        condition: Tensor | None = None,
        cache: Cache | None = None,
        layers: bool = False,
    ) -> TowerOutput:
        """Run the stack; `layers` also keeps the stream after each block (for probes)."""
        if context is not None and not self.reads_context:
            raise ConfigError("a stream has a context, but no layer of its tower has `cross`")
        if cache is not None and self.registers is not None:
            raise ConfigError("a tower with registers reads whole documents: it has no cache")
        memory = None
        if context is not None:
            memory = Context(context.x, mask("full", tokens, context.tokens))
        x_BTD = self.input_norm(self.positions.embed(x_BTD, tokens))
        given, first = tokens, 0
        if self.registers is not None:
            x_BTD, tokens, first = *_join(self.registers, x_BTD, tokens), len(self.registers)
        condition = self._condition(condition, tokens, first)
        keys = cache.append(tokens) if cache else tokens
        real_BT = None if tokens.document is None else tokens.document >= 0
        inputs = [
            LayerInputs(
                *self._sight(i, pattern, tokens, keys),
                context=memory,
                condition=condition,
                real=real_BT,
            )
            for i in range(len(self.reaches))
        ]
        taps: list[Tensor] = []
        aux: AuxLosses = {}
        for i, block in enumerate(self.blocks):
            seen = inputs[self.sight[i]]
            x_BTD, losses = block(x_BTD, replace(seen, cache=cache.layers[i]) if cache else seen)
            aux = add_losses(aux, {k: self.shares[i][k] * v_B for k, v_B in losses.items()})
            if layers:
                taps.append(x_BTD[:, first:])
        return TowerOutput(self.final_norm(x_BTD[:, first:]), given, tuple(taps), aux)

    def _condition(self, condition: Tensor | None, tokens: Tokens, registers: int) -> Tensor | None:
        """Return what layers follow: the condition of the stream plus that of noise levels.

        Registers have the condition of the first token.
        """
        if condition is not None and condition.shape[1] > 1 and registers:
            first_BRD = condition[:, :1].expand(-1, registers, -1)
            condition = torch.cat([first_BRD, condition], dim=1)
        if tokens.noise_level is not None:
            if self.noise_level is None:
                raise ConfigError(
                    "the tokens have a noise level, but their tower has no `noise_level` to embed"
                    " it; set model.towers.NAME.noise_level.name=fourier"
                )
            level_BTD = self.noise_level(tokens.noise_level)
            condition = level_BTD if condition is None else condition + level_BTD
        if condition is not None and not self.reads_condition:
            raise ConfigError(
                "the stream has a condition, but no layer of its tower reads one; set the residual"
                " of its blocks to adaptive"
            )
        return condition

    def _sight(
        self, number: int, pattern: str, queries: Tokens, keys: Tokens
    ) -> tuple[Mask, Rotation | None]:
        """What the layers of one reach and one kind of positions see."""
        own = getattr(self.own, str(number), self.positions)
        assert isinstance(own, Positions)
        bias, reach = own.bias(queries, keys), self.reaches[number]
        return mask(pattern, queries, keys, bias, reach), own.rotation(queries)


def _stacked(blocks: list[Block]) -> list[Block]:
    """Blocks of one stream: what ends their branches learns how many of them there are."""
    branches = sum(block.branches for block in blocks)
    for module in (module for block in blocks for module in block.modules()):
        if isinstance(module, ResidualLinear):
            module.branches = branches
    return blocks


def _weighed(
    blocks: Sequence[Mapping[str, float]],
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """The largest coefficient of each penalty, and of each block the share of it that it has."""
    largest: dict[str, float] = {}
    for name, scale in (pair for weights in blocks for pair in weights.items()):
        largest[name] = max(scale, largest.get(name, 0.0))
    shares = [{k: v / largest[k] if largest[k] else 1.0 for k, v in b.items()} for b in blocks]
    return largest, shares


def _positions(config: PositionsConfig, block: BlockConfig, width: int) -> Positions:
    return config.build(width, block.attention.heads, block.attention.head_dim)


def _join(registers_RD: Tensor, x_BTD: Tensor, tokens: Tokens) -> tuple[Tensor, Tokens]:
    """Registers before the places (Darcet et al. 2024), for rows of one document each."""
    B, R = len(x_BTD), len(registers_RD)
    repeat = tokens.map(
        lambda known: torch.cat([known[:, :1].expand(-1, R, *known.shape[2:]), known], dim=1)
    )
    return torch.cat([registers_RD.expand(B, -1, -1), x_BTD], dim=1), repeat
