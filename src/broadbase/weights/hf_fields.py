"""What fields of a config.json mean, where several families share them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from broadbase.core.errors import ConfigError
from broadbase.modalities.tokens import TokensConfig
from broadbase.nn.attention import GroupedQueryConfig
from broadbase.nn.block import BlockConfig
from broadbase.nn.feedforward import Activation
from broadbase.nn.rotary import (
    LinearScaling,
    Llama3Scaling,
    RotaryConfig,
    RotaryScaling,
    YarnScaling,
)
from broadbase.nn.spaces.discrete import DiscreteConfig, NoHeadConfig
from broadbase.nn.tower import LayersConfig

LOCAL, GLOBAL = "sliding_attention", "full_attention"
ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "gelu_quick",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


def require(config: Mapping[str, Any], **allowed: Any) -> None:
    """Check that fields have values that are supported; ConfigError names one that has not."""
    for field, values in allowed.items():
        if field in config and config[field] not in values:
            raise ConfigError(
                f"config.json: {field}={config[field]!r} is not supported, only"
                f" {' or '.join(repr(v) for v in values)}"
            )


def activation(config: Mapping[str, Any], field: str) -> Activation:
    """Return the activation that a field names."""
    require(config, **{field: tuple(ACTIVATIONS)})
    return ACTIVATIONS[config[field]]


def multihead(width: int, heads: int, **settings: Any) -> GroupedQueryConfig:
    """Return attention with as many heads of keys as of queries, and with biases.

    `settings` override these, and set further fields.
    """
    usual = {"kv_heads": heads, "head_dim": width // heads, "bias": True, "out_bias": True}
    return GroupedQueryConfig(heads=heads, **{**usual, **settings})


def rotary(config: Mapping[str, Any], kind: str | None = None) -> RotaryConfig:
    """Return the rotary embedding, of layers of `kind` where these differ.

    transformers 5 has one field, rope_parameters; earlier versions have two.
    """
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    rope = rope.get(kind, rope) if kind else rope
    theta = rope.get("rope_theta") or config.get("rope_theta") or 10000.0
    return RotaryConfig(theta=theta, scaling=_scaling(rope, config))


def _scaling(rope: Mapping[str, Any], config: Mapping[str, Any]) -> RotaryScaling | None:
    match rope.get("rope_type") or rope.get("type") or "default":
        case "default":
            return None
        case "linear":
            return LinearScaling(factor=rope["factor"])
        case "llama3":
            return Llama3Scaling(
                factor=rope["factor"],
                low=rope["low_freq_factor"],
                high=rope["high_freq_factor"],
                original=rope["original_max_position_embeddings"],
            )
        case "yarn":
            require(rope, mscale=(None,), mscale_all_dim=(None,))
            original = rope.get("original_max_position_embeddings")
            return YarnScaling(
                factor=rope["factor"],
                original=original or config["max_position_embeddings"],
                fast=rope.get("beta_fast") or 32.0,
                slow=rope.get("beta_slow") or 1.0,
                truncate=rope.get("truncate", True),
                attention=rope.get("attention_factor"),
            )
        case kind:
            raise ConfigError(
                f"config.json: rope_type={kind!r} is not supported, only default, linear, llama3"
                " and yarn"
            )


def rope(positions: RotaryConfig) -> dict[str, Any]:
    """Return the rope_parameters of a rotary embedding, which `rotary` reads."""
    fields = {"rope_type": "default", "rope_theta": positions.theta}
    match positions.scaling:
        case LinearScaling(factor=factor):
            fields |= {"rope_type": "linear", "factor": factor}
        case Llama3Scaling() as s:
            fields |= {"rope_type": "llama3", "factor": s.factor, "low_freq_factor": s.low}
            fields |= {"high_freq_factor": s.high, "original_max_position_embeddings": s.original}
        case YarnScaling() as s:
            fields |= {"rope_type": "yarn", "factor": s.factor, "beta_fast": s.fast}
            fields |= {"beta_slow": s.slow, "original_max_position_embeddings": s.original}
            fields |= {"truncate": s.truncate, "attention_factor": s.attention}
    return fields


def layer_types(config: Mapping[str, Any], kinds: Sequence[str]) -> Sequence[str]:
    """Return LOCAL or GLOBAL for each layer: layer_types, or `kinds` for older files."""
    types = config.get("layer_types") or kinds
    require({"layer_types": set(types)}, layer_types=({LOCAL}, {GLOBAL}, {LOCAL, GLOBAL}))
    return types


def stack(blocks: Iterable[BlockConfig]) -> tuple[LayersConfig, ...]:
    """Return a sequence of blocks as layers, in which equal neighbours are one entry."""
    return tuple(
        LayersConfig(block=block, repeat=len(list(same))) for block, same in groupby(blocks)
    )


def tokens(config: Mapping[str, Any], discrete: DiscreteConfig) -> TokensConfig:
    """Return the modality of a decoder's text, with the ids of start and end.

    Without a start id, a packed document begins after the end of another, and a prompt has nothing
    before it.
    """
    start, end = config.get("bos_token_id"), first(config.get("eos_token_id"))
    return TokensConfig(
        discrete=discrete,
        start=next((i for i in (start, end) if i is not None), 0),
        end=end,
        before=() if start is None else None,
    )


def first(value: int | Sequence[int] | None) -> int | None:
    """Return an id, or the first of several; None if there is none."""
    ids = every(value)
    return ids[0] if ids else None


def every(value: int | Sequence[int] | None) -> tuple[int, ...]:
    """Return the ids of a field that has one, several or none; a negative id stands for none."""
    ids = value if isinstance(value, Sequence) else [] if value is None else [value]
    return tuple(i for i in ids if i >= 0)


def with_head(discrete: DiscreteConfig, names: Collection[str], sign: str) -> DiscreteConfig:
    """Return the settings without a head if no tensor's name contains `sign`."""
    if any(sign in name for name in names):
        return discrete
    update = {"tie_embeddings": True, "bias": False, "head": NoHeadConfig()}
    return discrete.replace(**update)
