"""Qwen3 (Yang et al. 2025): Llama with a norm of each head's queries and keys."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from broadbase.nn.norm import RMSNormConfig
from broadbase.weights.families import qwen2
from broadbase.weights.families.decoder import decoder, gated
from broadbase.weights.mapping import ImportedModel

MODEL_TYPE = "qwen3"


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """Read a Qwen3 config."""
    bias = bool(config.get("attention_bias", False))
    return decoder(
        config,
        names,
        gated(config),
        kinds=qwen2.kinds(config),
        bias=bias,
        out_bias=bias,
        qk_norm=RMSNormConfig(eps=config["rms_norm_eps"]),
    )
