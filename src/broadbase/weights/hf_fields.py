"""What the fields of a config.json mean: parts that several architectures share."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from broadbase.core.errors import ConfigError
from broadbase.modalities.tokens import TokensConfig
from broadbase.nn.attention import GroupedQueryConfig
from broadbase.nn.block import BlockConfig
from broadbase.nn.feedforward import Activation
from broadbase.nn.positions import (
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
    """Refuse a config whose field has an effect that we do not have: ConfigError names it."""
    for field, values in allowed.items():
        if field in config and config[field] not in values:
            raise ConfigError(
                f"config.json: {field}={config[field]!r} is not supported, only"
                f" {' or '.join(repr(v) for v in values)}"
            )


def activation(config: Mapping[str, Any], field: str) -> Activation:
    """The activation that a field names."""
    require(config, **{field: tuple(ACTIVATIONS)})
    return ACTIVATIONS[config[field]]


def multihead(width: int, heads: int, **settings: Any) -> GroupedQueryConfig:
    """Return attention with as many heads of keys as of queries, and with biases.

    `settings` override these, and set further fields.
    """
    usual = {"kv_heads": heads, "head_dim": width // heads, "bias": True, "out_bias": True}
    return GroupedQueryConfig(heads=heads, **{**usual, **settings})


def rotary(config: Mapping[str, Any], kind: str | None = None) -> RotaryConfig:
    """The rotary embedding; `kind` is of layers, where they differ.

    transformers 5 keeps all of it in rope_parameters, earlier ones in two fields.
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
    """The rope_parameters of a rotary embedding: what `rotary` reads."""
    known = {"rope_type": "default", "rope_theta": positions.theta}
    match positions.scaling:
        case LinearScaling(factor=factor):
            known |= {"rope_type": "linear", "factor": factor}
        case Llama3Scaling() as s:
            known |= {"rope_type": "llama3", "factor": s.factor, "low_freq_factor": s.low}
            known |= {"high_freq_factor": s.high, "original_max_position_embeddings": s.original}
        case YarnScaling() as s:
            known |= {"rope_type": "yarn", "factor": s.factor, "beta_fast": s.fast}
            known |= {"beta_slow": s.slow, "original_max_position_embeddings": s.original}
            known |= {"truncate": s.truncate, "attention_factor": s.attention}
    return known


def layer_types(config: Mapping[str, Any], kinds: Sequence[str]) -> Sequence[str]:
    """Of each layer LOCAL or GLOBAL: the config's word, or `kinds` in older files."""
    found = config.get("layer_types") or kinds
    require({"layer_types": set(found)}, layer_types=({LOCAL}, {GLOBAL}, {LOCAL, GLOBAL}))
    return found


def stack(blocks: Iterable[BlockConfig]) -> tuple[LayersConfig, ...]:
    """Layers one by one, equal neighbours counted together."""
    return tuple(
        LayersConfig(block=block, repeat=len(list(same))) for block, same in groupby(blocks)
    )


def tokens(config: Mapping[str, Any], discrete: DiscreteConfig) -> TokensConfig:
    """The text of a decoder: its ids for a document's two ends.

    Without an id for the start, a document begins after the end of another, and a text that is
    read has nothing before it.
    """
    start, end = config.get("bos_token_id"), first(config.get("eos_token_id"))
    return TokensConfig(
        discrete=discrete,
        start=next((i for i in (start, end) if i is not None), 0),
        end=end,
        before=() if start is None else None,
    )


def first(value: int | Sequence[int] | None) -> int | None:
    """An id, or the first of several."""
    known = every(value)
    return known[0] if known else None


def every(value: int | Sequence[int] | None) -> tuple[int, ...]:
    """Ids, of which a config may name one, several or none; a negative one stands for none."""
    found = value if isinstance(value, Sequence) else [] if value is None else [value]
    return tuple(i for i in found if i >= 0)


def with_head(discrete: DiscreteConfig, names: Collection[str], sign: str) -> DiscreteConfig:
    """A Space with its head, or without where no tensor's name has `sign` in it."""
    if any(sign in name for name in names):
        return discrete
    update = {"tie_embeddings": True, "bias": False, "head": NoHeadConfig()}
    return discrete.model_copy(update=update)
