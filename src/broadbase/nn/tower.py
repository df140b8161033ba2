"""The transformer tower. Legend: B batch, T tokens, R registers, D width."""

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
from broadbase.nn.positions import Positions, PositionsConfig, Rotation
from broadbase.nn.rotary import RotaryConfig


class LayersConfig(Config):
    """Several layers of one kind."""

    block: BlockConfig
    """The layer."""
    repeat: Annotated[int, Field(ge=1, le=256)]
    """How many such layers follow one another, each with its own parameters."""


class TransformerConfig(TowerConfig):
    """A stack of layers, which may be of several kinds."""

    name: Literal["transformer"] = "transformer"
    layers: Annotated[tuple[LayersConfig, ...], Field(min_length=1)]
    """The layers in order, those of one kind in a row together."""
    positions: PositionsConfig = RotaryConfig()
    """How the layers know positions, unless a layer has its own."""
    input_norm: NormConfig | None = None
    """The norm after the embedding (BERT); null: none."""
    registers: Annotated[int, Field(ge=0)] = 0
    """The learned tokens put first and dropped at the end (Darcet et al. 2024)."""
    noise_level: NoiseLevelConfig | None = None
    """How the noise level of tokens becomes a condition of the layers; null: tokens have none."""
    final_norm: NormConfig | None = RMSNormConfig()
    """The norm after the last layer; null: none, as where the layers are post-norm."""

    @property
    def max_length(self) -> float:
        """Return the most tokens of a row, by the positions."""
        return self.positions.max_length

    def build(self) -> Transformer:
        """Build the tower."""
        return Transformer(self)


class Transformer(nn.Module, Initialised):
    """Embedded tokens [B,T,D] in, hidden states [B,T,D] out."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.width = width = config.width
        blocks = [layers.block for layers in config.layers for _ in range(layers.repeat)]
        self.positions = _positions(config.positions, blocks[0], width)
        self.input_norm = config.input_norm.build(width) if config.input_norm else nn.Identity()
        self.registers = (
            nn.Parameter(torch.zeros(config.registers, width)) if config.registers else None
        )
        self.blocks = nn.ModuleList(_with_branches([block.build(width) for block in blocks]))
        # layers of one span and of the same positions form a group: they have one mask and rotation
        groups = {(block.attention.span, block.positions): block for block in blocks}
        self.spans = [span for span, _ in groups]
        self.own = nn.ModuleDict(
            {
                str(i): _positions(own, block, width)
                for i, ((_, own), block) in enumerate(groups.items())
                if own is not None
            }
        )
        self.group = [list(groups).index((b.attention.span, b.positions)) for b in blocks]
        self.aux_loss_weights, self.aux_factors = _aux_loss_weights(
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
        """Run the layers over x [B,T,D].

        `layers` keeps the stream after each of them too. `cache` has the tokens before those of x.
        """
        if context is not None and not self.reads_context:
            raise ConfigError("a stream has a context, but no layer of its tower has `cross`")
        if cache is not None and self.registers is not None:
            raise ConfigError("a tower with registers reads complete documents and has no cache")
        attended = None
        if context is not None:
            attended = Context(context.x, mask("full", tokens, context.tokens))
        x_BTD = self.input_norm(self.positions.embed(x_BTD, tokens))
        stream_tokens, first = tokens, 0
        if self.registers is not None:
            x_BTD, tokens, first = *_join(self.registers, x_BTD, tokens), len(self.registers)
        condition = self._condition(condition, tokens, first)
        keys = cache.append(tokens) if cache else tokens
        real_BT = None if tokens.document is None else tokens.document >= 0
        inputs = [
            LayerInputs(
                *self._mask_and_rotation(i, pattern, tokens, keys),
                context=attended,
                condition=condition,
                real=real_BT,
            )
            for i in range(len(self.spans))
        ]
        taps: list[Tensor] = []
        aux: AuxLosses = {}
        for i, block in enumerate(self.blocks):
            given = inputs[self.group[i]]
            x_BTD, losses = block(x_BTD, replace(given, cache=cache.layers[i]) if cache else given)
            aux = add_losses(aux, {k: self.aux_factors[i][k] * v_B for k, v_B in losses.items()})
            if layers:
                taps.append(x_BTD[:, first:])
        x_BTD = self.final_norm(x_BTD[:, first:])
        return TowerOutput(x_BTD, stream_tokens, tuple(taps), aux)

    def _condition(self, condition: Tensor | None, tokens: Tokens, registers: int) -> Tensor | None:
        """Return the condition of the layers: that of the stream plus that of noise levels.

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

    def _mask_and_rotation(
        self, group: int, pattern: str, queries: Tokens, keys: Tokens
    ) -> tuple[Mask, Rotation | None]:
        """Return what the layers of a group see, and what turns their queries and keys."""
        positions = getattr(self.own, str(group), self.positions)
        assert isinstance(positions, Positions)
        bias = positions.bias(queries, keys)
        return mask(pattern, queries, keys, bias, self.spans[group]), positions.rotation(queries)


def _with_branches(blocks: list[Block]) -> list[Block]:
    """Write the number of branches of all blocks into the layers that end a branch."""
    branches = sum(block.branches for block in blocks)
    for module in (module for block in blocks for module in block.modules()):
        if isinstance(module, ResidualLinear):
            module.branches = branches
    return blocks


def _aux_loss_weights(
    blocks: Sequence[Mapping[str, float]],
) -> tuple[dict[str, float], list[dict[str, float]]]:
    """Return the largest coefficient of each auxiliary loss, and each block's relative to it."""
    largest: dict[str, float] = {}
    for name, scale in (pair for weights in blocks for pair in weights.items()):
        largest[name] = max(scale, largest.get(name, 0.0))
    factors = [{k: v / largest[k] if largest[k] else 1.0 for k, v in b.items()} for b in blocks]
    return largest, factors


def _positions(config: PositionsConfig, block: BlockConfig, width: int) -> Positions:
    return config.build(width, block.attention.heads, block.attention.head_dim)


def _join(registers_RD: Tensor, x_BTD: Tensor, tokens: Tokens) -> tuple[Tensor, Tokens]:
    """Put registers [R,D] before the tokens of rows of one document each (Darcet et al. 2024)."""
    B, R = len(x_BTD), len(registers_RD)
    repeat = tokens.map(
        lambda field: torch.cat([field[:, :1].expand(-1, R, *field.shape[2:]), field], dim=1)
    )
    return torch.cat([registers_RD.expand(B, -1, -1), x_BTD], dim=1), repeat
