"""EuroBERT (Boizard et al. 2025): layers of Llama with full attention."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from broadbase.model.model import ModelConfig
from broadbase.weights.families import llama
from broadbase.weights.families.decoder import decoder, gated
from broadbase.weights.hf_fields import require
from broadbase.weights.mapping import ImportedModel
from broadbase.weights.sizes import Ends, only_ids

MODEL_TYPE = "eurobert"


def read(config: Mapping[str, Any], names: Collection[str]) -> ImportedModel:
    """Read a EuroBERT config; a mask_token_id out of range stands for none."""
    require(config, hidden_act=("silu",), pretraining_tp=(1,), mlp_bias=(False,))
    mask, bias = config["mask_token_id"], bool(config.get("attention_bias", False))
    discrete = {"mask_id": mask if mask < config["vocab_size"] else None}
    causal = decoder(config, names, gated(config), discrete=discrete, bias=bias, out_bias=bias)
    return replace(causal, pattern="full")


def write(model: ModelConfig, ends: Ends) -> dict[str, Any] | None:
    """Return the config.json of an encoder of a model's sizes, with or without a mask id."""
    config, discrete = llama.fields(model, ends), only_ids(model)
    if config is None or discrete is None:
        return None
    mask = config["vocab_size"] if discrete.mask_id is None else discrete.mask_id
    extra = {"mask_token_id": mask, "pad_token_id": None}
    return {"architectures": ["EuroBertForMaskedLM"], **config, **extra}
