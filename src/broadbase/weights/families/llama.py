"""Llama (Touvron et al. 2023; Llama 3)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from broadbase.model.model import ModelConfig
from broadbase.nn.norm import RMSNormConfig
from broadbase.nn.rotary import RotaryConfig
from broadbase.weights.families.decoder import decoder, gated
from broadbase.weights.hf_fields import require, rope
from broadbase.weights.mapping import ImportedModel
from broadbase.weights.sizes import Ends, Shape, only_ids

MODEL_TYPE = "llama"


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """Read a Llama config; also DeepSeek-Coder's."""
    require(config, hidden_act=("silu",), pretraining_tp=(1,))
    bias = bool(config.get("attention_bias", False))
    return decoder(config, names, gated(config), bias=bias, out_bias=bias)


def write(model: ModelConfig, ends: Ends) -> dict[str, Any] | None:
    """Return the config.json of a text decoder of a model's sizes."""
    config = fields(model, ends)
    return config and {"architectures": ["LlamaForCausalLM"], **config}


def fields(model: ModelConfig, ends: Ends) -> dict[str, Any] | None:
    """Return the fields of a model's tower and ids; None unless it has one tower of text."""
    shape, discrete = Shape.of(model, "main"), only_ids(model)
    if shape is None or discrete is None:
        return None
    positions = shape.positions if isinstance(shape.positions, RotaryConfig) else RotaryConfig()
    return {
        "hidden_size": shape.width,
        "intermediate_size": shape.gated,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.attention.heads,
        "num_key_value_heads": shape.attention.kv_heads,
        "head_dim": shape.attention.head_dim,
        "attention_bias": shape.attention.bias,
        "rms_norm_eps": shape.eps(RMSNormConfig, 1e-5),
        "rope_theta": positions.theta,
        "rope_parameters": rope(positions),
        "hidden_act": "silu",
        "vocab_size": discrete.vocab_size,
        "tie_word_embeddings": discrete.tie_embeddings,
        "max_position_embeddings": 32768,
        "bos_token_id": ends.start,
        "eos_token_id": ends.end,
    }
