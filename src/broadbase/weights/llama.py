"""Llama (Touvron et al. 2023; Llama 3): in, and out for text decoders trained here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from broadbase.model.model import ModelConfig
from broadbase.nn.attention import GroupedQueryConfig
from broadbase.nn.norm import RMSNormConfig
from broadbase.nn.positions import RotaryConfig
from broadbase.nn.spaces import DiscreteConfig
from broadbase.nn.tower import TransformerConfig
from broadbase.weights.architecture import Published
from broadbase.weights.decoder import decoder, gated
from broadbase.weights.fields import only, rope

MODEL_TYPE = "llama"


def read(config: Mapping[str, Any], names: Collection[str]) -> Published:
    """A Llama config in our terms; also DeepSeek-Coder's."""
    only(config, hidden_act=("silu",), pretraining_tp=(1,))
    bias = bool(config.get("attention_bias", False))
    return decoder(config, names, gated(config), bias=bias, out_bias=bias)


def write(model: ModelConfig, start: int, end: int | None) -> dict[str, Any] | None:
    """The config.json of a text decoder trained here; None where it is not a Llama."""
    config = fields(model, start, end)
    if config is None:
        return None
    config |= {"model_type": MODEL_TYPE, "architectures": ["LlamaForCausalLM"]}
    return config if same(read(config, ("lm_head.weight",)).config, model) else None


def fields(model: ModelConfig, start: int, end: int | None) -> dict[str, Any] | None:
    """What a config.json says of a tower whose first layer could be Llama's; None of others."""
    if len(model.modalities) > 1 or list(model.towers) != ["main"]:
        return None
    tower = model.towers["main"]
    discrete = getattr(next(iter(model.modalities.values())), "discrete", None)
    if not isinstance(tower, TransformerConfig) or not isinstance(discrete, DiscreteConfig):
        return None
    block, positions, norm = tower.layers[0].block, tower.positions, tower.final_norm
    attention = block.attention
    if not (
        isinstance(attention, GroupedQueryConfig)
        and isinstance(positions, RotaryConfig)
        and isinstance(norm, RMSNormConfig)
    ):
        return None
    return {
        "hidden_size": tower.width,
        "intermediate_size": block.feedforward.hidden,
        "num_hidden_layers": tower.layers[0].repeat,
        "num_attention_heads": attention.heads,
        "num_key_value_heads": attention.kv_heads,
        "head_dim": attention.head_dim,
        "attention_bias": attention.bias,
        "rms_norm_eps": norm.eps,
        "rope_theta": positions.theta,
        "rope_parameters": rope(positions),
        "hidden_act": "silu",
        "vocab_size": discrete.vocabulary + discrete.controls,
        "tie_word_embeddings": discrete.tied,
        "max_position_embeddings": 32768,
        "bos_token_id": start,
        "eos_token_id": end,
        "dtype": "float32",
    }


def same(read: ModelConfig, model: ModelConfig) -> bool:
    """Whether what others would read is what there is, training losses aside."""
    theirs, discrete = (
        getattr(next(iter(each.modalities.values())), "discrete", None) for each in (read, model)
    )
    assert isinstance(discrete, DiscreteConfig)
    ids = discrete.vocabulary + discrete.controls
    ours = discrete.model_copy(update={"vocabulary": ids, "controls": 0, "z": 0.0})
    return read.towers["main"] == model.towers["main"] and theirs == ours
