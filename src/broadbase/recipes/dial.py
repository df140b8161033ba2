"""The one dial: depth fixes width, heads, learning rate, batch and horizon."""

from __future__ import annotations

from broadbase.core.contracts import TowerConfig
from broadbase.core.errors import ConfigError
from broadbase.nn.attention import GroupedQueryConfig
from broadbase.nn.block import BlockConfig
from broadbase.nn.feedforward import GatedConfig
from broadbase.nn.norm import NormConfig
from broadbase.nn.tower import LayersConfig, TransformerConfig
from broadbase.train.config import TrainConfig
from broadbase.train.optim import MuonConfig

HEAD = 32  # width of a head
TOKENS = 2560  # tokens per step at depth 4: small batches beat large models where minutes are short


def backbone(
    depth: int,
    qk_norm: NormConfig | None = None,
    input_norm: NormConfig | None = None,
    *,
    cross: bool = False,
) -> TransformerConfig:
    """Return a Llama (pre-norm, rotary, gated) of `depth` layers, 32 * depth wide.

    Deep and thin suits small models (Liu et al. 2024, MobileLLM, 2.2). Without `qk_norm` it can
    be exported as a Llama. An `input_norm` keeps small tied embeddings from drowning in the first
    block; its output starts as a part of the embedding. With `cross` it reads an encoder.
    """
    width = HEAD * depth
    hidden = 8 * -(-width // 3)  # 8/3 of the width: as many numbers as a plain layer of 4
    attention = GroupedQueryConfig(heads=depth, kv_heads=depth, head_dim=HEAD, qk_norm=qk_norm)
    block = BlockConfig(
        attention=attention,
        feedforward=GatedConfig(hidden_width=hidden),
        cross=attention if cross else None,
    )
    return TransformerConfig(
        width=width,
        layers=(LayersConfig(block=block, repeat=depth),),
        input_norm=input_norm,
    )


def encoder_decoder(depth: int) -> dict[str, TowerConfig]:
    """Build an encoder and a decoder that reads it, `depth` layers each (Vaswani et al. 2017)."""
    return {"encoder": backbone(depth), "decoder": backbone(depth, cross=True)}


def optim(depth: int, *, normed: bool = False) -> MuonConfig:
    """Return Muon with AdamW at 3e-3 for depth 4, falling with the width (Yang et al. 2022).

    Embeddings that are `normed` take a larger rate: their size says nothing.
    """
    return MuonConfig(lr=(8e-3 if normed else 3e-3) * 4 / depth)


def horizon(depth: int) -> TrainConfig:
    """Train 1,000 steps at depth 4; steps grow with the parameters of the layers, as tokens do."""
    return TrainConfig(steps=max(100, round(1000 * (depth / 4) ** 2)))


def rows(depth: int, length: int) -> int:
    """Return the rows of `length` tokens per step; a batch grows with the depth."""
    return max(4, round(TOKENS * depth / 4 / length))


def require_data(data: str | None, recipe: str) -> str:
    """Return the user's data; ConfigError where there is none."""
    if data is None:
        raise ConfigError(f"recipe {recipe!r} trains on your data: add --data PATH")
    return data
